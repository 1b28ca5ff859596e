"""What a shard's queries will ask for: the shares of the last days, told apart by working days and weekends."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from foreshard.lake.tables import QUERY_PATTERN

PATTERNS_PER_SHARD = 20
PATTERN_DAYS = 7
# The shares of a kind of day count as if all days had been seen this many times beside it.
_PRIOR_REQUESTS = 200.0
_PATTERN = ("entity_id", "service_id", "operation_id")


def query_patterns(observed: DataFrame, intervals: DataFrame, origin: datetime) -> DataFrame:
    """Probabilities of what a query of a shard asks for in each of `intervals`; columns of `query_pattern`.

    `observed`: query_pattern_observed with `shard_id`; its shares by weekday or weekend (UTC) are shrunk to those of all days.
    The most frequent patterns are named and the rest is one row per age class with empty names. Those of one shard and
    interval sum to 1; a shard without queries has none.
    """
    first = (origin - timedelta(days=PATTERN_DAYS)).date()
    is_weekend = _is_weekend(F.col("day"))
    counted = observed.where(F.col("day") >= F.lit(first)).groupBy("shard_id", *_PATTERN, "time_interval")
    weekend = F.sum(F.when(is_weekend, F.col("requests")).otherwise(0))
    counts = counted.agg(F.sum("requests").alias("n"), weekend.alias("weekend"))
    by_count = Window.partitionBy("shard_id").orderBy(F.col("n").desc(), *_PATTERN, "time_interval")
    ranked = counts.withColumn("kept", F.row_number().over(by_count) <= PATTERNS_PER_SHARD)
    named = [F.when(F.col("kept"), F.col(c)).otherwise("").alias(c) for c in _PATTERN]
    folded = ranked.select("shard_id", "time_interval", "n", "weekend", *named)
    summed = folded.groupBy("shard_id", *_PATTERN, "time_interval").agg(
        F.sum("n").cast("double").alias("n"), F.sum("weekend").cast("double").alias("weekend")
    )
    due = intervals.withColumn("is_weekend", _is_weekend(F.to_date("interval_start")))
    columns = [F.lit(origin).alias("origin") if name == "origin" else F.col(name) for name in QUERY_PATTERN.schema.names[:-1]]
    shares = _shares(summed).join(F.broadcast(due), "is_weekend")
    return shares.select(*columns, F.lit(origin.date()).alias("origin_day"))


def _is_weekend(day: Any) -> Any:
    return F.weekday(day) >= 5


def _shares(summed: DataFrame) -> DataFrame:
    """Each pattern's probability, a row for working days and one for weekends."""
    whole = Window.partitionBy("shard_id")
    overall = F.col("n") / F.sum("n").over(whole)
    told = []
    for is_weekend, seen in ((False, F.col("n") - F.col("weekend")), (True, F.col("weekend"))):
        share = (seen + _PRIOR_REQUESTS * overall) / (F.sum(seen).over(whole) + _PRIOR_REQUESTS)
        told.append(F.struct(F.lit(is_weekend).alias("is_weekend"), share.alias("probability")))
    kept = summed.select("shard_id", *_PATTERN, "time_interval", F.array(*told).alias("told"))
    each = kept.select("shard_id", *_PATTERN, "time_interval", F.explode("told").alias("of"))
    return each.select("shard_id", *_PATTERN, "time_interval", "of.is_weekend", "of.probability")
