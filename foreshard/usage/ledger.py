"""Appending to a record table, which is the ledger: a row counts once, whatever is landed, retried or run twice.

Two rows are the same if they have the same record id and revision. Of those that come in one run the first to land is kept;
a row that the table has is dropped; a higher revision is appended and supersedes the lower when the products are made.
The rows are written once, as staged files, and become part of the table by a commit that fails if anyone else committed
since the run began.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from foreshard.checks.gate import require
from foreshard.checks.rows import require_rows
from foreshard.checks.summaries import quarantine_summary, record_metrics, record_summary
from foreshard.errors import ForeshardError
from foreshard.lake import delta
from foreshard.lake.log import Snapshot
from foreshard.lake.staging import Staged, staged
from foreshard.lake.tables import QUARANTINE
from foreshard.settings import Settings
from foreshard.usage.hours import around, as_runs, collected, from_bitmap, hours_seen
from foreshard.usage.records import RecordKind, record_rows, refused

HOURS = "hours"
_IDENTITY = ["record_id", "revision"]
_USUAL_DELAY = timedelta(hours=2)


@dataclass(frozen=True)
class AppendCounts:
    """Rows of one run: read = accepted + duplicates + quarantined."""

    read: int
    accepted: int
    duplicates: int
    quarantined: int


@dataclass(frozen=True)
class Landed:
    """The landing hours that a run takes in, those of them without any file, and the usual rows (None if unknown)."""

    hours: Sequence[datetime]
    missing_hours: int = 0
    usual_rows: float | None = None


@dataclass(frozen=True)
class _Batch:
    """The run that the rows come in, and its record table as it was when the run began."""

    spark: SparkSession
    settings: Settings
    kind: RecordKind
    before: Snapshot
    landed: Landed

    def newest_hour(self) -> datetime:
        """No accepted event is later."""
        return max(self.landed.hours) + timedelta(hours=1, minutes=self.settings.future_tolerance_minutes)


def append(
    spark: SparkSession, read: DataFrame, kind: RecordKind, settings: Settings, landed: Landed, before: Snapshot
) -> AppendCounts:
    """Quarantines the refused rows of `records.read_lines` and appends the accepted ones that `before` does not have yet.

    The commit says which event hours it touches. Raises QualityError if a critical expectation fails, ForeshardError if
    another writer committed meanwhile; then nothing is appended.
    """
    batch = _Batch(spark, settings, kind, before, landed)
    seen, kept = Observation(), Observation()
    counted = read.observe(seen, F.count(F.lit(1)).alias("read"), F.count_if(~F.col("good")).alias("bad"))
    # Nearly all events are of the hour that they landed in or the one before.
    compared = around(landed.hours, timedelta(hours=settings.repeat_reach_hours) + _USUAL_DELAY)
    rows = _new_rows(record_rows(counted, kind, settings), _known(batch, compared), kept, kind)
    with staged(rows, before.path, kind.table) as written:
        totals, metrics = delta.observed(seen), delta.observed(kept)
        total, bad = int(totals.get("read", 0)), int(totals.get("bad", 0))
        if bad:
            _append_quarantine(batch, refused(written.read_apart(spark), kind, settings), total)
        if not written.rows:
            return _counted(batch, written, metrics, total, bad)
        beyond = _known(batch, sorted(_reached(batch, metrics) - set(compared)))
        if beyond is None:
            return _commit(batch, written, metrics, total, bad)
        again = Observation()
        new = _new_rows(written.read(spark), beyond, again, kind)
        with staged(new, before.path, kind.table) as rest:
            repeats = int(metrics["repeats"])
            metrics = delta.observed(again)
            metrics["repeats"] = int(metrics["repeats"]) + repeats
            return _commit(batch, rest, metrics, total, bad)


def _new_rows(rows: DataFrame, known: DataFrame | None, kept: Observation, kind: RecordKind) -> DataFrame:
    """Of each identity that is not known the row that landed first; `kept` observes those and counts the repeats."""
    # Of two that landed in one hour and differ, which is kept must not depend on the files that they came in.
    content = F.xxhash64(*[field.name for field in kind.fields])
    earliest = Window.partitionBy(*_IDENTITY).orderBy("landed_at", content, "file_name", "file_row")
    ranked = rows.withColumn("rank", F.row_number().over(earliest))
    is_new = F.col("rank") == 1
    if known is not None:
        ranked = ranked.join(known.distinct().withColumn("known", F.lit(True)), _IDENTITY, "left")
        is_new = is_new & F.col("known").isNull()
    is_good = F.col("day").isNotNull()
    observed = ranked.observe(kept, F.count_if(is_good & ~is_new).alias("repeats"), *_metrics(kind, is_good & is_new))
    return observed.where(is_new).select(*rows.columns)


def _metrics(kind: RecordKind, kept: Column) -> list[Column]:
    return [
        hours_seen(F.when(kept, F.col("event_time"))).alias(HOURS),
        F.count_if(kept & (F.col("revision") > 0)).alias("revised"),
        *record_metrics(kind.name, kept),
    ]


def _reached(batch: _Batch, metrics: dict[str, Any]) -> set[datetime]:
    """The event hours in which the table may have a row that one of the written repeats.

    A repeated row keeps its event time to within `repeat_reach_hours`, and one with a revision to within the lateness.
    """
    reach = timedelta(hours=batch.settings.repeat_reach_hours)
    if metrics["revised"]:
        reach = max(reach, timedelta(days=batch.settings.lateness_days))
    return set(around(from_bitmap(metrics[HOURS], batch.newest_hour()), reach))


def _known(batch: _Batch, hours: Sequence[datetime]) -> DataFrame | None:
    """The identities of the table's rows of these event hours; None if it has no file with such rows."""
    rows = delta.rows_of_hours(batch.spark, batch.before, batch.kind.table.schema, hours, "event_time")
    return None if rows is None else rows.select(*_IDENTITY)


