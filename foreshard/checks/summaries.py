"""Small pandas summaries of staged rows, which is what the suites check: one row per day or hour, whatever the volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from foreshard.settings import Settings

if TYPE_CHECKING:
    from foreshard.usage.products import Product


def _count(condition: Column) -> Column:
    return F.count_if(condition)


def record_summary(rows: DataFrame, settings: Settings) -> pd.DataFrame:
    """Per day of event time: rows, and how many break what later steps rely on."""
    number = "quantity" if "quantity" in rows.columns else "latency_ms"
    missing = F.col("entity_id").isNull() | F.col("service_id").isNull() | F.col("operation_id").isNull()
    summary: pd.DataFrame = (
        rows.groupBy("day")
        .agg(
            F.count("*").alias("rows"),
            _count(missing).alias("rows_without_key"),
            _count(F.col(number).isNull() | (F.col(number) < 0)).alias("rows_with_bad_number"),
            F.min("slot").alias("lowest_slot"),
            (F.max("slot") - F.lit(settings.slots)).alias("highest_slot_below_slots"),
            _count(F.unix_micros("event_time") > F.unix_micros("landed_at") + 86_400_000_000).alias("rows_far_ahead"),
            (F.count("*") - F.countDistinct(F.xxhash64("record_id", "revision"))).alias("repeated_identities"),
        )
        .orderBy("day")
        .toPandas()
    )
    return summary


def quarantine_summary(rows: DataFrame, read: int) -> pd.DataFrame:
    """One row: how many rows are refused, how many of them say neither why nor from where, and their share of `read`."""
    summary: pd.DataFrame = rows.agg(
        F.count("*").alias("rows"),
        F.count_if(F.coalesce("reason", F.lit("")) == "").alias("rows_without_reason"),
        F.count_if(F.col("file_name").isNull() | F.col("file_checksum").isNull()).alias("rows_without_file"),
    ).toPandas()
    return summary.assign(share_of_read=summary["rows"] / read)


def product_summary(rows: DataFrame, product: Product, settings: Settings) -> pd.DataFrame:
    """Per day: rows, slots, the total and bad numbers of one product's staged rows; one row of zeros if there are none."""
    total = {"usage_hourly": "quantity", "query_load": "load", "query_pattern_observed": "requests"}[product.table.name]
    key = [c for c in ("slot", "entity_id", "service_id", "operation_id", "time_interval", product.period) if c in rows.columns]
    summary: pd.DataFrame = (
        rows.groupBy("day")
        .agg(
            F.count("*").alias("rows"),
            _count(F.col("entity_id").isNull() | F.col("slot").isNull()).alias("rows_without_key"),
            _count(F.col(total).isNull() | (F.col(total) < 0)).alias("rows_with_bad_number"),
            F.min("slot").alias("lowest_slot"),
            (F.max("slot") - F.lit(settings.slots)).alias("highest_slot_below_slots"),
            F.sum(total).cast("double").alias("total"),
            (F.count("*") - F.countDistinct(F.xxhash64(*dict.fromkeys(key)))).alias("repeated_keys"),
        )
        .orderBy("day")
        .toPandas()
    )
    if summary.empty:
        summary = pd.DataFrame([dict.fromkeys(summary.columns, 0)]).assign(highest_slot_below_slots=-1)
    return summary
