"""Source and copies side by side in a database of its own: the figures of their segments, and the rows by which they differ.

Both are read in streams; what is kept is a line a segment. That takes a tenth of the time of Spark's jobs for the same sums.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import TracebackType

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from foreshard.hashing import entity_slot
from foreshard.lake import log
from foreshard.settings import Settings
from foreshard.transition.copy import own_shards
from foreshard.transition.holdings import KEY, contents
from foreshard.transition.reading import stream

Coverage = Mapping[str, Mapping[int, date | None]]  # node → shard → first covered day
Segment = tuple[str, int, date]  # node, shard, day
# Those of usage_hourly, which Spark alone could tell.
COLUMNS = ("entity_id", "service_id", "operation_id", "hour", "slot", "quantity", "events", "day")
_ROW = ", ".join(COLUMNS)
# Xor and sum of the rows' hashes do not depend on the rows' order. Sums have 128 bits, which do not overflow.
_FIGURES = "count(*) AS rows, sum(quantity) AS quantity, sum(events) AS events, bit_xor(line) AS mixed, sum(line) AS total"
_ADDED = "sum(rows) AS rows, sum(quantity) AS quantity, sum(events) AS events, bit_xor(mixed) AS mixed, sum(total) AS total"
_DIFFERS = " OR ".join(f"s.{name} IS DISTINCT FROM c.{name}" for name in ("rows", "quantity", "events", "mixed", "total"))
_DIFFERENCES = f"""
    SELECT node_id, shard_id, day, side, entity_id, service_id, operation_id, make_timestamp(epoch_us(hour))::VARCHAR, quantity,
           events
    FROM (SELECT node_id, shard_id, {_ROW}, sum(side) AS side FROM sides GROUP BY ALL HAVING sum(side) <> 0)
    QUALIFY row_number() OVER (
        PARTITION BY node_id, shard_id, day ORDER BY entity_id, service_id, operation_id, hour, side DESC) <= 3
    ORDER BY node_id, shard_id, day, entity_id, service_id, operation_id, hour, side DESC
"""


@dataclass(frozen=True, slots=True)
class DifferingSegment:
    """Rows of a segment on both sides, whose figures are not the same; `day` in days since 1970, None for rows without one."""

    node_id: str
    shard_id: int
    day: int | None
    source_rows: int
    copied_rows: int


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that only one side has, or has more often: `side` is source or copy.

    `hour` is UTC, as text: damage can make times that Python cannot tell.
    """

    side: str
    entity_id: str
    service_id: str
    operation_id: str
    hour: str
    quantity: Decimal
    events: int

    def __str__(self) -> str:
        key = f"{self.entity_id}/{self.service_id}/{self.operation_id} {self.hour}Z"
        return f"only in the {self.side}: {key} quantity {self.quantity}, events {self.events}"