def _counted(batch: _Batch, written: Staged, metrics: dict[str, Any], total: int, bad: int) -> AppendCounts:
    """Raises ForeshardError if rows were written that are in no file: before anything is taken for a repetition."""
    counts = AppendCounts(total, written.rows, int(metrics.get("repeats", 0)), bad)
    missing = counts.read - counts.accepted - counts.duplicates - counts.quarantined
    if missing:
        raise ForeshardError(f"{batch.kind.name}: {missing} of {total} rows read are not accounted for; nothing was committed")
    return counts


def _commit(batch: _Batch, written: Staged, metrics: dict[str, Any], total: int, bad: int) -> AppendCounts:
    counts = _counted(batch, written, metrics, total, bad)
    if not written.rows:
        return counts
    landed = batch.landed
    summary = record_summary(metrics, asdict(counts), landed.usual_rows, landed.missing_hours, batch.settings)
    require(batch.kind.name, summary, batch.settings)
    require_rows(batch.kind.name, written.read(batch.spark), batch.settings)
    hours = set(from_bitmap(metrics[HOURS], batch.newest_hour()))
    if metrics["revised"]:
        hours |= _superseded_hours(batch, written, hours)
    written.commit(batch.before, {"appended": written.rows, HOURS: as_runs(hours)})
    return counts


def _superseded_hours(batch: _Batch, written: Staged, hours: Iterable[datetime]) -> set[datetime]:
    """The event hours of the table's rows that the written ones supersede."""
    reach = timedelta(days=batch.settings.lateness_days)
    files = list(batch.before.files({hour.date() for hour in around(hours, reach)}))
    if not files:
        return set()
    known = delta.rows_of_files(batch.spark, batch.before, batch.kind.table.schema, files, "event_time")
    superseding = written.read(batch.spark).where("revision > 0").select("record_id")
    return collected(known.join(superseding, "record_id", "left_semi"))


def _append_quarantine(batch: _Batch, rows: DataFrame, read: int) -> None:
    """Adds the rows that quarantine does not hold yet (by file checksum, table and row).

    Raises QualityError if a row lacks its file or its reason.
    """
    path = QUARANTINE.ensure(batch.spark, batch.settings)
    key = ["table_name", "file_checksum", "file_row"]
    known = delta.read(batch.spark, path).where(F.col("table_name") == batch.kind.name).select(*key)
    new = rows.dropDuplicates(key).join(known, key, "left_anti").persist()
    try:
        summary = quarantine_summary(new, read)
        count = int(summary["rows"].iloc[0])
        if count:
            require(QUARANTINE.name, summary, batch.settings)
            delta.append(new.select(*QUARANTINE.schema.names), path, {"quarantined": count})
    finally:
        new.unpersist()


def current_records(
    spark: SparkSession, kind: RecordKind, settings: Settings, source: Snapshot, hours: Sequence[datetime]
) -> DataFrame:
    """The records of these event hours at one version of the table, without those that a higher revision supersedes."""
    schema = kind.table.schema
    rows = delta.rows_of_hours(spark, source, schema, hours, "event_time")
    if rows is None:
        return spark.createDataFrame([], schema)
    days = {hour.date() for hour in hours}
    near = {day + timedelta(days=shift) for day in days for shift in range(-settings.lateness_days, settings.lateness_days + 1)}
    # Only rows with a revision can supersede: where no file holds any, there is nothing to look up.
    files = [file for file in source.files(near) if file.may_exceed("revision", 0)]
    if not files:
        return rows
    revised = delta.rows_of_files(spark, source, schema, files, "event_time").where("revision > 0")
    newest = revised.groupBy("record_id").agg(F.max("revision").alias("newest_revision"))
    superseded = (F.col("newest.record_id") == F.col("rows.record_id")) & (F.col("newest_revision") > F.col("rows.revision"))
    return rows.alias("rows").join(newest.alias("newest"), superseded, "left_anti")
