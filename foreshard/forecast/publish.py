"""Step 2 as a whole: query_load up to its watermark → load_forecast, query_pattern and the calibration of sums."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foreshard.checks.gate import require
from foreshard.errors import ForeshardError
from foreshard.forecast import fleet, packing
from foreshard.forecast.engine import Options, options_of
from foreshard.forecast.history import Span, span_of
from foreshard.forecast.patterns import query_patterns
from foreshard.forecast.pooling import Pooling
from foreshard.lake import delta, log
from foreshard.lake.tables import CALIBRATION_STATE, LOAD_FORECAST, QUERY_PATTERN
from foreshard.learning.learnt import Learnt, read_learnt
from foreshard.settings import ForecastSettings, Settings


def forecast_load(spark: SparkSession, settings: Settings, isolated: dict[str, int]) -> dict[str, Any]:
    """Forecasts every shard from the newest complete hour on; a repeat with the same input changes nothing.

    Raises ForeshardError if nothing was aggregated yet, QualityError if a suite's critical expectation fails.
    """
    source = settings.table("query_load")
    said = log.newest_commit(source, "complete_to")
    if not said:
        raise ForeshardError("there is no query_load to forecast from; run the aggregate job first")
    origin = datetime.fromisoformat(said["complete_to"])
    version = log.latest_version(source)
    path = LOAD_FORECAST.ensure(spark, settings)
    done = log.newest_commit(path, "input_version")
    inputs = {"origin": origin.isoformat(), "input_version": version, "isolated": sorted(isolated.items())}
    if {key: done.get(key) for key in inputs} == _as_json(inputs) and _is_whole(spark, settings, origin):
        return {"origin": origin.isoformat(), "skipped": "this origin and input are already forecast"}

    load = fleet.with_shard(delta.read(spark, source, version), spark, isolated)
    span = _span(load, settings, origin)
    shards = [*range(settings.slots), *isolated.values()]
    shard_ids = spark.createDataFrame(pa.table({"shard_id": pa.array(shards, pa.int32())}))
    packed = packing.pack(load, shard_ids, span, len(shards)).persist()
    made: DataFrame | None = None
    try:
        learnt = read_learnt(settings)
        options = _options(settings.forecast, span, learnt)
        if options.is_costly:
            options = replace(options, tried=fleet.heaviest(packed, settings.forecast.costly_shards))
        model = fleet.learn(packed, shards, span, options)
        made = fleet.forecast(packed, model).persist()
        rows = fleet.as_load_forecast(made, span, version)
        summary = _forecast_summary(rows, settings)
        require("load_forecast", summary, settings)
        _write_patterns(spark, settings, fleet.intervals(spark, span), isolated, origin)
        _write_calibration(spark, settings, origin, model.pooling)
        z = model.pooling.z
        delta.replace_where(rows, path, _origin_condition(origin), {**inputs, "z": z, **learnt.as_metadata()})
        fallbacks = made.where("fallback_reason <> ''").count()
        return {"origin": origin.isoformat(), "shards": int(summary["shards"].iloc[0]), "fallbacks": fallbacks, "z": z}
    finally:
        packed.unpersist()
        if made is not None:
            made.unpersist()


def _options(asked: ForecastSettings, span: Span, learnt: Learnt) -> Options:
    """What is asked for, and what earlier forecasts taught: levels that follow their coverage, and what to forget after a
    drift. Raises ForeshardError for families that there are not and events that cannot be read."""
    events = Path(asked.events) if asked.events else None
    options = options_of(span.horizon, asked.families, asked.country, asked.zone, events, asked.seed)
    windows = learnt.windows(options.windows, span.origin, span.step * span.horizon)
    return replace(options, windows=windows, levels_used=learnt.levels_used)


def _span(load: DataFrame, settings: Settings, origin: datetime) -> Span:
    history = timedelta(days=settings.forecast.history_days)
    first = packing.first_load(load, origin - history, origin)
    grain = timedelta(minutes=settings.forecast.grain_minutes)
    return span_of(origin, first, grain, history, timedelta(hours=settings.forecast.horizon_hours))


def _as_json(inputs: dict[str, Any]) -> dict[str, Any]:
    return {**inputs, "isolated": [list(pair) for pair in inputs["isolated"]]}


def _is_whole(spark: SparkSession, settings: Settings, origin: datetime) -> bool:
    """Whether the tables that are written before load_forecast still have what was made with it."""
    others = (settings.table(table.name) for table in (QUERY_PATTERN, CALIBRATION_STATE))
    return all(log.newest_commit(path, "origin").get("origin") == origin.isoformat() for path in others)


def _origin_condition(origin: datetime) -> str:
    return f"origin_day = DATE'{origin.date()}' AND origin = TIMESTAMP'{origin.replace(tzinfo=None).isoformat(sep=' ')}'"


def _forecast_summary(rows: DataFrame, settings: Settings) -> pd.DataFrame:
    steps = settings.forecast.horizon_hours * 60 // settings.forecast.grain_minutes
    crossed = (F.col("q05") > F.col("q50")) | (F.col("q50") > F.col("q95")) | (F.col("q95") > F.col("q99"))
    bad = F.col("mean").isNull() | F.isnan("mean") | (F.col("mean") < 0) | F.isnan("q95") | (F.col("spread_own") < 0)
    summary: pd.DataFrame = rows.agg(
        F.countDistinct("shard_id").alias("shards"),
        (F.count("*") - F.countDistinct("shard_id") * steps).alias("missing_steps"),
        F.sum(F.when(crossed, 1).otherwise(0)).alias("crossed_quantiles"),
        F.sum(F.when(bad, 1).otherwise(0)).alias("bad_values"),
        F.avg(F.when(F.col("fallback_reason") != "", 1).otherwise(0)).alias("fallback_share"),
    ).toPandas()
    return summary.assign(missing_shards=settings.slots - summary["shards"].clip(upper=settings.slots))


def _write_patterns(
    spark: SparkSession, settings: Settings, intervals: DataFrame, isolated: dict[str, int], origin: datetime
) -> None:
    observed = fleet.with_shard(delta.read(spark, settings.table("query_pattern_observed")), spark, isolated)
    patterns = query_patterns(observed, intervals, origin).persist()
    try:
        sums = patterns.groupBy("shard_id", "interval_start").agg(F.sum("probability").alias("total"))
        bounds: pd.DataFrame = sums.agg(
            F.count("*").alias("intervals"),
            F.coalesce(F.max(F.abs(F.col("total") - 1)), F.lit(0.0)).alias("worst_sum"),
        ).toPandas()
        lowest = patterns.agg(F.coalesce(F.min("probability"), F.lit(0.0))).first()
        require("query_pattern", bounds.assign(lowest_probability=float(lowest[0])), settings)
        path = QUERY_PATTERN.ensure(spark, settings)
        delta.replace_where(patterns, path, _origin_condition(origin), {"origin": origin.isoformat()})
    finally:
        patterns.unpersist()


def _write_calibration(spark: SparkSession, settings: Settings, origin: datetime, learnt: Pooling) -> None:
    row = {"origin": origin, "z": learnt.z, "coverage": learnt.coverage, "intervals": learnt.errors}
    require("calibration_state", pd.DataFrame([row]), settings)
    rows = spark.createDataFrame([tuple(row.values())], CALIBRATION_STATE.schema)
    where = f"origin = TIMESTAMP'{origin.replace(tzinfo=None).isoformat(sep=' ')}'"
    delta.replace_where(rows, CALIBRATION_STATE.ensure(spark, settings), where, {"origin": origin.isoformat()})
