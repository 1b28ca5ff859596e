"""Reading and writing Delta tables through Spark: pinned versions, atomic replacement, and what each commit says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import deltalake
from delta.tables import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from foreshard.lake.metadata import parse_metadata


def exists(spark: SparkSession, path: str) -> bool:
    return bool(DeltaTable.isDeltaTable(spark, path))


def create(
    spark: SparkSession, path: str, schema: StructType, partition: Sequence[str], properties: Mapping[str, str] | None = None
) -> None:
    """Makes an empty table if there is none; does nothing to one that is there."""
    if exists(spark, path):
        return
    builder = DeltaTable.createIfNotExists(spark).location(path).addColumns(schema)
    if partition:
        builder = builder.partitionedBy(*partition)
    for key, value in (properties or {}).items():
        builder = builder.property(key, value)
    builder.execute()


def latest_version(path: str) -> int:
    """The newest version of a table, or −1 if there is no table."""
    table = _log(path)
    return -1 if table is None else int(table.version())


def table_id(path: str) -> str:
    """What tells a table from one made anew in its place, whose versions begin again; empty if there is no table."""
    table = _log(path)
    return "" if table is None else str(table.metadata().id)


def _log(path: str) -> deltalake.DeltaTable | None:
    """The table's log, read without a Spark job: milliseconds instead of a second."""
    try:
        return deltalake.DeltaTable(path, without_files=True)
    except TableNotFoundError:
        return None


def read(spark: SparkSession, path: str, version: int | None = None) -> DataFrame:
    reader = spark.read.format("delta")
    return (reader if version is None else reader.option("versionAsOf", version)).load(path)


def changed_rows(spark: SparkSession, path: str, after: int, upto: int) -> DataFrame:
    """The change feed of the versions after < v ≤ upto; the table must have its change data feed on."""
    return (
        spark.read.format("delta")
        .option("readChangeFeed", "true")
        .option("startingVersion", after + 1)
        .option("endingVersion", upto)
        .load(path)
    )


def packed_by_day(frame: DataFrame) -> DataFrame:
    """The rows brought together by `day`: a table partitioned by it then gets a file a day, not one a task and day."""
    return frame.repartition("day")


def append(frame: DataFrame, path: str, metadata: Mapping[str, Any]) -> None:
    frame.write.format("delta").mode("append").option("userMetadata", _packed(metadata)).save(path)


def replace_where(frame: DataFrame, path: str, where: str, metadata: Mapping[str, Any]) -> None:
    """Replaces the rows that match `where` by `frame`, whose rows must all match it, in one commit."""
    writer = frame.write.format("delta").mode("overwrite").option("userMetadata", _packed(metadata))
    writer.option("replaceWhere", where).save(path)


def replace_all(frame: DataFrame, path: str, metadata: Mapping[str, Any]) -> None:
    frame.write.format("delta").mode("overwrite").option("userMetadata", _packed(metadata)).save(path)


def commit_metadata(path: str, key: str) -> dict[str, Any]:
    """What the newest commit that names `key` said of the table; empty if none does. Maintenance commits say nothing."""
    table = _log(path)
    if table is None:
        return {}
    for limit in (20, None):
        for commit in table.history(limit):
            said = parse_metadata(commit.get("userMetadata"))
            if key in said:
                return said
    return {}


def _packed(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"))


def days_condition(days: Sequence[date], column: str = "day") -> str:
    """A predicate that holds for exactly these days; runs of days become ranges so that it stays short."""
    return _ranges(sorted(set(days)), timedelta(days=1), column, lambda d: f"DATE'{d.isoformat()}'")


def hours_condition(hours: Sequence[datetime], column: str) -> str:
    """A predicate that holds for the times within these whole UTC hours."""
    return _ranges(
        sorted(set(hours)), timedelta(hours=1), column, lambda h: f"TIMESTAMP'{h.replace(tzinfo=None).isoformat(sep=' ')}'"
    )


def _ranges(points: Sequence[Any], step: timedelta, column: str, literal: Callable[[Any], str]) -> str:
    if not points:
        return "false"
    runs: list[list[Any]] = []
    for point in points:
        if runs and point == runs[-1][1]:
            runs[-1][1] = point + step
        else:
            runs.append([point, point + step])
    parts = [f"({column} >= {literal(first)} AND {column} < {literal(end)})" for first, end in runs]
    return "(" + " OR ".join(parts) + ")"
