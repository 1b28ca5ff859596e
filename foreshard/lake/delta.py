"""Reading and writing Delta tables through Spark: pinned versions, atomic replacement, and what each commit says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from foreshard.errors import ForeshardError
from foreshard.lake import log
from foreshard.lake.log import DataFile, Snapshot

# Of more, Spark works out the list sooner from the table's state than from the files' names.
_FEW_FILES = 128


def create(
    spark: SparkSession, path: str, schema: StructType, partition: Sequence[str], properties: Mapping[str, str] | None = None
) -> None:
    """Makes an empty table if there is none; does nothing to one that is there."""
    builder = DeltaTable.createIfNotExists(spark).location(path).addColumns(schema)
    if partition:
        builder = builder.partitionedBy(*partition)
    for key, value in (properties or {}).items():
        builder = builder.property(key, value)
    builder.execute()


def add_columns(spark: SparkSession, path: str, fields: Sequence[StructField]) -> None:
    """Adds columns, null in the rows that are there."""
    columns = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in fields)
    spark.sql(f"ALTER TABLE delta.`{path}` ADD COLUMNS ({columns})")


def read(spark: SparkSession, path: str, version: int | None = None) -> DataFrame:
    reader = spark.read.format("delta")
    return (reader if version is None else reader.option("versionAsOf", version)).load(path)


def rows_of_hours(
    spark: SparkSession, table: Snapshot, schema: StructType, hours: Sequence[datetime], column: str
) -> DataFrame | None:
    """The rows whose `column` is within these UTC hours, of a table partitioned by the day of it; None if no file has any."""
    wanted = set(hours)
    found = [file for file in table.files({hour.date() for hour in hours}) if file.may_hold_hours(column, wanted)]
    return rows_of_files(spark, table, schema, found, column).where(hours_condition(hours, column)) if found else None


def rows_of_files(
    spark: SparkSession, table: Snapshot, schema: StructType, files: Sequence[DataFile], column: str
) -> DataFrame:
    """The rows of these files (one at least), of a table partitioned by the day of `column`; with many, all of their days.

    A few files are read as they are: that saves Spark from working out the table's state, which grows with its history.
    """
    if len(files) > _FEW_FILES or not table.is_plain:
        return read(spark, table.path, table.version).where(days_condition([file.partition for file in files]))
    stored = StructType([field for field in schema.fields if field.name != "day"])
    rows = spark.read.schema(stored).parquet(*[f"{table.path}/{file.path}" for file in files])
    return rows.withColumn("day", F.to_date(column)).select(*schema.names)


def changed_rows(spark: SparkSession, path: str, after: int, upto: int) -> DataFrame:
    """The change feed of the versions after < v ≤ upto; the table must have its change data feed on."""
    return (
        spark.read.format("delta")
        .option("readChangeFeed", "true")
        .option("startingVersion", after + 1)
        .option("endingVersion", upto)
        .load(path)
    )


def observed(observation: Observation) -> dict[str, Any]:
    """What was observed; empty if no row came by, because Spark leaves out the parts of a plan that it finds without rows."""
    try:
        return dict(observation.get)
    except Py4JJavaError as error:
        # What the JVM says of an observation without a row.
        if "AssertionError" not in str(error.java_exception):
            raise
        return {}


def packed_by_day(frame: DataFrame) -> DataFrame:
    """The rows brought together by `day`: a table partitioned by it then gets a file a day, not one a task and day."""
    return frame.repartition("day")


def append(frame: DataFrame, path: str, metadata: Mapping[str, Any]) -> None:
    frame.write.format("delta").mode("append").option("userMetadata", log.packed(metadata)).save(path)


def replace_where(frame: DataFrame, path: str, where: str, metadata: Mapping[str, Any], before: Snapshot | None = None) -> None:
    """Replaces the rows that match `where` by `frame`, whose rows must all match it, in one commit.

    Raises ForeshardError if `before` is given and is not what the commit followed: then the next run must make it good.
    """
    now = None if before is None else before.newest()
    if before and now and now.version != before.version:
        raise ForeshardError(
            f"{path}: another writer committed after version {before.version}, so nothing was committed; run again"
        )
    writer = frame.write.format("delta").mode("overwrite").option("userMetadata", log.packed(metadata))
    writer.option("replaceWhere", where).save(path)
    if now and now.newest().version != now.version + 1:
        raise ForeshardError(f"{path}: another writer committed beside this run; run again, which makes both good")


def replace_all(frame: DataFrame, path: str, metadata: Mapping[str, Any]) -> None:
    frame.write.format("delta").mode("overwrite").option("userMetadata", log.packed(metadata)).save(path)


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
