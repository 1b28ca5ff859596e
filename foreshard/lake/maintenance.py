"""What maintenance does to one Delta table: bring small files together, drop what is old, remove files that nobody needs.

Compaction moves rows between files and changes none, so no reader of the change feed sees it. VACUUM goes by how long ago a
file was removed, so a version that must stay readable is kept by a retention that reaches back to it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import deltalake
import pyarrow.fs as fs
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from foreshard.lake.filesystem import locate

_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
FILES_PROPERTY, LOG_PROPERTY = "delta.deletedFileRetentionDuration", "delta.logRetentionDuration"
_DEFAULT_HOURS = {FILES_PROPERTY: 7 * 24, LOG_PROPERTY: 30 * 24}
_UNIT_HOURS = {"hour": 1, "day": 24, "week": 168}


@dataclass(frozen=True, slots=True)
class Partition:
    """The files of one partition: how many, how many of them are small, and bytes of all."""

    value: str
    files: int
    small: int
    size: int


def partitions(path: str, column: str, small_bytes: int) -> list[Partition]:
    """The partitions of a table by one column at its newest version, in the order of their values; read without Spark."""
    actions = deltalake.DeltaTable(path).get_add_actions(flatten=True)
    sizes: dict[str, list[int]] = defaultdict(list)
    for value, size in zip(
        actions.column(f"partition.{column}").to_pylist(), actions.column("size_bytes").to_pylist(), strict=True
    ):
        sizes[str(value)].append(size)
    return [Partition(v, len(s), sum(x < small_bytes for x in s), sum(s)) for v, s in sorted(sizes.items())]


def worth_compacting(found: Sequence[Partition], small_files: int, budget_bytes: float) -> list[str]:
    """The partitions with more than `small_files` small files, the last first, as far as the bytes to rewrite allow.

    One is always among them if any is worth it, so that a large one does not wait for ever.
    """
    chosen: list[str] = []
    for partition in reversed(found):
        if partition.small <= small_files:
            continue
        budget_bytes -= partition.size
        if chosen and budget_bytes < 0:
            break
        chosen.append(partition.value)
    return chosen


def compact(spark: SparkSession, path: str, where: str, z_order: Sequence[str], small_bytes: int) -> tuple[int, int]:
    """Brings the small files of the partitions that match `where` together; returns how many files went and how many came.

    With `z_order` all files of these partitions are rewritten, ordered by those columns.
    """
    with_size = {"spark.databricks.delta.optimize.minFileSize": str(small_bytes)}
    with _configured(spark, with_size):
        optimize = DeltaTable.forPath(spark, path).optimize().where(where)
        done = optimize.executeZOrderBy(*z_order) if z_order else optimize.executeCompaction()
        metrics = done.first()["metrics"]
    return int(metrics["numFilesRemoved"]), int(metrics["numFilesAdded"])


def delete(spark: SparkSession, path: str, where: str, metadata: str) -> int:
    """Deletes the rows that match; returns the version after it. Whole partitions go without a file being read."""
    with _configured(spark, {_USER_METADATA: metadata}):
        DeltaTable.forPath(spark, path).delete(where)
    return int(deltalake.DeltaTable(path).version())


def property_hours(path: str, name: str) -> float:
    """A retention property of the table in hours; Delta's own default if it is not set."""
    value = deltalake.DeltaTable(path).metadata().configuration.get(name, "")
    found = re.fullmatch(r"(?:interval )?(\d+) (hour|day|week)s?", value.strip().lower())
    return int(found[1]) * _UNIT_HOURS[found[2]] if found else _DEFAULT_HOURS[name]


def covering(base_hours: float, needed_hours: float) -> float:
    """The retention for a need that old: the base, doubled until the need is at most half of it.

    So it is raised in good time, and seldom: a property set too late cannot bring back what was dropped.
    """
    hours = base_hours
    while 2 * needed_hours > hours:
        hours *= 2
    return hours


def differing(path: str, hours: Mapping[str, float]) -> list[str]:
    """The retention properties, of those given, that the table has otherwise."""
    return [name for name, value in sorted(hours.items()) if property_hours(path, name) != math.ceil(value)]


