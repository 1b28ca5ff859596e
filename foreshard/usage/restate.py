"""Bringing a product up to its records: the hours or days touched since it last was are made anew from the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import Observation, SparkSession
from pyspark.sql import functions as F

from foreshard.checks.gate import require
from foreshard.checks.summaries import product_metrics, product_summary
from foreshard.errors import ForeshardError
from foreshard.lake import delta, log
from foreshard.lake.log import Snapshot
from foreshard.lake.staging import Staged, staged
from foreshard.settings import Settings
from foreshard.usage.hours import collected, from_bitmap, from_runs, hours_seen, whole_days
from foreshard.usage.ledger import HOURS, current_records
from foreshard.usage.products import Product


@dataclass(frozen=True)
class Restated:
    """What a product's commit brought: rows written anew and the version they are in."""

    rows: int
    version: int


def bring_up_to_date(
    spark: SparkSession, settings: Settings, product: Product, source: Snapshot, landed: Sequence[datetime]
) -> Restated:
    """Makes what the records up to `source` touched anew, and says in the same commit how far that goes.

    `landed`: the run's landing hours, which are made anew in any case. Raises QualityError before the commit if a critical
    expectation fails, ForeshardError if another writer committed meanwhile.
    """
    before = product.table.newest(spark, settings)
    root = before.path
    said = log.newest_commit(before.table(), "record_version")
    # Versions of a record table that was made anew say nothing about what was applied of the old one: all is rebuilt.
    applied = int(said["record_version"]) if said.get("record_table") == source.id else -1
    hours = sorted({*_touched(spark, source, applied), *landed})
    complete = max(said.get("complete_to", ""), (max(landed) + timedelta(hours=1)).isoformat())
    commit = {"record_version": source.version, "record_table": source.id, "complete_to": complete}
    days = {hour.date() for hour in hours}
    condition = delta.days_condition(sorted(days))
    if product.period == "day":
        hours = whole_days(days)
    else:
        condition = f"{condition} AND {delta.hours_condition(hours, product.period)}"
    records = current_records(spark, product.source, settings, source, hours)
    taken, made = Observation(), Observation()
    amounts = F.sum(product.amount(settings)).alias("total")
    observed = records.observe(taken, amounts, hours_seen(F.col("event_time")).alias(HOURS))
    rows = product.make(observed, settings).observe(made, *product_metrics(product.table.name))
    ordered = delta.packed_by_day(rows).sortWithinPartitions("day", "slot", "entity_id")
    with staged(ordered, root, product.table) as written:
        source_metrics = delta.observed(taken)
        found = set(from_bitmap(source_metrics.get(HOURS) or b"", max(hours)))
        metrics = delta.observed(made)
        if written.rows != metrics.get("rows", 0):
            raise ForeshardError(f"{root}: {metrics.get('rows', 0)} rows were made and {written.rows} are in the staged files")
        summary = product_summary(metrics, source_metrics.get("total"), landed, found, settings)
        require(product.table.name, summary, settings)
        _replace(spark, before, product, hours, written, condition, commit)
    return Restated(written.rows, before.version + 1)


def _replace(
    spark: SparkSession,
    before: Snapshot,
    product: Product,
    hours: Sequence[datetime],
    written: Staged,
    condition: str,
    commit: dict[str, Any],
) -> None:
    """Commits the written rows in place of those of the hours: as they lie where the table has none, or only whole days."""
    present = list(before.files({hour.date() for hour in hours}))
    if product.period == "day":
        written.commit(before, commit, instead_of=present)
    elif not any(file.may_hold_hours(product.period, hours) for file in present):
        written.commit(before, commit)
    else:
        delta.replace_where(written.read(spark), before.path, condition, commit, before)


def _touched(spark: SparkSession, source: Snapshot, applied: int) -> list[datetime]:
    """The event hours of the records appended after version `applied`, and of the records that they supersede."""
    if source.version <= applied:
        return []
    said = source.changes_said(applied, HOURS)
    if said is not None:
        return sorted({hour for one in said for hour in from_runs(one[HOURS])})
    # The log no longer tells, or somebody else wrote: every hour is made anew.
    return sorted(collected(delta.read(spark, source.path, source.version)))
