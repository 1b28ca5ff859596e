"""The forecasts of a whole fleet on Spark: packed series in batches through the engine, with what a sample of them has learnt.

The sample is forecast on the driver, and what it learns goes to the tasks with their code: so Spark and one process give the
same numbers, and one pass over the series is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foreshard.forecast import engine, pooling
from foreshard.forecast.batch import LEVELS, NORMAL, Batch, Floats
from foreshard.forecast.columns import arrays, matrix
from foreshard.forecast.engine import Options
from foreshard.forecast.history import Span
from foreshard.forecast.packing import BATCH
from foreshard.forecast.pooling import Pooling
from foreshard.lake.tables import LOAD_FORECAST

QUANTILES = ("q05", "q10", "q50", "q90", "q95", "q99")
# One row per shard, and in each array a value for each published interval of the horizon.
FORECAST = (
    "shard_id int, model string, mean array<double>, q05 array<double>, q10 array<double>, q50 array<double>, "
    "q90 array<double>, q95 array<double>, q99 array<double>, spread_own array<double>, spread_common array<array<double>>, "
    "fallback_reason string"
)
_SPREADS = ("spread_own", "spread_common")
_NORMAL = np.array(NORMAL)
assert len(QUANTILES) == len(LEVELS) == len(_NORMAL)


@dataclass(frozen=True)
class Model:
    """What a task needs to forecast any batch of the fleet; small and picklable."""

    span: Span
    options: Options
    fleet: engine.Fleet
    pooling: Pooling


def with_shard(load: DataFrame, spark: SparkSession, isolated: dict[str, int]) -> DataFrame:
    """Rows of query_load or query_pattern_observed with their shard: an isolated entity's own, else the slot."""
    if not isolated:
        return load.withColumn("shard_id", F.col("slot"))
    map_frame = spark.createDataFrame(list(isolated.items()), "entity_id string, isolated_shard int")
    joined = load.join(F.broadcast(map_frame), "entity_id", "left")
    return joined.withColumn("shard_id", F.coalesce("isolated_shard", "slot")).drop("isolated_shard")


def learn(packed: DataFrame, shard_ids: Sequence[int], span: Span, options: Options) -> Model:
    """What the fleet has in common, from the sample of its shards that the engine would take in one process.

    `packed` as from `packing.pack`, with every one of `shard_ids`, which are all shards of the fleet.
    """
    names = tuple(str(shard) for shard in shard_ids)
    chosen = [int(names[i]) for i in engine.sampled(names)]
    kept = packed.sparkSession.createDataFrame(pa.table({"chosen": pa.array(chosen, pa.int32())}))
    rows = packed.join(F.broadcast(kept), packed["shard_id"] == kept["chosen"]).select("shard_id", "values").toArrow()
    rows = rows.take(pa.array(np.argsort(_order(rows["shard_id"].to_numpy(), chosen)))).combine_chunks()
    sample = _batch(chosen, matrix(rows["values"].combine_chunks(), span.steps), span)
    fleet = engine.learn(sample, options)
    errors = engine.forecast(sample, fleet, options).errors
    return Model(span, options, fleet, pooling.learn(errors, options.seed))


def _order(found: npt.NDArray[Any], chosen: Sequence[int]) -> npt.NDArray[Any]:
    """The place of each found shard among the chosen ones."""
    by_id = np.argsort(np.asarray(chosen))
    return by_id[np.searchsorted(np.asarray(chosen), found, sorter=by_id)]


def _batch(shards: Sequence[int] | npt.NDArray[Any], values: Floats, span: Span) -> Batch:
    return Batch(tuple(map(str, shards)), span.start, span.step, values)


def heaviest(packed: DataFrame, count: int) -> frozenset[str]:
    """The names of the shards with the most load in their history."""
    # Unknown steps are null or NaN.
    known = F.transform("values", lambda value: F.nanvl(F.coalesce(value.cast("double"), F.lit(0.0)), F.lit(0.0)))
    total = F.aggregate(known, F.lit(0.0), lambda so_far, value: so_far + value)
    rows = packed.orderBy(total.desc(), "shard_id").limit(count).select("shard_id").collect()
    return frozenset(str(row["shard_id"]) for row in rows)


def forecast(packed: DataFrame, model: Model) -> DataFrame:
    """The forecast of each packed series; columns FORECAST."""
    return packed.mapInArrow(_forecaster(model), FORECAST)


def _forecaster(model: Model) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def made(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for whole in batches:
            for first in range(0, whole.num_rows, BATCH):
                yield forecast_batch(whole.slice(first, BATCH), model)

    return made


def forecast_batch(rows: Any, model: Model) -> pa.RecordBatch:
    """Columns FORECAST of some rows with the columns of `packing.PACKED`."""
    span = model.span
    shards = rows.column("shard_id").to_numpy()
    made = engine.forecast(_batch(shards, matrix(rows.column("values"), span.steps), span), model.fleet, model.options)
    own, common = pooling.by_step(made.errors, made.quantiles, model.pooling.factors)
    scatter = rows.column("scatter").to_numpy().astype(np.float64)[:, None] * made.mean
    quantiles, own = _widened(made.mean, made.quantiles, own, scatter)
    repeated = [np.repeat(values, span.pieces, axis=1) for values in (made.mean, *quantiles, own, common)]
    columns = [
        pa.array(shards, pa.int32()),
        pa.array(made.model, pa.string()),
        *(arrays(values) for values in repeated),
        pa.array(made.fallback_reason, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, ["shard_id", "model", "mean", *QUANTILES, *_SPREADS, "fallback_reason"])


def _widened(mean: Floats, quantiles: Floats, own: Floats, scatter: Floats) -> tuple[Floats, Floats]:
    """Quantiles and own spreads of the pieces of a step, whose variance about it is `scatter`, taken as independent."""
    if not scatter.any():
        return quantiles, own
    off = quantiles - mean
    wider = np.hypot(off, _NORMAL[:, None, None] * np.sqrt(scatter))
    # A median may lie on either side of the mean, and stays there; a piece scatters to its own side.
    side = np.where(_NORMAL != 0, np.sign(_NORMAL), 0)[:, None, None]
    pieces = np.where(side == 0, quantiles, np.where(off * side >= 0, mean + side * wider, quantiles))
    return np.maximum(np.maximum.accumulate(pieces, axis=0), 0.0), np.sqrt(own**2 + scatter)


def as_load_forecast(made: DataFrame, span: Span, version: int) -> DataFrame:
    """One row per shard and interval with the columns of `load_forecast`, from columns FORECAST."""
    figures = ["mean", *QUANTILES, *_SPREADS]
    each = made.select("shard_id", "model", "fallback_reason", F.posexplode(F.arrays_zip(*figures)).alias("place", "at"))
    stated = {
        "interval_start": interval(span, F.col("place")),
        "origin": F.lit(span.origin),
        "input_version": F.lit(version).cast("bigint"),
        "origin_day": F.lit(span.origin.date()),
        **{name: F.col(f"at.{name}") for name in figures},
    }
    return each.select(*[stated.get(name, F.col(name)).alias(name) for name in LOAD_FORECAST.schema.names])


def interval(span: Span, place: Any) -> Any:
    """The start of the published interval at a place of the horizon."""
    first, seconds = int(span.origin.timestamp()), int(span.grain.total_seconds())
    return F.timestamp_seconds(F.lit(first).cast("bigint") + place * seconds)


def intervals(spark: SparkSession, span: Span) -> DataFrame:
    """The published intervals of the horizon: `interval_start`."""
    return spark.range(span.horizon * span.pieces).select(interval(span, F.col("id")).alias("interval_start"))