def set_properties(spark: SparkSession, path: str, hours: Mapping[str, float]) -> None:
    """Sets the retention properties that differ, in one commit; no commit if none does."""
    pairs = ", ".join(f"'{name}' = 'interval {math.ceil(hours[name])} hours'" for name in differing(path, hours))
    if pairs:
        spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ({pairs})")


def has_leftovers(path: str, hours: float) -> bool:
    """Whether a VACUUM that keeps so many hours would find anything; a look at the folder instead of a Spark job."""
    table = deltalake.DeltaTable(path)
    return bool(table.vacuum(math.ceil(hours), dry_run=True, enforce_retention_duration=False, full=True))


def remove_unfinished(path: str, hours: float) -> None:
    """Removes what a job killed while it wrote staged files left in `_temporary`, which VACUUM passes over, once it is old."""
    system, top = locate(path)
    oldest = datetime.now(UTC) - timedelta(hours=hours)
    for folder in system.get_file_info(fs.FileSelector(top)):
        unfinished = f"{folder.path}/_temporary"
        if not folder.base_name.startswith("staged-") or system.get_file_info(unfinished).type is not fs.FileType.Directory:
            continue
        found = system.get_file_info(fs.FileSelector(unfinished, recursive=True))
        if all(info.mtime is None or info.mtime < oldest for info in found):
            system.delete_dir(unfinished)


def vacuum(spark: SparkSession, path: str) -> None:
    """Removes files that no version within the table's own retention needs, also those that were never committed."""
    # Its two commits would say nothing and push what commits do say out of the log's newest entries.
    with _configured(spark, {"spark.databricks.delta.vacuum.logging.enabled": "false"}):
        spark.sql(f"VACUUM delta.`{path}`")


def endangered(spark: SparkSession, path: str, after: int, upto: int) -> set[str]:
    """The names of files that versions from `after` to `upto` need and a VACUUM now would remove; empty in sound tables.

    A checkpoint forgets removed files after the table's retention, whatever retention it is given later: a file that an old
    version needs then looks like one that was never committed.
    """
    needed = _touched_files(spark, path, after, upto)
    doomed = spark.sql(f"VACUUM delta.`{path}` DRY RUN").collect()
    return needed & {_base_name(row["path"]) for row in doomed}


def _touched_files(spark: SparkSession, path: str, after: int, upto: int) -> set[str]:
    """What the commits after < v ≤ upto added or removed: the files of all these versions, but for those of the newest."""
    commits = [f"{path}/_delta_log/{version:020d}.json" for version in range(after + 1, upto + 1)]
    file = "struct<path: string>"
    rows = spark.read.schema(f"add {file}, remove {file}, cdc {file}").json(commits)
    names = rows.selectExpr("explode(filter(array(add.path, remove.path, cdc.path), p -> p IS NOT NULL)) AS path")
    return {_base_name(row["path"]) for row in names.distinct().collect()}


def cleanup_log(path: str) -> None:
    """Removes log entries older than the table's log retention, as far as a checkpoint stands for them."""
    table = deltalake.DeltaTable(path)
    table.create_checkpoint()
    table.cleanup_metadata()


def values_condition(column: str, values: Collection[str], is_number: bool) -> str:
    """A predicate for these values of a partition column."""
    listed = sorted(values, key=int) if is_number else [f"'{v}'" for v in sorted(values)]
    return f"{column} IN ({', '.join(listed)})"


def _base_name(path: str) -> str:
    return unquote(path).rsplit("/", 1)[-1]


class _configured:
    """Within the block the session has these settings; the ones before come back at its end."""

    def __init__(self, spark: SparkSession, values: Mapping[str, str]) -> None:
        self._spark, self._values = spark, values
        self._before: dict[str, Any] = {}

    def __enter__(self) -> None:
        for key, value in self._values.items():
            self._before[key] = self._spark.conf.get(key, None)
            self._spark.conf.set(key, value)

    def __exit__(self, *_: object) -> None:
        for key, value in self._before.items():
            if value is None:
                self._spark.conf.unset(key)
            else:
                self._spark.conf.set(key, value)
