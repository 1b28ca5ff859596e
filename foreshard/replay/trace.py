"""A trace folder → requests of every shard in every interval.

`trace.parquet` has `ts` (UTC, start of the interval), `entity_id`, `service_id`, `operation_id` and `requests`, in any order;
a missing row within the span means zero. `trace.json` has `interval_seconds` and, if the span is longer than the rows, `start`
and `end`. What cannot be a load is refused in one sentence; what limits the result stands in `Trace.notes`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foreshard.errors import ForeshardError
from foreshard.replay.trace_limits import limits_of, refuse_unbelievable
from foreshard.slots import entity_slots

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_KEYS = ("entity_id", "service_id", "operation_id")
_COLUMNS = ("ts", *_KEYS, "requests")
_DAY = 86_400
# Times are within 150 years of the start of 2050, in seconds since 1970.
_MIDDLE, _REACH = 2_524_608_000, 150 * 31_557_600
# Intervals × shards beyond which the dense array would take more than a gigabyte: a wrong date, most likely.
_MOST_CELLS = 1 << 27


@dataclass(frozen=True)
class Trace:
    """`requests[t, s]`: what came to shard `shard_ids[s]` in interval t, shape (T, S). Shards without entities are left out."""

    name: str
    start: datetime
    interval_seconds: int
    shard_ids: Ints
    requests: Floats
    entities: int
    notes: tuple[str, ...]
    country: str = ""

    @property
    def rates(self) -> Floats:
        """Requests per second, shape (T, S)."""
        return self.requests / self.interval_seconds

    def test_start(self, train_days: float | None = None) -> int:
        """The first interval of the test period; what is before it is for training. By default the second half is the test.

        Raises ForeshardError if either period would be empty.
        """
        length = len(self.requests)
        first = length // 2 if train_days is None else round(train_days * _DAY / self.interval_seconds)
        if not 1 <= first < length:
            days = length * self.interval_seconds / _DAY
            raise ForeshardError(
                f"trace {self.name} has {days:.3g} days ({length} intervals): give training days so that there is at least one "
                "interval before the test and one in it"
            )
        return first


@dataclass(frozen=True)
class _Header:
    name: str
    interval: int
    start: int | None  # seconds since 1970
    end: int | None
    country: str


def read_trace(folder: Path, slot_bits: int = 8) -> Trace:
    """The trace in `folder`, its entities on 2**slot_bits shards by their slots.

    Raises ForeshardError, naming the row, for a missing file or column, a null, a negative or infinite count, a time without
    zone, off the intervals or outside the span, and the same row twice. Time and memory O(rows log rows + intervals × shards).
    """
    header = _header(folder / "trace.json")
    path = folder / "trace.parquet"
    table = _table(path)
    requests = _requests(table, path)
    second = _seconds(table, path)
    first, length = _span(header, second, path)
    row = _rows(second, first, header.interval, path)
    _refuse_twice(table, row, length, path)
    slots = entity_slots(_text(table, "entity_id"), slot_bits)
    shard_ids, column = np.unique(slots, return_inverse=True)
    if length * shard_ids.size > _MOST_CELLS:
        raise ForeshardError(
            f"{path}: {length:,} intervals of {header.interval} s from the first row to the last are too many to replay: "
            "look for a wrong date, or cut the trace"
        )
    dense = np.bincount(row * shard_ids.size + column, weights=requests, minlength=length * shard_ids.size).astype(np.float64)
    if not dense.any():
        raise ForeshardError(f"{path}: no row has a request; there is no load to replay")
    entities = int(pc.count_distinct(_text(table, "entity_id")).as_py())
    dense = dense.reshape(length, shard_ids.size)
    refuse_unbelievable(dense / header.interval, path)
    return Trace(
        header.name,
        datetime.fromtimestamp(first, UTC),
        header.interval,
        shard_ids,
        dense,
        entities,
        limits_of(length, np.unique(row).size, header.interval, "entity" if entities == 1 else ""),
        header.country,
    )


def _header(path: Path) -> _Header:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ForeshardError(f"{path} is missing; a trace is a folder with trace.json and trace.parquet") from error
    except (OSError, ValueError) as error:
        raise ForeshardError(f"{path} is not JSON that can be read: {error}") from error
    if not isinstance(document, dict):
        raise ForeshardError(f"{path}: expected an object with interval_seconds")
    interval = document.get("interval_seconds")
    if not isinstance(interval, (int, float)) or not 60 <= interval <= 3600 or interval % 60:
        raise ForeshardError(f"{path}: interval_seconds is {interval!r}; give whole minutes, 60 to 3600 seconds")
    name = str(document.get("name") or path.parent.name)
    country = str(document.get("country") or "")
    return _Header(name, int(interval), _instant(document, "start", path), _instant(document, "end", path), country)


def _instant(document: dict[str, Any], field: str, path: Path) -> int | None:
    if document.get(field) is None:
        return None
    try:
        found = datetime.fromisoformat(str(document[field]))
    except ValueError as error:
        raise ForeshardError(f"{path}: {field} is {document[field]!r}; give an ISO 8601 time") from error
    if found.tzinfo is None:
        raise ForeshardError(f"{path}: {field} is {document[field]!r}; give its offset from UTC")
    return int(found.timestamp())


def _table(path: Path) -> pa.Table:
    try:
        schema = pq.read_schema(path)
        missing = [name for name in _COLUMNS if name not in schema.names]
        if missing:
            raise ForeshardError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(_COLUMNS)}")
        table = pq.ParquetFile(path).read(columns=list(_COLUMNS))
    except FileNotFoundError as error:
        raise ForeshardError(f"{path} is missing; a trace is a folder with trace.json and trace.parquet") from error
    except (OSError, pa.ArrowException) as error:
        raise ForeshardError(f"{path} is not a Parquet file that can be read: {error}") from error
    if not table.num_rows:
        raise ForeshardError(f"{path} has no rows; there is no load to replay")
    for name in _COLUMNS:
        if table[name].null_count:
            raise ForeshardError(
                f"{path}, row {pc.index(pc.is_null(table[name]), True).as_py()}: {name} is null; leave the row out"
            )
    return table


def _requests(table: pa.Table, path: Path) -> Floats:
    kind = table["requests"].type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise ForeshardError(f"{path}: requests is a column of {kind}; give numbers")
    found: Floats = table["requests"].cast(pa.float64()).to_numpy()
    bad = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if bad.size:
        raise ForeshardError(
            f"{path}, row {bad[0]}: requests is {found[bad[0]]:g}, and so in {bad.size} rows; "
            "give finite counts, none below zero"
        )
    return found


def _seconds(table: pa.Table, path: Path) -> Ints:
    kind = table["ts"].type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise ForeshardError(f"{path}: ts is a column of {kind}; give timestamps with a time zone, in UTC")
    found: Ints = table["ts"].cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.int64()).to_numpy()
    uneven = np.flatnonzero(found % 1_000_000)
    if uneven.size:
        raise ForeshardError(f"{path}, row {uneven[0]}: ts is not on a whole second; give the starts of the intervals")
    far = np.flatnonzero(np.abs(found // 1_000_000 - _MIDDLE) > _REACH)
    if far.size:
        raise ForeshardError(f"{path}, row {far[0]}: ts is before the year 1900 or after 2200; look for a wrong unit")
    return found // 1_000_000


def _span(header: _Header, second: Ints, path: Path) -> tuple[int, int]:
    """The first second of the span and the number of its intervals."""
    first = header.start if header.start is not None else int(second.min())
    end = header.end if header.end is not None else int(second.max()) + header.interval
    outside = np.flatnonzero((second < first) | (second >= end))
    if outside.size:
        raise ForeshardError(
            f"{path}, row {outside[0]}: {_written(int(second[outside[0]]))} is outside the trace's span of "
            f"{_written(first)} to {_written(end)}; correct the row, or start and end in trace.json"
        )
    return first, -(-(end - first) // header.interval)


def _rows(second: Ints, first: int, interval: int, path: Path) -> Ints:
    """The interval of each row."""
    off = np.flatnonzero((second - first) % interval)
    if off.size:
        raise ForeshardError(
            f"{path}, row {off[0]}: {_written(int(second[off[0]]))} is no whole number of {interval} s after "
            f"{_written(first)}; give the starts of the intervals"
        )
    return (second - first) // interval


def _refuse_twice(table: pa.Table, row: Ints, length: int, path: Path) -> None:
    """Refuses a second row with the same time, entity, service and operation: which of them holds cannot be known."""
    code, size = row, length
    for name in _KEYS:
        encoded = _text(table, name).combine_chunks().dictionary_encode()
        count = max(1, len(encoded.dictionary))
        if size * count > 1 << 62:
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
            size = int(code.max()) + 1
        code = code * count + encoded.indices.to_numpy(zero_copy_only=False)
        size *= count
    order = np.argsort(code, kind="stable")
    again = np.flatnonzero(np.diff(code[order]) == 0)
    if again.size:
        earlier, later = sorted(int(i) for i in order[again[0] : again[0] + 2])
        who = table["entity_id"][later].as_py()
        raise ForeshardError(
            f"{path}: rows {earlier} and {later} have the same time, entity ({who}), service and operation, and so have "
            f"{again.size} in all; add them up or leave one out"
        )


def _text(table: pa.Table, name: str) -> pa.ChunkedArray:
    try:
        return table[name].cast(pa.large_string())
    except pa.ArrowException as error:
        raise ForeshardError(f"trace.parquet: {name} is a column of {table[name].type}; give text") from error


def _written(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")
