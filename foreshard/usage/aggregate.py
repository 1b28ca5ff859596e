"""One aggregation: landing hours → records → products, restartable at every commit.

Appending to a record table is the only step that depends on landing files. What follows depends on the record table's
versions alone: each product's commit names the record version it applied, and the next run makes anew what the versions
since then touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import SparkSession

from foreshard.errors import ForeshardError
from foreshard.lake.log import Snapshot
from foreshard.lake.tables import QUARANTINE
from foreshard.settings import Settings
from foreshard.usage import landing, ledger
from foreshard.usage.hours import SPAN
from foreshard.usage.landing import LandingFile
from foreshard.usage.ledger import AppendCounts, Landed
from foreshard.usage.products import PRODUCTS
from foreshard.usage.records import KINDS, RecordKind, read_lines, read_typed
from foreshard.usage.restate import bring_up_to_date


@dataclass(frozen=True)
class AggregateResult:
    """What one aggregation did: counts and files (hour/name) per record table, rewritten rows and new version per product.

    `ignored_columns`: per record table, columns of the files that no field wants, each with some of those files.
    """

    counts: dict[str, AppendCounts]
    files: dict[str, list[str]]
    rewritten: dict[str, int]
    versions: dict[str, int]
    ignored_columns: dict[str, dict[str, list[str]]]

    def as_document(self) -> dict[str, Any]:
        return {
            "counts": {name: asdict(c) for name, c in self.counts.items()},
            "files": {name: len(f) for name, f in self.files.items()},
            "rewritten": self.rewritten,
            "versions": self.versions,
            "ignored_columns": {name: columns for name, columns in self.ignored_columns.items() if columns},
        }


def aggregate(
    spark: SparkSession,
    settings: Settings,
    start: datetime,
    end: datetime,
    usual_rows: Mapping[str, float] | None = None,
) -> AggregateResult:
    """Takes in the files landed in start ≤ hour < end and brings every product up to date.

    `usual_rows`: record table → rows that such a range usually has, for the check of the volume. Raises QualityError before
    the commit of a table whose critical expectations fail, ForeshardError if the range is longer than 3 years.
    """
    if end - start > timedelta(hours=SPAN, days=-settings.lateness_days - 30):
        raise ForeshardError(f"{start:%Y-%m-%d} to {end:%Y-%m-%d} is too long for one run; aggregate it year by year")
    # Two writers that both find it missing would both make it, and one would fail.
    QUARANTINE.ensure(spark, settings)
    usual = usual_rows or {}
    files = {kind.name: landing.files(spark, settings.landing_folder(kind.name), start, end) for kind in KINDS}
    largest = max(landing.shuffle_partitions(found, settings.spark.shuffle_partitions) for found in files.values())
    spark.conf.set("spark.sql.shuffle.partitions", str(largest))
    hours = landing.hours(start, end)

    def one(kind: RecordKind) -> _Part:
        return _aggregate_kind(spark, settings, kind, files[kind.name], hours, usual.get(kind.name))

    # The two logs share no table but quarantine, whose rows name their log: side by side, they keep two cores busy.
    with ThreadPoolExecutor(len(KINDS)) as side_by_side:
        parts = list(side_by_side.map(one, KINDS))
    return AggregateResult(
        {kind.name: part.counts for kind, part in zip(KINDS, parts, strict=True)},
        {kind.name: part.files for kind, part in zip(KINDS, parts, strict=True)},
        {name: rows for part in parts for name, rows in part.rewritten.items()},
        {name: version for part in parts for name, version in part.versions.items()},
        {kind.name: part.ignored_columns for kind, part in zip(KINDS, parts, strict=True)},
    )


@dataclass(frozen=True)
class _Part:
    counts: AppendCounts
    files: list[str]
    rewritten: dict[str, int]
    versions: dict[str, int]
    ignored_columns: dict[str, list[str]]


def _aggregate_kind(
    spark: SparkSession,
    settings: Settings,
    kind: RecordKind,
    files: list[LandingFile],
    hours: list[datetime],
    usual_rows: float | None,
) -> _Part:
    before = kind.table.newest(spark, settings)
    counts = _take_in(spark, settings, kind, files, Landed(hours, _missing(files, hours), usual_rows), before)
    source = before.newest()
    rewritten, versions = {}, {}
    for product in (p for p in PRODUCTS if p.source is kind):
        restated = bring_up_to_date(spark, settings, product, source, hours)
        rewritten[product.table.name] = restated.rows
        versions[product.table.name] = restated.version
    ignored = landing.ignored_columns(files, kind, settings)
    return _Part(counts, [file.name for file in files], rewritten, versions, ignored)


def _missing(files: list[LandingFile], hours: list[datetime]) -> int:
    found = {file.path.split("/")[-2] for file in files}
    return sum(f"{hour:{landing.FOLDER_FORMAT}}" not in found for hour in hours)


def _take_in(
    spark: SparkSession, settings: Settings, kind: RecordKind, files: list[LandingFile], landed: Landed, before: Snapshot
) -> AppendCounts:
    if not files:
        return AppendCounts(0, 0, 0, 0)
    read = read_lines(landing.lines(spark, files, kind, settings), kind, settings)
    typed = landing.typed(spark, files, kind, settings)
    if typed is not None:
        read = read.unionByName(read_typed(typed, kind, settings))
    return ledger.append(spark, read, kind, settings, landed, before)
