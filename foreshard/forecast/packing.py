"""query_load → packed series: one row per shard, with an array of all its values on the common grid.

Before the shuffle that brings a shard's rows together, each task makes runs of the neighbouring intervals that it has seen:
an array costs Spark little more than a row. After it they are laid into matrices as they come, unsorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foreshard.forecast.batch import Floats
from foreshard.forecast.columns import arrays
from foreshard.forecast.history import Span

# `values`: weighted requests per second at each step. `scatter`: the variance between the pieces of a step over its mean.
PACKED = "shard_id int, values array<float>, scatter float"
# A task's shards have about so many values, and a matrix at most so many: some tens of MB.
_TASK_VALUES = 4_000_000
_MATRIX_VALUES = 8_000_000
# Rows of an Arrow batch: few enough for a worker's memory, enough that a batch's own cost vanishes.
BATCH = 2_000
# Rows that a task looks at together before the shuffle, and the longest run that it makes of them.
_GATHERED = 2_000_000
_RUN = 24
_RUNS = "shard_id int, piece int, loads array<double>"
# Loads have six decimals; as whole numbers of millionths their sums do not depend on the order of rows.
_UNIT = 1e-6

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Points:
    """Loads of shards at pieces of the span, in any order; piece −1 only says that there is such a shard. Shapes (rows,)."""

    shard: Ints
    piece: Ints
    load: Floats


def pack(load: DataFrame, shard_ids: DataFrame, span: Span, shards: int) -> DataFrame:
    """Columns PACKED, one row for each of `shard_ids`: `shards` says how many there are, about.

    `load`: shard_id, interval_start, load. An interval without a row had no load; the steps before a shard's first load are
    NaN; a shard without any is all zeros.
    """
    seconds = int(span.grain.total_seconds())
    due = (F.col("interval_start") >= F.lit(span.start)) & (F.col("interval_start") < F.lit(span.origin))
    piece = ((F.unix_timestamp("interval_start") - int(span.start.timestamp())) / seconds).cast("int")
    # As doubles: decimals of this precision are objects to Spark.
    counted = load.where(due).select(
        "shard_id", piece.alias("piece"), F.rint(F.col("load").cast("double") / _UNIT).alias("load")
    )
    named = shard_ids.select("shard_id", F.lit(-1).alias("piece"), F.lit(0.0).alias("load"))
    width = span.steps * span.pieces
    # An explicit number of partitions: adaptive execution would put a small fleet on one core.
    parts = max(load.sparkSession.sparkContext.defaultParallelism, -(-shards * width // _TASK_VALUES))
    runs = counted.unionByName(named).mapInArrow(_gathered, _RUNS)
    return runs.repartition(parts, "shard_id").mapInArrow(_packer(span), PACKED)


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    held: list[Points] = []
    for batch in batches:
        if batch.num_rows:
            held.append(Points(*(_numbers(batch, name) for name in ("shard_id", "piece", "load"))))
        if sum(len(points.load) for points in held) >= _GATHERED:
            yield from _runs(_joined(held))
            held = []
    if held:
        yield from _runs(_joined(held))


def _joined(held: list[Points]) -> Points:
    return Points(*(np.concatenate([getattr(one, name) for one in held]) for name in ("shard", "piece", "load")))


def _runs(points: Points) -> Iterator[pa.RecordBatch]:
    """Columns _RUNS: runs of equal length, as long as few of their intervals are without a row."""
    width = min(int(points.piece.max()) - int(points.piece.min()) + 1, _RUN)
    keys, place = _keys(points, width)
    if len(keys) * width > 3 * len(points.load):
        width = 1
        keys, place = _keys(points, width)
    within = place * width + (points.piece + 1) % width
    loads = np.bincount(within, weights=points.load, minlength=len(keys) * width).reshape(-1, width)
    for first in range(0, len(keys), _RUN * BATCH):
        part = slice(first, first + _RUN * BATCH)
        shard, piece = (keys[part] >> 32).astype(np.int32), ((keys[part] & 0xFFFFFFFF) * width - 1).astype(np.int32)
        columns = [pa.array(shard), pa.array(piece), arrays(loads[part])]
        yield pa.RecordBatch.from_arrays(columns, ["shard_id", "piece", "loads"])


def _keys(points: Points, width: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The runs there are, by shard and number of the run, and which of them each row is in. Piece −1 is in the first run."""
    whole = (points.shard.astype(np.int64) << 32) | ((points.piece.astype(np.int64) + 1) // width)
    keys, place = np.unique(whole, return_inverse=True)
    return keys, place


def _points(batch: Any) -> Points:
    """The rows that runs stand for."""
    loads = batch.column("loads")
    length = np.diff(loads.offsets.to_numpy())
    first = np.cumsum(length) - length
    within = np.arange(int(length.sum()), dtype=np.int32) - np.repeat(first, length).astype(np.int32)
    shard, piece = (np.repeat(_numbers(batch, name), length) for name in ("shard_id", "piece"))
    return Points(shard, piece + within, loads.flatten().to_numpy(zero_copy_only=False))


def _packer(span: Span) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def packed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found = [_points(batch) for batch in batches if batch.num_rows]
        if found:
            yield from _rows(_joined(found), span)

    return packed


def _numbers(batch: Any, name: str) -> Any:
    return batch.column(name).to_numpy(zero_copy_only=False)


def _rows(points: Points, span: Span) -> Iterator[pa.RecordBatch]:
    seen = np.zeros(int(points.shard.max()) + 1, dtype=bool)
    seen[points.shard] = True
    ids = np.flatnonzero(seen).astype(np.int32)
    row = (np.cumsum(seen) - 1)[points.shard]
    width = span.steps * span.pieces
    size = max(min(BATCH, _MATRIX_VALUES // width), 1)
    for first in range(0, len(ids), size):
        count = min(size, len(ids) - first)
        # The last run reaches beyond the history.
        mine = (row >= first) & (row < first + count) & (points.piece >= 0) & (points.piece < width)
        values, scatter = series(row[mine] - first, points.piece[mine], points.load[mine], count, span)
        columns = [
            pa.array(ids[first : first + count]),
            arrays(values.astype(np.float32)),
            pa.array(scatter.astype(np.float32)),
        ]
        yield pa.RecordBatch.from_arrays(columns, ["shard_id", "values", "scatter"])


def series(row: npt.NDArray[Any], piece: Ints, load: Floats, count: int, span: Span) -> tuple[Floats, Floats]:
    """(values, scatter) of `count` shards, shapes (count, steps) and (count,), from loads in millionths."""
    width = span.steps * span.pieces
    place = row.astype(np.int64) * width + piece
    total = np.bincount(place, weights=load, minlength=count * width).reshape(count, span.steps, span.pieces)
    rates = total * (_UNIT / span.grain.total_seconds())
    values: Floats = rates.mean(axis=2)
    scatter = np.zeros(count)
    if span.pieces > 1:
        level = values.sum(axis=1)
        scatter = np.divide(rates.var(axis=2, ddof=1).sum(axis=1), level, out=scatter, where=level > 0)
    has_begun: npt.NDArray[np.bool_] = np.logical_or.accumulate(values > 0, axis=1)
    values[~has_begun & has_begun[:, -1:]] = np.nan
    return values, scatter


def first_load(load: DataFrame, since: datetime, before: datetime) -> datetime:
    """The first interval with a row in since ≤ t < before, or `before` if there is none."""
    due = (F.col("interval_start") >= F.lit(since)) & (F.col("interval_start") < F.lit(before))
    first = load.where(due).agg(F.min("interval_start").alias("first")).first()["first"]
    return first.replace(tzinfo=UTC) if first else before
