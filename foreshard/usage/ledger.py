"""Appending to a record table, which is the ledger: a row counts once, whatever is landed, retried or run twice.

Two rows are the same if they have the same record id and revision. A row that repeats one is counted and dropped; a higher
revision is appended and supersedes the lower when the products are made. Revisions keep their event time to within the
lateness, so only that many days of the table are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from foreshard.checks.gate import require
from foreshard.checks.summaries import quarantine_summary
from foreshard.lake import delta
from foreshard.lake.tables import QUARANTINE
from foreshard.settings import Settings
from foreshard.usage.records import RecordKind

_IDENTITY = ["record_id", "revision"]


@dataclass(frozen=True)
class AppendCounts:
    """Rows of one run: read = accepted + duplicates + quarantined."""

    read: int
    accepted: int
    duplicates: int
    quarantined: int


@contextmanager
def new_records(
    spark: SparkSession, rows: DataFrame, kind: RecordKind, settings: Settings, first: date, last: date
) -> Iterator[DataFrame]:
    """Within the block: the rows that are not in the record table yet, one for each identity, the one that landed first.

    `first` and `last` bound the rows' days. Only identities are shuffled, not rows: repetitions are few, so that they can
    be broadcast to where the rows are.
    """
    reach = timedelta(days=settings.lateness_days)
    table = delta.read(spark, settings.table(kind.name)).where(F.col("day").between(first - reach, last + reach))
    identities = rows.select(*_IDENTITY)
    known = identities.join(table.select(*_IDENTITY), _IDENTITY, "left_semi").distinct().persist()
    repeated = identities.groupBy(*_IDENTITY).count().where("count > 1").select(*_IDENTITY).persist()
    unknown = rows.join(F.broadcast(known), _IDENTITY, "left_anti")
    once = unknown.join(F.broadcast(repeated), _IDENTITY, "left_anti")
    earliest = Window.partitionBy(*_IDENTITY).orderBy("landed_at", "file_name", "file_row")
    several = unknown.join(F.broadcast(repeated), _IDENTITY, "left_semi").withColumn("rank", F.row_number().over(earliest))
    try:
        yield once.unionByName(several.where("rank = 1").drop("rank"))
    finally:
        known.unpersist()
        repeated.unpersist()


def append_quarantine(spark: SparkSession, rows: DataFrame, settings: Settings, read: int) -> int:
    """Adds the rows that quarantine does not hold yet (by file checksum, table and row); returns how many it added.

    `read`: how many rows were read in all. Raises QualityError if a row lacks its file or its reason.
    """
    path = QUARANTINE.ensure(spark, settings)
    key = ["table_name", "file_checksum", "file_row"]
    known = delta.read(spark, path).select(*key)
    new = rows.dropDuplicates(key).join(known, key, "left_anti").persist()
    try:
        summary = quarantine_summary(new, read)
        count = int(summary["rows"].iloc[0])
        if count:
            require(QUARANTINE.name, summary, settings)
            delta.append(new.select(*QUARANTINE.schema.names), path, {"quarantined": count})
        return count
    finally:
        new.unpersist()


def current_records(spark: SparkSession, kind: RecordKind, settings: Settings, version: int, days: Iterable[date]) -> DataFrame:
    """The records of these days at one version of the table, without those that a higher revision supersedes."""
    table = delta.read(spark, settings.table(kind.name), version)
    rows = table.where(delta.days_condition(list(days)))
    near = {day + timedelta(days=shift) for day in days for shift in range(-settings.lateness_days, settings.lateness_days + 1)}
    # Only rows with a revision can supersede; they are few, and file statistics skip the files without any.
    revised = table.where(delta.days_condition(sorted(near))).where("revision > 0")
    newest = revised.groupBy("record_id").agg(F.max("revision").alias("newest_revision"))
    superseded = (F.col("newest.record_id") == F.col("rows.record_id")) & (F.col("newest_revision") > F.col("rows.revision"))
    return rows.alias("rows").join(newest.alias("newest"), superseded, "left_anti")
