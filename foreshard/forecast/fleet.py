"""The forecasts of a whole fleet on Spark: a series per shard, a model per shard, spreads that pool, query patterns."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from foreshard.forecast.combine import Options, forecast
from foreshard.forecast.pooling import Factor, spreads
from foreshard.forecast.series import LEVELS, regular
from foreshard.lake.tables import LOAD_FORECAST, QUERY_PATTERN
from foreshard.settings import Settings

_FITTED = (
    "shard_id int, model string, mean array<double>, q05 array<double>, q10 array<double>, q50 array<double>, "
    "q90 array<double>, q95 array<double>, q99 array<double>, errors array<double>, fallback_reason string"
)
_QUANTILES = ["q05", "q10", "q50", "q90", "q95", "q99"]
# Shards whose errors are looked at together; beyond that, more shards do not change the common factor.
POOLED_SHARDS = 2_000
PATTERNS_PER_SHARD = 20
PATTERN_DAYS = 7


def with_shard(load: DataFrame, spark: SparkSession, isolated: dict[str, int]) -> DataFrame:
    """Rows of query_load or query_pattern_observed with their shard: an isolated entity's own, else the slot."""
    if not isolated:
        return load.withColumn("shard_id", F.col("slot"))
    map_frame = spark.createDataFrame(list(isolated.items()), "entity_id string, isolated_shard int")
    joined = load.join(F.broadcast(map_frame), "entity_id", "left")
    return joined.withColumn("shard_id", F.coalesce("isolated_shard", "slot")).drop("isolated_shard")


def shard_series(load: DataFrame, shard_ids: DataFrame, settings: Settings, origin: datetime) -> DataFrame:
    """One row per shard: `times` (epoch seconds, ascending) and `rates` over the history before `origin`.

    Every shard of `shard_ids` has a row, those without load an empty one.
    """
    seconds = settings.forecast.grain_minutes * 60
    first = origin - timedelta(days=settings.forecast.history_days)
    recent = load.where((F.col("interval_start") >= F.lit(first)) & (F.col("interval_start") < F.lit(origin)))
    # Divided as doubles: decimals would round at 1e-14, which Prophet's optimiser turns into 1e-4 of the forecast.
    rates = recent.groupBy("shard_id", "interval_start").agg((F.sum("load").cast("double") / seconds).alias("rate"))
    points = F.array_sort(F.collect_list(F.struct(F.unix_timestamp("interval_start").alias("time"), "rate")))
    packed = rates.groupBy("shard_id").agg(points.alias("points"))
    return shard_ids.join(packed, "shard_id", "left").select(
        "shard_id", F.col("points.time").alias("times"), F.col("points.rate").alias("rates")
    )


def fit(series: DataFrame, settings: Settings, origin: datetime) -> DataFrame:
    """Forecasts every shard's series; one row per shard with an array for each figure. Prophet is imported on the workers."""
    step = timedelta(minutes=settings.forecast.grain_minutes)
    horizon = int(timedelta(hours=settings.forecast.horizon_hours) / step)
    country, seed = settings.forecast.country, settings.forecast.seed

    def fit_shard(rows: pd.DataFrame) -> pd.DataFrame:
        row = rows.iloc[0]
        shard_id = int(row["shard_id"])
        options = Options(horizon, country, _shard_seed(seed, shard_id))
        return pd.DataFrame([_fitted_row(shard_id, _as_list(row["times"]), _as_list(row["rates"]), step, origin, options)])

    # An explicit number of partitions: adaptive execution would otherwise put this little data on one core.
    spread_out = series.repartition(max(series.sparkSession.sparkContext.defaultParallelism, 2), "shard_id")
    return spread_out.groupBy("shard_id").applyInPandas(fit_shard, _FITTED)


def _shard_seed(seed: int, shard_id: int) -> int:
    return zlib.crc32(f"{seed}:{shard_id}".encode()) & 0x7FFFFFFF


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value)


