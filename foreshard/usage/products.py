"""The tables made from the records: each is a pure function of one version of a record table, hour by hour or day by day."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from foreshard.lake.tables import QUERY_LOAD, QUERY_PATTERN_OBSERVED, USAGE_HOURLY, Table
from foreshard.settings import Settings
from foreshard.usage.latency_histogram import GAMMA
from foreshard.usage.records import QUERIES, USAGE, RecordKind

# An entity is kept apart in query_load only if it is also a visible part of its slot's load in the interval.
HEAVY_SHARE = 1 / 32
PATTERNS_KEPT = 100
_SUMS = ("requests", "load", "bytes", "errors")


@dataclass(frozen=True)
class Product:
    """A table made from a record table; `period` is the column by which it is rewritten (whole hours or days).

    The sum of `amount` over the records is the sum of what `make` makes of them.
    """

    table: Table
    source: RecordKind
    period: str
    make: Callable[[DataFrame, Settings], DataFrame]
    amount: Callable[[Settings], Column]


def usage_hourly(records: DataFrame, settings: Settings) -> DataFrame:
    keys = ["entity_id", "service_id", "operation_id", "hour"]
    hourly = records.withColumn("hour", F.date_trunc("hour", "event_time")).groupBy(*keys, "slot")
    return hourly.agg(F.sum("quantity").alias("quantity"), F.count("*").alias("events")).select(
        *keys,
        "slot",
        F.col("quantity").cast("decimal(28,6)"),
        "events",
        F.to_date("hour").alias("day"),
    )


def query_load(records: DataFrame, settings: Settings) -> DataFrame:
    seconds = settings.forecast.grain_minutes * 60
    interval = F.timestamp_seconds(F.floor(F.unix_timestamp("event_time") / seconds) * seconds)
    bucket = F.ceil(F.log(F.greatest(F.col("latency_ms"), F.lit(1e-3))) / math.log(GAMMA)).cast("int")
    keys = ["slot", "interval_start"]
    per_bucket = (
        records.withColumn("interval_start", interval)
        .groupBy(*keys, "entity_id", bucket.alias("bucket"))
        .agg(
            F.count("*").alias("requests"),
            F.sum(_cost_column(settings)).alias("load"),
            F.sum("bytes").alias("bytes"),
            F.sum(F.when(F.col("status") >= 500, 1).otherwise(0)).alias("errors"),
        )
    )
    folded = per_bucket.withColumn("entity_id", F.when(_is_heavy(keys, settings), F.col("entity_id")).otherwise(""))
    merged = folded.groupBy(*keys, "entity_id", "bucket").agg(*[F.sum(c).alias(c) for c in _SUMS])
    histogram = F.array_sort(F.collect_list(F.struct("bucket", "requests")))
    whole = merged.groupBy(*keys, "entity_id").agg(*[F.sum(c).alias(c) for c in _SUMS], histogram.alias("latency_histogram"))
    return whole.select(
        "slot",
        "entity_id",
        "interval_start",
        "requests",
        F.col("load").cast("decimal(20,6)"),
        F.col("bytes").cast("bigint"),
        F.col("errors").cast("bigint"),
        "latency_histogram",
        F.to_date("interval_start").alias("day"),
    )


def _cost_column(settings: Settings) -> Column:
    cost = F.lit(1).cast("decimal(12,6)")
    for operation, value in sorted(settings.operation_cost.items()):
        cost = F.when(F.col("operation_id") == operation, F.lit(str(value)).cast("decimal(12,6)")).otherwise(cost)
    return cost


def _is_heavy(keys: list[str], settings: Settings) -> Column:
    """Of rows per entity and bucket: whether the entity is one of its slot's largest in the interval."""
    per_entity = F.sum("load").over(Window.partitionBy(*keys, "entity_id"))
    share = per_entity / F.sum("load").over(Window.partitionBy(*keys))
    rank = F.dense_rank().over(Window.partitionBy(*keys).orderBy(per_entity.desc(), "entity_id"))
    return (rank <= settings.heavy_hitters) & (share >= HEAVY_SHARE)


def query_pattern_observed(records: DataFrame, settings: Settings) -> DataFrame:
    pattern = ["entity_id", "service_id", "operation_id"]
    keys = ["slot", "time_interval", "day"]
    counted = records.withColumn("time_interval", F.col("age_class")).groupBy(*keys, *pattern).agg(F.count("*").alias("n"))
    by_count = Window.partitionBy(*keys).orderBy(F.col("n").desc(), *pattern)
    ranked = counted.withColumn("kept", F.row_number().over(by_count) <= PATTERNS_KEPT)
    folded = ranked.select(*keys, "n", *[F.when(F.col("kept"), F.col(c)).otherwise("").alias(c) for c in pattern])
    return (
        folded.groupBy(*keys, *pattern)
        .agg(F.sum("n").alias("requests"))
        .select("slot", *pattern, "time_interval", "requests", "day")
    )


PRODUCTS = (
    Product(USAGE_HOURLY, USAGE, "hour", usage_hourly, lambda settings: F.col("quantity")),
    Product(QUERY_LOAD, QUERIES, "interval_start", query_load, lambda settings: _cost_column(settings)),
    Product(QUERY_PATTERN_OBSERVED, QUERIES, "day", query_pattern_observed, lambda settings: F.lit(1)),
)
