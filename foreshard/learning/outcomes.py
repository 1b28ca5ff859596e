"""Scores of published forecasts, what is learnt from them, and corrections per node, from what came since.

Scored intervals are those complete since the last run; a run rewrites them whole, so repeating it changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from foreshard.checks.gate import require
from foreshard.errors import ForeshardError
from foreshard.forecast.fleet import with_shard
from foreshard.lake import delta, log
from foreshard.lake.tables import FORECAST_SCORE, LOAD_FORECAST, NODE_CORRECTION
from foreshard.learning.correction import DECAY, HIGHEST, LOWEST, STEP
from foreshard.learning.evaluation import QUANTILES
from foreshard.learning.learnt import learn_of_days
from foreshard.learning.published_skill import measure_skill, read_skill
from foreshard.settings import Settings

CORRECTION_HOURS = 6


def learn(spark: SparkSession, settings: Settings, isolated: dict[str, int]) -> dict[str, Any]:
    """Scores forecasts up to the watermark, learns from the days that are over, and corrects nodes.

    Raises ForeshardError if nothing was aggregated yet.
    """
    said = log.newest_commit(settings.table("query_load"), "complete_to")
    if not said:
        raise ForeshardError("there is no query_load to learn from; run the aggregate job first")
    upto = datetime.fromisoformat(said["complete_to"])
    scored = _score(spark, settings, isolated, upto)
    learnt = learn_of_days(settings, upto)
    found: dict[str, Any] = {"upto": upto.isoformat(), "scored": scored, "skill": measure_skill(settings)}
    corrections = _correct(spark, settings, upto)
    return {**found, "corrected_nodes": len(corrections), "corrections": corrections, **learnt.as_metadata()}


def _score(spark: SparkSession, settings: Settings, isolated: dict[str, int], upto: datetime) -> int:
    path = FORECAST_SCORE.ensure(spark, settings)
    forecasts = settings.table("load_forecast")
    if log.opened(forecasts) is None:
        return 0
    done = log.newest_commit(path, "scored_to").get("scored_to")
    oldest = upto - timedelta(hours=settings.forecast.horizon_hours)
    # Late rows restate intervals already scored, so those within the horizon are scored again; a table made anew is
    # filled from the oldest forecast on.
    start = min(datetime.fromisoformat(done) if done else _first_forecast(spark, forecasts, oldest), oldest)
    rows = scores(spark, settings, isolated, start, upto).persist()
    try:
        summary: pd.DataFrame = rows.agg(
            F.count("*").alias("rows"),
            F.coalesce(F.sum(F.when(F.col("actual").isNull(), 1).otherwise(0)), F.lit(0)).alias("rows_without_actual"),
            F.coalesce(F.sum(F.when(_is_bad(), 1).otherwise(0)), F.lit(0)).alias("bad_values"),
            (F.count("*") - F.countDistinct("shard_id", "interval_start", "origin")).alias("repeated_keys"),
            *[_covered(f"q{level}").alias(f"coverage_{level}") for level in (95, 99)],
        ).toPandas()
        require("forecast_score", summary, settings)
        hours = [start + timedelta(hours=h) for h in range(int((upto - start) / timedelta(hours=1)))]
        where = f"{delta.days_condition([h.date() for h in hours])} AND {delta.hours_condition(hours, 'interval_start')}"
        delta.replace_where(rows, path, where, {"scored_to": upto.isoformat()})
        return int(summary["rows"].iloc[0])
    finally:
        rows.unpersist()


def _is_bad() -> Column:
    """Whether the mean or a quantile is no number, or below zero."""
    bad = [F.col(name).isNull() | F.isnan(name) | (F.col(name) < 0) for name in ("mean", *QUANTILES)]
    return reduce(or_, bad)


def _covered(quantile: str) -> Column:
    """The share of outcomes at or below it, of the forecasts that have a spread; null without any."""
    held = F.when(F.col("actual") <= F.col(quantile), 1.0).otherwise(0.0)
    return F.avg(F.when(F.col("q99") > F.col("q50"), held))


def _first_forecast(spark: SparkSession, path: str, default: datetime) -> datetime:
    first = delta.read(spark, path).agg(F.date_trunc("hour", F.min("interval_start")).alias("first")).first()["first"]
    return first.replace(tzinfo=UTC) if first else default


def scores(spark: SparkSession, settings: Settings, isolated: dict[str, int], start: datetime, upto: datetime) -> DataFrame:
    """Every forecast of the intervals start ≤ t < upto beside what came and what the seasonal naive would have said.

    Loads are weighted requests per second, as they came: an outage counts. `naive` is the load at the same time a week before,
    null if no load is known that old. Columns of `forecast_score`.
    """
    seconds = settings.forecast.grain_minutes * 60
    stored = delta.read(spark, settings.table("query_load"))
    first = stored.agg(F.min("interval_start").alias("first_load"))
    load = with_shard(stored, spark, isolated)
    reach = load.where((F.col("interval_start") >= F.lit(start - timedelta(days=7))) & (F.col("interval_start") < F.lit(upto)))
    rates = reach.groupBy("shard_id", "interval_start").agg((F.sum("load") / seconds).cast("double").alias("rate")).persist()
    week_ago = rates.select(
        "shard_id", (F.col("interval_start") + F.expr("INTERVAL 7 DAYS")).alias("interval_start"), F.col("rate").alias("naive")
    )
    due = (F.col("interval_start") >= F.lit(start)) & (F.col("interval_start") < F.lit(upto))
    forecasts = delta.read(spark, LOAD_FORECAST.ensure(spark, settings)).where(due)
    keys = ["shard_id", "interval_start"]
    steps = (F.unix_timestamp("interval_start") - F.unix_timestamp("origin")) / seconds + 1
    joined = forecasts.join(rates, keys, "left").join(week_ago, keys, "left").crossJoin(F.broadcast(first))
    has_naive = F.col("interval_start") - F.expr("INTERVAL 7 DAYS") >= F.col("first_load")
    return joined.select(
        *keys,
        "origin",
        "model",
        steps.cast("int").alias("horizon_steps"),
        F.coalesce("rate", F.lit(0.0)).alias("actual"),
        "mean",
        *QUANTILES,
        F.when(has_naive, F.coalesce("naive", F.lit(0.0))).alias("naive"),
        F.to_date("interval_start").alias("day"),
    )


def _correct(spark: SparkSession, settings: Settings, upto: datetime) -> dict[str, float]:
    """Node → its correction from now on, of the nodes that were asked lately: what they had to do, beside what was predicted.

    That is load × time per query, as in foreshard.learning.correction, but against the forecast and not against the pool:
    planners divide capacities by it. A query's time counts beside those of its operation and age class at all nodes.
    """
    path = NODE_CORRECTION.ensure(spark, settings)
    since = upto - timedelta(hours=CORRECTION_HOURS)
    queries = delta.read(spark, settings.table("query_record")).where(
        F.col("day").between(since.date(), upto.date())
        & (F.col("event_time") >= F.lit(since))
        & (F.col("event_time") < F.lit(upto))
        & (F.col("predicted_load") > 0)
    )
    alike = Window.partitionBy("operation_id", "age_class")
    usual = F.when(F.col("status") == 200, F.avg(F.when(F.col("status") == 200, F.col("latency_ms"))).over(alike))
    seen = (
        queries.withColumn("usual_ms", usual)
        .groupBy("node_id")
        .agg(
            F.avg("load_after").alias("load"),
            F.avg("predicted_load").alias("predicted"),
            F.sum(F.when(F.col("usual_ms") > 0, F.col("latency_ms"))).alias("took"),
            F.sum(F.when(F.col("usual_ms") > 0, F.col("usual_ms"))).alias("usual"),
            F.count("*").alias("queries"),
        )
    )
    # What gateways expect of a node is shrunk toward even by the forecast's skill, and so is what they send it.
    skill, whole = F.lit(read_skill(settings)), Window.partitionBy(F.lit(0))
    trusted = skill * F.col("predicted") + (1 - skill) * F.avg("predicted").over(whole)
    seen = seen.withColumn("ratio", F.col("load") / trusted * F.coalesce(F.col("took") / F.col("usual"), F.lit(1.0)))
    newest = Window.partitionBy("node_id").orderBy(F.col("origin").desc())
    before = (
        delta.read(spark, path)
        .where(F.col("origin") < F.lit(upto))
        .withColumn("rank", F.row_number().over(newest))
        .where("rank = 1")
        .select("node_id", F.col("correction").alias("previous"))
    )
    decayed = 1 + (F.coalesce("previous", F.lit(1.0)) - 1) * DECAY
    step = F.greatest(F.lit(-STEP), F.least(F.lit(STEP), F.col("ratio") - decayed))
    corrected = seen.join(before, "node_id", "left").select(
        "node_id",
        F.lit(upto).alias("origin"),
        F.greatest(F.lit(LOWEST), F.least(F.lit(HIGHEST), decayed + step)).alias("correction"),
        "queries",
        F.lit(upto.date()).alias("day"),
    )
    rows = corrected.persist()
    try:
        summary: pd.DataFrame = rows.select("node_id", "correction", "queries").toPandas()
        require("node_correction", summary, settings)
        where = f"day = DATE'{upto.date()}' AND origin = TIMESTAMP'{upto.replace(tzinfo=None).isoformat(sep=' ')}'"
        delta.replace_where(rows, path, where, {"corrected_to": upto.isoformat()})
        return {str(n): float(c) for n, c in zip(summary["node_id"], summary["correction"], strict=True)}
    finally:
        rows.unpersist()
