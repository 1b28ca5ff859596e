"""What the suites check of staged rows: one row of figures, gathered while the rows are written, whatever the volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from foreshard.settings import Settings

# A file of a few rows says nothing about the producer, however many of them are refused.
MANY = 100
_NUMBER = {"usage_record": "quantity", "query_record": "latency_ms"}
_TOTAL = {"usage_hourly": "quantity", "query_load": "load", "query_pattern_observed": "requests"}


def record_metrics(table: str, kept: Column) -> list[Column]:
    """Aggregates over the record rows for which `kept` holds; their values go to `record_summary`."""
    missing = F.col("entity_id").isNull() | F.col("service_id").isNull() | F.col("operation_id").isNull()
    number = F.col(_NUMBER[table])
    age = F.unix_micros("landed_at") - F.unix_micros("event_time")
    # A file lands at the end of its hour: its events should be of that hour.
    skewed = (age < 0) | (age > 2 * 3_600_000_000)
    return [
        F.count_if(kept & missing).alias("rows_without_key"),
        F.count_if(kept & (number.isNull() | (number < 0))).alias("rows_with_bad_number"),
        F.min(F.when(kept, F.col("slot"))).alias("lowest_slot"),
        F.max(F.when(kept, F.col("slot"))).alias("highest_slot"),
        F.count_if(kept & (age < -86_400_000_000)).alias("rows_far_ahead"),
        F.count_if(kept & skewed).alias("skewed"),
    ]


def record_summary(
    metrics: Mapping[str, Any], counts: Mapping[str, int], usual_rows: float | None, missing_hours: int, settings: Settings
) -> pd.DataFrame:
    """One row: what of the accepted rows would break later steps, and whether every row read is accounted for.

    `counts`: read, accepted, duplicates, quarantined. `usual_rows`: of the same hour of past weeks, None if unknown.
    """
    read, rows = counts["read"], counts["accepted"]
    share = counts["quarantined"] / read if read else 0.0
    return pd.DataFrame(
        [
            {
                "rows": rows,
                "rows_without_key": metrics["rows_without_key"],
                "rows_with_bad_number": metrics["rows_with_bad_number"],
                "rows_far_ahead": metrics["rows_far_ahead"],
                **_slots(metrics, settings),
                **counts,
                "unreconciled": read - rows - counts["duplicates"] - counts["quarantined"],
                "quarantined_share": share,
                "quarantined_share_of_many": share if read >= MANY else 0.0,
                "skewed_share": metrics["skewed"] / rows if rows else 0.0,
                "volume_ratio": (read - counts["quarantined"]) / usual_rows if usual_rows else None,
                "missing_hours": missing_hours,
            }
        ]
    ).astype({"volume_ratio": "float64"})


def _slots(metrics: Mapping[str, Any], settings: Settings) -> dict[str, int]:
    lowest, highest = metrics.get("lowest_slot"), metrics.get("highest_slot")
    if lowest is None or highest is None:
        return {"lowest_slot": 0, "highest_slot_below_slots": -1}
    return {"lowest_slot": lowest, "highest_slot_below_slots": highest - settings.slots}


def quarantine_summary(rows: DataFrame, read: int) -> pd.DataFrame:
    """One row: how many rows are refused, how many of them say neither why nor from where, and their share of `read`."""
    summary: pd.DataFrame = rows.agg(
        F.count("*").alias("rows"),
        F.count_if(F.coalesce("reason", F.lit("")) == "").alias("rows_without_reason"),
        F.count_if(F.col("file_name").isNull() | F.col("file_checksum").isNull()).alias("rows_without_file"),
    ).toPandas()
    return summary.assign(share_of_read=summary["rows"] / read)


def product_metrics(table: str) -> list[Column]:
    """Aggregates over the rows of a table made from records; their values go to `product_summary`."""
    total = F.col(_TOTAL[table])
    return [
        F.count(F.lit(1)).alias("rows"),
        F.count_if(F.col("entity_id").isNull() | F.col("slot").isNull()).alias("rows_without_key"),
        F.count_if(total.isNull() | (total < 0)).alias("rows_with_bad_number"),
        F.min("slot").alias("lowest_slot"),
        F.max("slot").alias("highest_slot"),
        F.sum(total).alias("total"),
    ]


def product_summary(
    metrics: Mapping[str, Any], records_total: Any, landed: Sequence[datetime], found: set[datetime], settings: Settings
) -> pd.DataFrame:
    """One row: rows, total and bad values, what of the records' total is not in it, and the landed hours without a row.

    `landed`: the run's landing hours. `found`: the event hours of the records that the rows were made from.
    """
    total = metrics.get("total") or 0
    return pd.DataFrame(
        [
            {
                "rows": metrics.get("rows", 0),
                "rows_without_key": metrics.get("rows_without_key", 0),
                "rows_with_bad_number": metrics.get("rows_with_bad_number", 0),
                **_slots(metrics, settings),
                "total": float(total),
                "unreconciled_total": float(total - (records_total or 0)),
                "missing_hours": sum(hour not in found for hour in landed),
            }
        ]
    )
