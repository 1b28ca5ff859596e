"""The demo's landing files: real departures as usage records, drawn lookups as query records, hour by hour as a producer would.

What an hour's files hold depends on the seed and on the layout, nodes and hot evenings given, never on the range asked for: the
history can be written first and the last hours one by one later, and the result is the same as in one call.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foreshard.demo.corruption import DAMAGES, Record, damaged
from foreshard.demo.departures import OPERATIONS, Departures, read_departures
from foreshard.demo.lookups import SEATS_PER_LOOKUP, LookupDraw, QueryHour, expected_lookups, hours_between, thanksgiving_spell
from foreshard.hashing import entity_slot
from foreshard.model import Layout, Node

START = datetime(2013, 10, 28, tzinfo=UTC)
END = datetime(2013, 12, 2, tzinfo=UTC)
HOT_EVENINGS = (date(2013, 11, 27),)  # Thanksgiving's eve
HOT_PER_HOUR = 800.0
LATE_SHARE = 0.004  # of the departures, landing one to three hours after they happened
_CLASSES = ("interactive", "interactive", "report")  # per age class
_HOUR = np.timedelta64(1, "h")


@dataclass(frozen=True)
class LandingSummary:
    """What was written. `usage_rows` are departures that count once; bad and repeated rows come on top of them."""

    usage_rows: int
    late_rows: int  # of the usage rows, landed after the hour in which they happened
    median_seats_rows: int  # of the usage rows, with a median for the aircraft's unknown seats
    repeated_rows: int  # the same file landed twice
    bad_rows: int
    bad_rows_by_kind: dict[str, int]
    query_rows: int
    hot_query_rows: int
    files: int
    bytes: int
    hot_entity: str
    hot_hours: tuple[datetime, ...]  # hours in which it is hot, within the range written


def pipelines(peak_load: float) -> tuple[Node, ...]:
    """Five pipelines of unequal capacity; `peak_load` and capacities in requests per second.

    Together they run at 73 % of their capacity at the peak: a good layout fits a target utilisation of 0.8 with room for the
    forecast's spread, while plain hashing, which is uneven over 32 shards, drives one of them over its capacity.
    """
    parts = {"pipeline-a": 1, "pipeline-b": 2, "pipeline-c": 3, "pipeline-d": 2, "pipeline-e": 1}
    unit = float(peak_load) / 0.73 / sum(parts.values())
    return tuple(Node(name, round(unit * part, 4)) for name, part in parts.items())


def expected_load(
    start: datetime, end: datetime, slot_bits: int, seats_per_lookup: float = SEATS_PER_LOOKUP
) -> npt.NDArray[np.float64]:
    """Expected requests per second of every slot without the hot spell, shape (hours, slots). No draw is involved."""
    departures = read_departures()
    entities, inverse = np.unique(departures.entity, return_inverse=True)
    slot = np.array([entity_slot(str(e), slot_bits) for e in entities])[inverse]
    load = []
    for hour in hours_between(start, end):
        rows, expected = expected_lookups(departures, hour, seats_per_lookup)
        load.append(np.bincount(slot[rows], expected, 1 << slot_bits) / 3600.0)
    return np.array(load)


def write_landing(
    landing: Path,
    start: datetime,
    end: datetime,
    layout: Layout,
    nodes: Sequence[Node],
    slot_bits: int,
    seed: int = 2013,
    bad_rows: int = 12,
    hot_evenings: Sequence[date] = HOT_EVENINGS,
    hot_per_hour: float = HOT_PER_HOUR,
    seats_per_lookup: float = SEATS_PER_LOOKUP,
) -> LandingSummary:
    """Writes the files that land in the UTC hours start ≤ h < end under `landing`, each whole or not at all.

    `usage_record/<hour>/departures.jsonl` holds the departures that landed in the hour, `query_record/<hour>/gateway.jsonl` the
    lookups that finished in it; the latter say that `layout` routed them. The `bad_rows` are spread over START to END.
    Fewer queries come with more `seats_per_lookup`.
    Raises ForeshardError if the hours are not whole or the layout does not hold a slot.
    """
    departures = read_departures()
    hot = thanksgiving_spell(departures, hot_evenings, hot_per_hour)
    usage = _UsageFeed(departures, seed, bad_rows)
    lookups = LookupDraw(departures, hot, layout, nodes, slot_bits, seed, seats_per_lookup)
    names = [n.node_id for n in nodes]
    total = _Totals()
    for hour in hours_between(start, end):
        usage.write(landing, hour, total)
        queries = lookups.hour(hour)
        total.query_rows += len(queries.departure)
        total.hot_query_rows += int((departures.entity[queries.departure] == departures.entity[hot.departure]).sum())
        total.write(_file(landing, "query_record", hour, "gateway"), _query_lines(queries, departures, names, hour))
        if hot.expected(hour):
            total.hot_hours.append(_moment(hour))
    return total.summary(str(departures.entity[hot.departure]))


class _Totals:
    """Counts while hours are written."""

    def __init__(self) -> None:
        self.usage_rows = self.late_rows = self.median_seats_rows = self.repeated_rows = 0
        self.query_rows = self.hot_query_rows = self.files = self.bytes = 0
        self.bad = dict.fromkeys(DAMAGES, 0)
        self.hot_hours: list[datetime] = []

    def write(self, path: Path, lines: Sequence[bytes]) -> None:
        """One file, under a name that readers skip until it is whole. Nothing is written for no lines."""
        if not lines:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_bytes(b"\n".join(lines) + b"\n")
        self.bytes += unfinished.stat().st_size
        self.files += 1
        os.replace(unfinished, path)

    def summary(self, hot_entity: str) -> LandingSummary:
        return LandingSummary(
            self.usage_rows,
            self.late_rows,
            self.median_seats_rows,
            self.repeated_rows,
            sum(self.bad.values()),
            {kind: count for kind, count in self.bad.items() if count},
            self.query_rows,
            self.hot_query_rows,
            self.files,
            self.bytes,
            hot_entity,
            tuple(self.hot_hours),
        )


class _UsageFeed:
    """The departures by landing hour, with the drawn latecomers, damaged lines and the one file that lands twice."""

    def __init__(self, departures: Departures, seed: int, bad_rows: int):
        generator = np.random.default_rng(seed)
        late = np.where(generator.random(len(departures)) < LATE_SHARE, generator.integers(1, 4, len(departures)), 0)
        event_hour = departures.event_time.astype("datetime64[h]")
        landed = event_hour + late.astype("timedelta64[h]")
        self._departures, self._late = departures, late
        self._order = np.lexsort((departures.record_id, departures.event_time, landed))
        self._landed = landed[self._order]
        first, last = np.searchsorted(self._landed, [_hour(START), _hour(END)])
        chosen = generator.choice(np.arange(first, last), size=bad_rows, replace=False)
        kinds = list(DAMAGES)
        self._damage = {int(self._order[c]): kinds[i % len(kinds)] for i, c in enumerate(chosen)}
        spoilt = set(self._landed[chosen].tolist())
        clean = [h for h in hours_between(START, END)[:-48] if h.item() not in spoilt and len(self._rows(h)) > 20]
        self._repeated: np.datetime64 = clean[int(generator.integers(len(clean)))]

    def _rows(self, hour: np.datetime64) -> npt.NDArray[np.int64]:
        first, last = np.searchsorted(self._landed, np.array([hour, hour + _HOUR]))
        rows: npt.NDArray[np.int64] = self._order[first:last]
        return rows

    def write(self, landing: Path, hour: np.datetime64, total: _Totals) -> None:
        rows = self._rows(hour)
        total.usage_rows += len(rows)
        total.late_rows += int((self._late[rows] > 0).sum())
        total.median_seats_rows += int((~self._departures.seats_known[rows]).sum())
        total.write(_file(landing, "usage_record", hour, "departures"), self._lines(rows, total))
        if hour == self._repeated + 2 * _HOUR:
            again = self._lines(self._rows(self._repeated), total)
            total.repeated_rows += len(again)
            total.write(_file(landing, "usage_record", hour, "departures-again"), again)

    def _lines(self, rows: npt.NDArray[np.int64], total: _Totals) -> list[bytes]:
        lines = []
        for row in rows.tolist():
            record = self._record(row)
            lines.append(_usage_line(record))
            if kind := self._damage.get(row):
                total.bad[kind] += 1
                lines.append(damaged(record, kind))
        return lines

    def _record(self, row: int) -> Record:
        d = self._departures
        return {
            "record_id": str(d.record_id[row]),
            "entity_id": str(d.entity[row]),
            "service_id": str(d.service[row]),
            "operation_id": OPERATIONS[d.operation[row]],
            "event_time": f"{d.event_time[row]}Z",
            "quantity": int(d.seats[row]),
        }


def _usage_line(record: Record) -> bytes:
    quantity = record["quantity"]
    texts = ", ".join(f'"{name}": "{value}"' for name, value in record.items() if name != "quantity")
    return f'{{{texts}, "quantity": {quantity}}}'.encode()


def _query_lines(queries: QueryHour, departures: Departures, nodes: Sequence[str], hour: np.datetime64) -> list[bytes]:
    """The landing lines. Formatted by hand: none of the texts needs escaping, and a million of them take seconds this way."""
    rows = queries.departure
    started = (queries.event_time.astype("datetime64[D]") - queries.days_asked.astype("timedelta64[D]")).astype(str)
    prefix = str(hour).replace("-", "").replace("T", "")
    columns = zip(
        departures.entity[rows].tolist(),
        departures.service[rows].tolist(),
        queries.operation.tolist(),
        started.tolist(),
        queries.event_time.astype(str).tolist(),
        queries.age.tolist(),
        queries.node.tolist(),
        queries.latency_ms.tolist(),
        queries.bytes.tolist(),
        queries.load_after.tolist(),
        strict=True,
    )
    return [
        (
            f'{{"record_id": "q-{prefix}-{i:05d}", "entity_id": "{entity}", "service_id": "{service}", '
            f'"operation_id": "{OPERATIONS[operation]}", "range_start": "{start}T00:00:00Z", "range_end": "{asked}Z", '
            f'"query_class": "{_CLASSES[age]}", "event_time": "{asked}Z", "candidates": [], "node_id": "{nodes[node]}", '
            f'"predicted_load": 0.0, "epoch": 1, "reason": "hash layout", "latency_ms": {latency}, "bytes": {size}, '
            f'"status": 200, "load_after": {load}}}'
        ).encode()
        for i, (entity, service, operation, start, asked, age, node, latency, size, load) in enumerate(columns)
    ]


def _file(landing: Path, table: str, hour: np.datetime64, name: str) -> Path:
    return landing / table / str(hour) / f"{name}.jsonl"


def _hour(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.replace(tzinfo=None), "h")


def _moment(hour: np.datetime64) -> datetime:
    return datetime.fromisoformat(str(hour.astype("datetime64[s]"))).replace(tzinfo=UTC)