class Comparison:
    """The copies (node → shard → first covered day) beside the source's loaded version; a context manager.

    Entering it reads both once: O(rows) time, O(segments) memory; it raises one of reading.ERRORS if a file cannot be read.
    Rows of a copy in the making beside a hot replica are no part of that yet. `isolated`: entity → its own shard; a shard that
    is neither one of those nor a slot raises ForeshardError.
    """

    def __init__(self, settings: Settings, source: DeltaTable, coverage: Coverage, isolated: Mapping[str, int]) -> None:
        self._slots, self._bits, self._source = settings.slots, settings.slot_bits, source
        self._coverage = {node_id: dict(shards) for node_id, shards in coverage.items() if shards}
        tables = {node_id: log.opened(settings.table(f"serving/{node_id}")) for node_id in self._coverage}
        self._copies = {node_id: table for node_id, table in tables.items() if table is not None}
        self._own = own_shards(settings, {shard for shards in coverage.values() for shard in shards}, isolated)

    def __enter__(self) -> Comparison:
        self._database = duckdb.connect(":memory:")
        try:
            self._load()
        except BaseException:
            self._database.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._database.close()

    def differing(self) -> list[DifferingSegment]:
        """The segments whose figures differ or that one side lacks, by node, shard and day."""
        found = self._database.sql(f"""
            SELECT node_id, shard_id, day, coalesce(s.rows, 0)::BIGINT, coalesce(c.rows, 0)::BIGINT
            FROM (SELECT node_id, expected.* FROM expected JOIN coverage USING (shard_id)
                  WHERE first_day IS NULL OR day >= first_day) AS s
            FULL JOIN copied AS c USING (node_id, shard_id, day)
            WHERE {_DIFFERS}
            ORDER BY node_id, shard_id, day
        """).to_arrow_table()
        # As numbers: damage can make days that Python has no dates for.
        columns = [column.cast(pa.int32()) if number == 2 else column for number, column in enumerate(found.columns)]
        return [DifferingSegment(*row) for row in zip(*(column.to_pylist() for column in columns), strict=True)]

    def copied_rows(self) -> dict[tuple[str, int], int]:
        """Rows by node and shard, of the copies that have any."""
        found = self._database.sql("SELECT node_id, shard_id, sum(rows)::BIGINT FROM copied GROUP BY ALL").fetchall()
        return {(node_id, shard): rows for node_id, shard, rows in found}

    def differing_rows(self, segments: Sequence[Segment]) -> dict[Segment, tuple[RowDifference, ...]]:
        """Up to three rows of each of these segments that differ, in the order of their keys. Reads those days again."""
        self._given("wanted", segments, [("node_id", pa.string()), ("shard_id", pa.int32()), ("day", pa.date32())])
        days = f"day IN ({', '.join(sorted({_quoted(day) for _, _, day in segments}))})"
        self._read(self._source, f"{self._slots_of({shard for _, shard, _ in segments})} AND {days}")
        self._database.execute(f"""
            CREATE OR REPLACE TEMP TABLE sides AS SELECT wanted.node_id, wanted.shard_id, {_ROW}, 1 AS side
            FROM rows_read LEFT JOIN isolated USING (entity_id) JOIN wanted USING (day)
            WHERE wanted.shard_id IN (slot, own)
        """)
        for node_id in sorted({node_id for node_id, _, _ in segments} & self._copies.keys()):
            self._read(self._copies[node_id], f"shard_id IN ({_listed(s for n, s, _ in segments if n == node_id)}) AND {days}")
            self._database.execute(
                f"INSERT INTO sides SELECT node_id, shard_id, {_ROW}, -1 FROM rows_read JOIN wanted USING (shard_id, day) "
                "WHERE node_id = $node_id",
                {"node_id": node_id},
            )
        found: dict[Segment, list[RowDifference]] = defaultdict(list)
        for node_id, shard_id, day, side, *row in self._database.sql(_DIFFERENCES).fetchall():
            found[node_id, shard_id, day].append(RowDifference("source" if side > 0 else "copy", *row))
        return {segment: tuple(rows) for segment, rows in found.items()}

    def _load(self) -> None:
        """Makes the tables `expected` (shard, day, figures) and `copied` (the same by node)."""
        held = [(node_id, shard, day) for node_id, shards in self._coverage.items() for shard, day in shards.items()]
        self._given("coverage", held, [("node_id", pa.string()), ("shard_id", pa.int32()), ("first_day", pa.date32())])
        self._given("isolated", list(self._own.items()), [("entity_id", pa.string()), ("own", pa.int32())])
        since = _since([day for _, _, day in held])
        self._read(self._source, self._slots_of({shard for _, shard, _ in held}) + (f" AND day >= {since}" if since else ""))
        # By slot and own shard: an isolated entity's rows count for both.
        self._database.execute(f"""
            CREATE TEMP TABLE parts AS SELECT slot, own, day, {_FIGURES}
            FROM (SELECT *, hash({_ROW}) AS line FROM rows_read LEFT JOIN isolated USING (entity_id)) GROUP BY ALL
        """)
        self._database.execute(f"""
            CREATE TEMP TABLE expected AS SELECT shard_id, day, {_ADDED}
            FROM (SELECT slot AS shard_id, * FROM parts UNION ALL SELECT own, * FROM parts WHERE own IS NOT NULL)
            GROUP BY ALL
        """)
        self._database.execute("CREATE TEMP TABLE copied AS SELECT '' AS node_id, * FROM expected LIMIT 0")
        for node_id, table in sorted(self._copies.items()):
            self._read(table, self._copy_of(node_id))
            self._database.execute(
                f"INSERT INTO copied SELECT $node_id, shard_id, day, {_FIGURES} "
                f"FROM (SELECT *, hash({_ROW}) AS line FROM rows_read) GROUP BY ALL",
                {"node_id": node_id},
            )

    def _slots_of(self, shards: set[int]) -> str:
        """Those of the source's rows that these shards are made of, and more if there are isolated entities among them."""
        entities = (entity_slot(entity, self._bits) for entity, own in self._own.items() if own in shards)
        return f"slot IN ({_listed({*(shard for shard in shards if shard < self._slots), *entities})})"

    def _copy_of(self, node_id: str) -> str:
        """The rows of this node's copies, without those of a copy in the making beside them."""
        shards, said = self._coverage[node_id], contents(log.newest_commit(self._copies[node_id], KEY))
        beside = sorted({**said.unfinished, **said.widened}.keys() & {shard for shard, day in shards.items() if day})
        whole = [f"(shard_id <> {shard} OR day >= {_quoted(shards[shard])})" for shard in beside]
        return " AND ".join([f"shard_id IN ({_listed(shards)})", *whole])

    def _read(self, table: DeltaTable, predicate: str) -> None:
        """Lets `rows_read` be these rows, once."""
        columns = COLUMNS if table is self._source else (*COLUMNS, "shard_id")
        self._database.register("rows_read", stream(table, columns, predicate))

    def _given(self, name: str, rows: Sequence[tuple[object, ...]], columns: Sequence[tuple[str, pa.DataType]]) -> None:
        """A table of these rows."""
        made = pa.table({column: pa.array([row[n] for row in rows], kind) for n, (column, kind) in enumerate(columns)})
        self._database.register(name, made)


def _since(days: Sequence[date | None]) -> str:
    """The first day that any copy covers, as SQL; empty if one covers all."""
    known = [day for day in days if day]
    return _quoted(min(known)) if known and len(known) == len(days) else ""


def _quoted(day: date | None) -> str:
    return f"'{day}'"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(numbers))))
