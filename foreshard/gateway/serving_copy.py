"""The pipeline's copy of its serving table in memory: data and holdings change together for every reader.

Each held shard is one DuckDB table. A refresh replaces the tables of the shards whose files changed and the holdings in
one transaction; a query reads both in one transaction of its own, so it never sees one without the other.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from foreshard.gateway import holdings
from foreshard.gateway.query import Query
from foreshard.transition.holdings import Holding

_COLUMNS = ("entity_id", "service_id", "operation_id", "hour", "quantity", "events")
_EMPTY = (
    "(entity_id VARCHAR, service_id VARCHAR, operation_id VARCHAR, hour TIMESTAMPTZ, quantity DECIMAL(28, 6), events BIGINT)"
)
_PERIOD = {"hour": "hour", "day": "date_trunc('day', hour)", "total": "$start::TIMESTAMPTZ"}

Row = tuple[datetime, Any, int]  # start of the period (UTC), quantity (Decimal), events


class NotMine(Exception):
    """The shard, or this part of its time, is not held here."""


class Behind(Exception):
    """The shard is held at `applied_version`, which is older than asked for."""

    def __init__(self, applied_version: int) -> None:
        super().__init__(applied_version)
        self.applied_version = applied_version


class ServingCopy:
    """Readers call `usage` from any thread; one thread calls `refresh`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._database = duckdb.connect(":memory:")
        self._database.execute("SET TimeZone = 'UTC'")
        self._database.execute("CREATE TABLE holding (shard_id INTEGER PRIMARY KEY, applied_version BIGINT, covers_from DATE)")
        self._lock = threading.Lock()
        self._loaded: tuple[str, int] | None = None  # the table's id and version
        self._files: dict[int, frozenset[tuple[object, ...]]] = {}
        self._holdings: dict[int, Holding] = {}
        self.is_known = False  # the table was loaded, or is known not to exist

    @property
    def version(self) -> int:
        """Version of the serving table, -1 if there is none."""
        return self._loaded[1] if self._loaded else -1

    @property
    def applied_versions(self) -> dict[int, int]:
        return {shard: holding.applied_version for shard, holding in self._holdings.items()}

    def refresh(self) -> int:
        """Follows the serving table; returns how many shards were read anew. A failure leaves what is held as it was."""
        try:
            newest = DeltaTable(self._uri)
        except TableNotFoundError:
            self._replace(None, {}, {}, set(), None)
            self.is_known = True
            return 0
        seen = (newest.metadata().id, newest.version())
        if seen == self._loaded:
            self.is_known = True
            return 0
        table = DeltaTable(self._uri, version=newest.version())
        held = holdings.read(table)
        files = {shard: found for shard, found in _files_by_shard(table).items() if shard in held}
        is_same_table = self._loaded is not None and self._loaded[0] == seen[0]
        before = self._files if is_same_table else {}
        unread = set(held) if not is_same_table else set(held) - set(self._holdings)
        changed = (
            unread
            | {shard for shard, found in files.items() if before.get(shard) != found}
            | (set(before) - set(files)) & set(held)
        )
        self._replace(seen, held, files, changed, table)
        self.is_known = True
        return len(changed)

    def usage(self, shard_id: int, query: Query, granularity: str, minimum_version: int | None) -> tuple[list[Row], int]:
        """The rows by period, oldest first, and the version they are at; raises NotMine or Behind, never answers short."""
        with self._reading() as cursor:
            held = cursor.execute("SELECT applied_version, covers_from FROM holding WHERE shard_id = ?", [shard_id]).fetchone()
            if held is None or (held[1] is not None and query.range_start < _midnight(held[1])):
                raise NotMine
            applied_version = int(held[0])
            if minimum_version is not None and applied_version < minimum_version:
                raise Behind(applied_version)
            statement = f"""
                SELECT {_PERIOD[granularity]} AS start, sum(quantity), sum(events)::BIGINT
                FROM {_table(shard_id)}
                WHERE entity_id = $entity AND service_id = $service AND operation_id = $operation
                    AND hour >= $start AND hour < $end
                GROUP BY ALL HAVING count(*) > 0 ORDER BY start"""
            parameters = {
                "entity": query.entity_id,
                "service": query.service_id,
                "operation": query.operation_id,
                "start": query.range_start,
                "end": query.range_end,
            }
            rows = cursor.execute(statement, parameters).fetchall()
            return [(start.astimezone(UTC), quantity, events) for start, quantity, events in rows], applied_version

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._database.cursor()
        try:
            cursor.execute("BEGIN")
            yield cursor
            cursor.execute("COMMIT")
        finally:
            cursor.close()  # rolls back what is not committed

    def _replace(
        self,
        seen: tuple[str, int] | None,
        held: dict[int, Holding],
        files: dict[int, frozenset[tuple[object, ...]]],
        changed: set[int],
        table: DeltaTable | None,
    ) -> None:
        if seen is None and self._loaded is None:
            return
        with self._lock:
            cursor = self._database.cursor()
            try:
                cursor.execute("BEGIN")
                if table is not None and changed:
                    _load(cursor, table, sorted(changed), set(files))
                for shard in set(self._holdings) - set(held):
                    cursor.execute(f"DROP TABLE IF EXISTS {_table(shard)}")
                cursor.execute("DELETE FROM holding")
                for shard, holding in held.items():
                    cursor.execute(
                        "INSERT INTO holding VALUES (?, ?, ?)", [shard, holding.applied_version, holding.covers_from]
                    )
                cursor.execute("COMMIT")
            finally:
                cursor.close()
            self._loaded, self._files, self._holdings = seen, files, held