def _fitted_row(
    shard_id: int, times: list[int], rates: list[float], step: timedelta, origin: datetime, options: Options
) -> dict[str, Any]:
    if not times:
        zeros = [0.0] * options.horizon
        row: dict[str, Any] = {"shard_id": shard_id, "model": "none", "mean": zeros, "errors": []}
        return row | dict.fromkeys(_QUANTILES, zeros) | {"fallback_reason": "no load in the history"}
    series = regular([datetime.fromtimestamp(t, UTC) for t in times], rates, step, origin)
    made = forecast(series, options)
    row = {"shard_id": shard_id, "model": made.model, "mean": made.mean.tolist(), "errors": made.errors.tolist()}
    quantiles = dict(zip(_QUANTILES, made.quantiles.tolist(), strict=True))
    assert len(_QUANTILES) == len(LEVELS)
    return row | quantiles | {"fallback_reason": made.fallback_reason}


def pooled_errors(fitted: DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Backtest errors of the shards that have the full backtest, shape (shards ≤ POOLED_SHARDS, times), by hash."""
    rows = fitted.where("size(errors) > 0").orderBy(F.xxhash64("shard_id")).limit(POOLED_SHARDS).select("errors").collect()
    if not rows:
        return np.zeros((0, 0))
    longest = max(len(r["errors"]) for r in rows)
    return np.array([r["errors"] for r in rows if len(r["errors"]) == longest], dtype=np.float64)


def as_load_forecast(fitted: DataFrame, settings: Settings, origin: datetime, factor: Factor, version: int) -> DataFrame:
    """One row per shard and step with the columns of `load_forecast`; spreads grow with the square root of the level."""
    step = timedelta(minutes=settings.forecast.grain_minutes)
    names = LOAD_FORECAST.schema.names

    def explode(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            frames = [_steps_of(row, step, origin, factor, version) for row in batch.to_dict("records")]
            if frames:
                yield pd.concat(frames)[names]

    return fitted.mapInPandas(explode, LOAD_FORECAST.schema)


def _steps_of(row: dict[Any, Any], step: timedelta, origin: datetime, factor: Factor, version: int) -> pd.DataFrame:
    mean = np.asarray(row["mean"], dtype=np.float64)
    own, common = spreads(np.asarray(row["errors"], dtype=np.float64), factor)
    average = float(mean.mean())
    scale = np.sqrt(mean / average) if average > 0 else np.zeros_like(mean)
    frame = pd.DataFrame({"mean": mean} | {q: np.asarray(row[q], dtype=np.float64) for q in _QUANTILES})
    return frame.assign(
        shard_id=row["shard_id"],
        interval_start=[origin + step * i for i in range(len(mean))],
        origin=origin,
        model=row["model"],
        spread_own=own * scale,
        spread_common=pd.Series([[float(common * s)] for s in scale], dtype=object),
        input_version=version,
        fallback_reason=row["fallback_reason"],
        origin_day=origin.date(),
    )


def query_patterns(observed: DataFrame, intervals: DataFrame, origin: datetime) -> DataFrame:
    """Probabilities of what a query of a shard asks for, from the shares of the last days; columns of `query_pattern`.

    `observed`: query_pattern_observed with `shard_id`. `intervals`: the distinct `shard_id, interval_start` forecast. The
    most frequent patterns are named and the rest is one row per age class with empty names.
    """
    first = (origin - timedelta(days=PATTERN_DAYS)).date()
    pattern = ["entity_id", "service_id", "operation_id"]
    counted = observed.where(F.col("day") >= F.lit(first)).groupBy("shard_id", *pattern, "time_interval")
    counts = counted.agg(F.sum("requests").alias("n"))
    by_count = Window.partitionBy("shard_id").orderBy(F.col("n").desc(), *pattern, "time_interval")
    ranked = counts.withColumn("kept", F.row_number().over(by_count) <= PATTERNS_PER_SHARD)
    folded = ranked.select(
        "shard_id", "time_interval", "n", *[F.when(F.col("kept"), F.col(c)).otherwise("").alias(c) for c in pattern]
    )
    summed = folded.groupBy("shard_id", *pattern, "time_interval").agg(F.sum("n").alias("n"))
    share = F.col("n") / F.sum("n").over(Window.partitionBy("shard_id"))
    shares = summed.withColumn("probability", share.cast("double"))
    columns = [F.lit(origin).alias("origin") if n == "origin" else F.col(n) for n in QUERY_PATTERN.schema.names[:-1]]
    return shares.join(intervals, "shard_id").select(*columns, F.lit(origin.date()).alias("origin_day"))
