"""One aggregation: landing hours → records → products, restartable at every commit.

Appending to a record table is the only step that depends on landing files. What follows depends on the record table's
versions alone: each product's commit names the record version it applied, and the next run rewrites the periods that the
versions since then touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foreshard.checks.gate import require
from foreshard.checks.summaries import product_summary, record_summary
from foreshard.lake import delta
from foreshard.lake.tables import QUARANTINE
from foreshard.settings import Settings
from foreshard.usage import landing
from foreshard.usage.landing import LandingFile
from foreshard.usage.ledger import AppendCounts, append_quarantine, current_records, new_records
from foreshard.usage.products import PRODUCTS, Product
from foreshard.usage.records import KINDS, RecordKind, accepted, read_lines, refused


@dataclass(frozen=True)
class AggregateResult:
    """What one aggregation did: counts and files (hour/name) per record table, rewritten rows and new version per product."""

    counts: dict[str, AppendCounts]
    files: dict[str, list[str]]
    rewritten: dict[str, int]
    versions: dict[str, int]

    def as_document(self) -> dict[str, Any]:
        return {
            "counts": {name: asdict(c) for name, c in self.counts.items()},
            "files": {name: len(f) for name, f in self.files.items()},
            "rewritten": self.rewritten,
            "versions": self.versions,
        }


def aggregate(spark: SparkSession, settings: Settings, start: datetime, end: datetime) -> AggregateResult:
    """Takes in the files landed in start ≤ hour < end and brings every product up to date.

    Raises QualityError before the commit of a table whose critical expectations fail.
    """
    # Two writers that both find it missing would both make it, and one would fail.
    QUARANTINE.ensure(spark, settings)
    # The two logs share no table but quarantine, whose rows name their log: side by side, they keep two cores busy.
    with ThreadPoolExecutor(len(KINDS)) as side_by_side:
        parts = list(side_by_side.map(lambda kind: _aggregate_kind(spark, settings, kind, start, end), KINDS))
    return AggregateResult(
        {kind.name: part.counts for kind, part in zip(KINDS, parts, strict=True)},
        {kind.name: part.files for kind, part in zip(KINDS, parts, strict=True)},
        {name: rows for part in parts for name, rows in part.rewritten.items()},
        {name: version for part in parts for name, version in part.versions.items()},
    )


@dataclass(frozen=True)
class _Part:
    counts: AppendCounts
    files: list[str]
    rewritten: dict[str, int]
    versions: dict[str, int]


def _aggregate_kind(spark: SparkSession, settings: Settings, kind: RecordKind, start: datetime, end: datetime) -> _Part:
    files = landing.files(spark, settings.landing_folder(kind.name), start, end)
    counts = _take_in(spark, settings, kind, files)
    source_version = delta.latest_version(settings.table(kind.name))
    rewritten, versions = {}, {}
    for product in (p for p in PRODUCTS if p.source is kind):
        rewritten[product.table.name] = _bring_up_to_date(spark, settings, product, source_version, start, end)
        versions[product.table.name] = delta.latest_version(settings.table(product.table.name))
    return _Part(counts, [file.name for file in files], rewritten, versions)


def _take_in(spark: SparkSession, settings: Settings, kind: RecordKind, files: list[LandingFile]) -> AppendCounts:
    path = kind.table.ensure(spark, settings)
    if not files:
        return AppendCounts(0, 0, 0, 0)
    lines = read_lines(landing.lines(spark, files), kind, settings).persist()
    try:
        day = F.when(F.col("good"), F.to_date("event_time"))
        totals = lines.agg(
            F.count("*").alias("read"),
            F.count_if(~F.col("good")).alias("bad"),
            F.min(day).alias("first"),
            F.max(day).alias("last"),
        ).first()
        read, bad = int(totals["read"]), int(totals["bad"])
        if bad:
            append_quarantine(spark, refused(lines, kind, settings), settings, read)
        if read == bad:
            return AppendCounts(read, 0, 0, bad)
        good = accepted(lines, kind, settings)
        with new_records(spark, good, kind, settings, totals["first"], totals["last"]) as rows:
            fresh = _append(rows, kind, path, settings)
        return AppendCounts(read, fresh, read - bad - fresh, bad)
    finally:
        lines.unpersist()


def _append(rows: DataFrame, kind: RecordKind, path: str, settings: Settings) -> int:
    """Checks the rows and appends them; they are made twice from persisted lines, which is cheaper than persisting them too."""
    summary = record_summary(rows, settings)
    count = int(summary["rows"].sum())
    if count:
        require(kind.name, summary, settings)
        delta.append(delta.packed_by_day(rows), path, {"appended": count})
    return count


def _bring_up_to_date(
    spark: SparkSession, settings: Settings, product: Product, version: int, start: datetime, end: datetime
) -> int:
    path = product.table.ensure(spark, settings)
    said = delta.commit_metadata(path, "record_version")
    record_table = delta.table_id(settings.table(product.source.name))
    # Versions of a record table that was made anew say nothing about what was applied of the old one: all is rebuilt.
    applied = int(said["record_version"]) if said.get("record_table") == record_table else -1
    touched = touched_hours(spark, settings, product.source, applied, version)
    hours = sorted({*touched, *landing.hours(start, end)})
    condition = _condition(product, hours)
    records = current_records(spark, product.source, settings, version, {hour.date() for hour in hours})
    rows = product.make(records, settings).where(condition).persist()
    try:
        summary = product_summary(rows, product, settings)
        require(product.table.name, summary, settings)
        complete = max(said.get("complete_to", ""), end.isoformat())
        commit = {"record_version": version, "record_table": record_table, "complete_to": complete}
        sorted_rows = delta.packed_by_day(rows).sortWithinPartitions("day", "slot", "entity_id")
        delta.replace_where(sorted_rows, path, condition, commit)
        return int(summary["rows"].sum())
    finally:
        rows.unpersist()


def _condition(product: Product, hours: Sequence[datetime]) -> str:
    days = delta.days_condition([hour.date() for hour in hours])
    if product.period == "day":
        return days
    return f"{days} AND {delta.hours_condition(hours, product.period)}"


def touched_hours(spark: SparkSession, settings: Settings, kind: RecordKind, applied: int, version: int) -> list[datetime]:
    """The event hours of the records appended after version `applied`, and of the records that they supersede."""
    if version <= applied:
        return []
    path = settings.table(kind.name)
    new = delta.read(spark, path, version) if applied < 0 else delta.changed_rows(spark, path, applied, version)
    hours = new.select(F.date_trunc("hour", "event_time").alias("hour")).distinct()
    if applied >= 0:
        superseding = new.where("revision > 0").select("record_id")
        bounds = new.agg(F.min("day").alias("first"), F.max("day").alias("last")).first()
        if bounds["first"] is not None:
            reach = timedelta(days=settings.lateness_days)
            near = delta.read(spark, path, version).where(F.col("day").between(bounds["first"] - reach, bounds["last"] + reach))
            older = near.join(superseding, "record_id", "left_semi")
            hours = hours.union(older.select(F.date_trunc("hour", "event_time").alias("hour"))).distinct()
    return [row["hour"].replace(tzinfo=UTC) for row in hours.collect()]