def follow(
    copy: ServingCopy,
    stop: threading.Event,
    poll_seconds: float,
    report: Callable[[str], None],
    changed: Callable[[], None] = lambda: None,
) -> None:
    """Refreshes until stopped; a failure is reported once, the copy is kept, and the next turn tries again.

    `changed` is called when other shards are held than before, or at other versions.
    """
    failing = ""
    known: dict[int, int] | None = None
    while True:
        try:
            copy.refresh()
            failing = ""
            if copy.applied_versions != known:
                known = copy.applied_versions
                changed()
        except Exception as error:  # whatever the store or the format raises: a pipeline outlives it and says so
            if str(error) != failing:
                failing = str(error)
                report(f"serving table cannot be read, what is held is kept: {failing.splitlines()[0] if failing else error!r}")
        if stop.wait(poll_seconds):
            return


def _load(cursor: duckdb.DuckDBPyConnection, table: DeltaTable, shards: list[int], with_files: set[int]) -> None:
    for shard in shards:
        cursor.execute(f"CREATE OR REPLACE TABLE {_table(shard)} {_EMPTY}")
    wanted = [shard for shard in shards if shard in with_files]
    if not wanted:
        return
    predicate = f"shard_id IN ({', '.join(map(str, wanted))})"
    reader = pa.RecordBatchReader.from_stream(table.scan(columns=[*_COLUMNS, "shard_id"], predicate=predicate))
    ordered = cursor.from_arrow(reader).order("shard_id, entity_id, service_id, operation_id, hour").to_arrow_table()
    numbers = ordered.column("shard_id").to_numpy()
    begins, ends = numbers.searchsorted(wanted, "left"), numbers.searchsorted(wanted, "right")
    for shard, begin, end in zip(wanted, begins, ends, strict=True):
        cursor.register("rows_of_shard", ordered.slice(begin, end - begin))
        cursor.execute(f"INSERT INTO {_table(shard)} SELECT {', '.join(_COLUMNS)} FROM rows_of_shard")
        cursor.unregister("rows_of_shard")


def _files_by_shard(table: DeltaTable) -> dict[int, frozenset[tuple[object, ...]]]:
    """Shard → what identifies its files: path, size, and the rows that a deletion vector leaves out."""
    actions = pa.table(table.get_add_actions(flatten=True))
    if not actions.num_rows:
        return {}
    deleted: dict[str, int] = {}
    if "deletionVectors" in (table.protocol().reader_features or ()):
        vectors = pa.RecordBatchReader.from_stream(table.deletion_vectors()).read_all().to_pylist()
        deleted = {row["filepath"].rsplit("/", 1)[-1]: hash(tuple(row["selection_vector"])) for row in vectors}
    found: dict[int, set[tuple[object, ...]]] = defaultdict(set)
    columns = (actions.column(name).to_pylist() for name in ("path", "size_bytes", "partition.shard_id"))
    for path, size, shard in zip(*columns, strict=True):
        found[int(shard)].add((path, size, deleted.get(path.rsplit("/", 1)[-1])))
    return {shard: frozenset(files) for shard, files in found.items()}


def _table(shard_id: int) -> str:
    return f"shard_{int(shard_id)}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
