"""A pool's own history as a trace: what the aggregation wrote, replayed before anything is switched on.

`query_load` is what nodes carried, in cost-weighted requests; without it `usage_hourly` stands in, whose usage events are what
a pool of usage data holds, not what was asked of it. Only the newest version of the table is read, and nothing is written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from foreshard.errors import ForeshardError
from foreshard.replay.trace import Ints, Trace, read_trace
from foreshard.replay.trace_limits import limits_of, refuse_unbelievable

# Table → its columns of time and of load, and what is counted; the first that is there is read.
_TABLES = {
    "query_load": ("interval_start", "load", "cost-weighted requests of the query log"),
    "usage_hourly": (
        "hour",
        "events",
        "usage events, as there is no query_load: what came to be stored, not what was asked for",
    ),
}
_HOUR = 3600
_LONGEST = 10 * 366 * 86_400


def read_own_or_trace(folder: Path, slot_bits: int = 8) -> Trace:
    """The trace in `folder`, or the history in a pool's folder of Delta tables (or in one of these tables itself).

    Raises ForeshardError as `read_trace` does, and for a folder that is neither.
    """
    if not folder.is_dir():
        raise ForeshardError(f"{folder} is no folder; give a trace's folder, or a pool's folder of Delta tables")
    if (folder / "trace.parquet").exists() or (folder / "trace.json").exists():
        return read_trace(folder, slot_bits)
    for name in _TABLES:
        for table in (folder / name, folder):
            if table.resolve().name == name and (table / "_delta_log").is_dir():
                return read_own(table)
    raise ForeshardError(
        f"{folder} has neither trace.json and trace.parquet nor a Delta table {' or '.join(_TABLES)}; "
        "give a trace's folder, or the folder of a pool in the lake after an aggregation"
    )


def read_own(table: Path) -> Trace:
    """The history in a Delta table `query_load` or `usage_hourly`, its slots as shards.

    The newest interval is left out, for it may not be complete. Raises ForeshardError for a table that cannot be read, has too
    little, or whose loads are none.
    """
    name = table.resolve().name
    time, load, counted = _TABLES[name]
    rows = _rows(table, ["slot", "entity_id", time, load])
    second = rows[time].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy() // 1_000_000
    loads = rows[load].cast(pa.float64()).to_numpy()
    bad = np.flatnonzero(~(np.isfinite(loads) & (loads >= 0)))
    if bad.size:
        raise ForeshardError(
            f"{table}: {load} is {loads[bad[0]]:g} in slot {rows['slot'][int(bad[0])]}; loads are not below zero"
        )
    starts = np.unique(second)
    interval, first = _interval(starts, table), int(starts[0])
    length = (int(starts[-1]) - first) // interval
    known = second < starts[-1]
    shard_ids, column = np.unique(rows["slot"].to_numpy()[known].astype(np.int64), return_inverse=True)
    cells = (second[known] - first) // interval * shard_ids.size + column
    dense = np.bincount(cells, weights=loads[known], minlength=length * shard_ids.size).astype(np.float64)
    if not dense.any():
        raise ForeshardError(f"{table} has no load before its newest interval; there is nothing to replay")
    dense = dense.reshape(length, shard_ids.size)
    refuse_unbelievable(dense / interval, table)
    limits = limits_of(length, starts.size - 1, interval, "slot" if shard_ids.size == 1 else "")
    notes = (f"loads are {counted}", "the newest interval is left out, as it may not be complete", *limits)
    entities = len(rows["entity_id"].unique())
    pool = table.resolve().parent.name
    begin = datetime.fromtimestamp(first, UTC)
    return Trace(f"{pool}/{name}", begin, interval, shard_ids, dense, entities, notes)


def _rows(table: Path, columns: list[str]) -> pa.Table:
    try:
        rows = DeltaTable(str(table)).to_pyarrow_table(columns=columns)
    except TableNotFoundError:
        raise ForeshardError(f"{table} is no Delta table; run aggregate, or give a trace's folder") from None
    except (DeltaError, OSError, pa.ArrowException, KeyError) as error:
        raise ForeshardError(f"{table} cannot be read: {error}") from error
    if any(rows[name].null_count for name in columns):
        raise ForeshardError(f"{table} has nulls in {', '.join(n for n in columns if rows[n].null_count)}; aggregate it anew")
    return rows


def _interval(starts: Ints, table: Path) -> int:
    """Seconds of the longest interval, an hour at most, of which all starts are whole numbers apart."""
    if starts.size < 3:
        raise ForeshardError(f"{table} has {starts.size} intervals; a replay needs at least two that are complete")
    interval = int(np.gcd.reduce(np.append(np.diff(starts), _HOUR)))
    if interval < 60 or starts[-1] - starts[0] > _LONGEST:
        raise ForeshardError(
            f"{table}: its {starts.size} intervals from {datetime.fromtimestamp(int(starts[0]), UTC):%F %H:%M} to "
            f"{datetime.fromtimestamp(int(starts[-1]), UTC):%F %H:%M} are no even grid of minutes within ten years; "
            "look for a wrong time"
        )
    return interval
