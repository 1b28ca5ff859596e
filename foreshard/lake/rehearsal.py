"""What every Spark job of the project does, once and small: run to gather the Java classes that jobs load.

The setup runs it with the JVM told to keep what it loaded (class-data sharing), which spares each later job seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyspark.sql import Observation, Window
from pyspark.sql import functions as F

from foreshard.lake import delta, log
from foreshard.lake.session import session
from foreshard.lake.staging import staged
from foreshard.lake.tables import QUERY_LOAD, USAGE_HOURLY
from foreshard.settings import Settings

_HOUR = datetime(2024, 1, 1, tzinfo=UTC)


def _same(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


def rehearse(folder: Path) -> None:
    """Parses, compares, aggregates, stages, commits, restates and follows a few rows below `folder`."""
    settings = replace(Settings(), home=folder, lake=str(folder / "lake"))
    spark = session(settings, "rehearsal")
    lines = spark.range(100).select(F.concat(F.lit('{"entity_id": "e'), "id", F.lit('", "quantity": 1.5}')).alias("raw"))
    read = lines.mapInArrow(_same, "raw string").select(
        F.from_json("raw", "entity_id string, quantity decimal(18,6)").alias("r")
    )
    rows = read.select(
        "r.entity_id",
        F.lit("s").alias("service_id"),
        F.lit("o").alias("operation_id"),
        F.lit(_HOUR).alias("hour"),
        F.xxhash64("r.entity_id").bitwiseAND(F.lit(7).cast("bigint")).cast("int").alias("slot"),
        F.col("r.quantity").cast("decimal(28,6)").alias("quantity"),
        F.lit(1).cast("bigint").alias("events"),
        F.lit(_HOUR.date()).alias("day"),
    )
    first = Window.partitionBy("entity_id").orderBy("hour", "slot")
    ranked = rows.withColumn("rank", F.row_number().over(first)).where("rank = 1").drop("rank")
    summed = ranked.groupBy("slot").agg(F.sum("events").alias("events"), F.collect_list("entity_id").alias("entities"))
    summed.join(ranked.select("slot").distinct(), "slot", "left_semi").collect()
    table = USAGE_HOURLY.newest(spark, settings)
    path = table.path
    QUERY_LOAD.ensure(spark, settings)
    seen = Observation()
    with staged(ranked.observe(seen, F.count(F.lit(1)).alias("rows")), path, USAGE_HOURLY) as files:
        files.commit(table, {"rows": delta.observed(seen).get("rows")})
    where = f"{delta.days_condition([_HOUR.date()])} AND {delta.hours_condition([_HOUR], 'hour')}"
    delta.replace_where(delta.read(spark, path).where("slot < 4"), path, where, {"rows": 0})
    delta.changed_rows(spark, path, 0, log.latest_version(path)).groupBy("slot").count().toPandas()
    spark.stop()
