"""What is wrong with a copy in particular: the rows by which a segment differs, or the file that cannot be read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from foreshard.errors import ForeshardError
from foreshard.lake import log
from foreshard.lake.filesystem import locate
from foreshard.lake.tables import USAGE_HOURLY, serving
from foreshard.settings import Settings

_SHOWN = 3
Segment = tuple[int, date]  # shard, day


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that only one side has, or has more often: `side` is source or copy.

    `hour` is UTC, as text: damage can make times that Python cannot tell.
    """

    side: str
    entity_id: str
    service_id: str
    operation_id: str
    hour: str
    quantity: Decimal
    events: int

    def __str__(self) -> str:
        key = f"{self.entity_id}/{self.service_id}/{self.operation_id} {self.hour}Z"
        return f"only in the {self.side}: {key} quantity {self.quantity}, events {self.events}"


def differing_rows(
    spark: SparkSession, source: DataFrame, copy: DataFrame, segments: Sequence[Segment]
) -> dict[Segment, tuple[RowDifference, ...]]:
    """Up to three rows of each segment that differ, in the order of their keys; both sides have `shard_id`."""
    wanted = F.broadcast(spark.createDataFrame(segments, "shard_id int, day date"))
    names = [*USAGE_HOURLY.schema.names, "shard_id"]
    sides = source.select(*names, F.lit(1).alias("side")).unionByName(copy.select(*names, F.lit(-1).alias("side")))
    rows = (
        sides.withColumn("at", F.col("hour").cast("string"))
        .join(wanted, ["shard_id", "day"])
        .groupBy(*names, "at")
        .agg(F.sum("side").alias("side"))
        .where("side <> 0")
    )
    order = Window.partitionBy("shard_id", "day").orderBy("entity_id", "service_id", "operation_id", "hour", F.desc("side"))
    found: dict[Segment, list[RowDifference]] = defaultdict(list)
    shown = rows.withColumn("place", F.row_number().over(order)).where(F.col("place") <= _SHOWN)
    for row in shown.orderBy("place").drop("hour").collect():
        found[row["shard_id"], row["day"]].append(_difference(row))
    return {segment: tuple(rows) for segment, rows in found.items()}


def _difference(row: Any) -> RowDifference:
    side = "source" if row["side"] > 0 else "copy"
    key = (row["entity_id"], row["service_id"], row["operation_id"], row["at"])
    return RowDifference(side, *key, row["quantity"], row["events"])


def unreadable_file(
    error: Exception, settings: Settings, coverage: Mapping[str, Mapping[int, date | None]]
) -> tuple[str, int, str] | None:
    """Node, shard and file of these copies that made Spark fail; None if it was none of their files.

    Raises ForeshardError naming the file if it is one of the source.
    """
    said = unquote(str(error))
    source = re.search(rf"{re.escape(_below_root(settings, 'usage_hourly'))}/(\S+?\.parquet)", said)
    if source:
        raise ForeshardError(
            f"{source[1]} of usage_hourly is damaged or missing and cannot be read; restore it first"
        ) from None
    for node_id, shards in coverage.items():
        below = re.escape(_below_root(settings, serving(node_id).name))
        found = re.search(rf"{below}/(\S*?shard_id=(\d+)/\S+?\.parquet)", said)
        if found and int(found[2]) in shards:
            return node_id, int(found[2]), found[1]
    return next(_broken_files(settings, coverage), None)


def _below_root(settings: Settings, name: str) -> str:
    """The end of a table's path, as it stands in messages however its beginning is written."""
    return "/" + "/".join(settings.table(name).rstrip("/").split("/")[-2 - name.count("/") :])


def _broken_files(settings: Settings, coverage: Mapping[str, Mapping[int, date | None]]) -> Iterator[tuple[str, int, str]]:
    """Those files of the copies that do not even open or decode here: some errors of Spark do not say which file it was."""
    for node_id, shards in coverage.items():
        path = settings.table(serving(node_id).name)
        for file in log.snapshot(path).files(shards):
            system, place = locate(f"{path}/{file.path}")
            try:
                pq.read_table(place, filesystem=system, partitioning=None)
            except (OSError, pa.ArrowException):
                yield node_id, int(file.partition), file.path
