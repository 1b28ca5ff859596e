"""How many bytes the segments of a copy take at its source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from foreshard.lake import log
from foreshard.settings import Settings
from foreshard.transition.copy import source_rows


def segment_bytes(
    spark: SparkSession, settings: Settings, version: int, coverage: Mapping[int, date | None], isolated: Mapping[str, int]
) -> dict[int, dict[date, int]]:
    """Shard → day → bytes of each segment at the source: its rows times the mean size of a row in that day's files.

    An estimate: how well a row compresses depends on its neighbours. Of the rows it reads where they belong, and no more.
    """
    per_row = _bytes_per_row(settings, version)
    rows = source_rows(spark, settings, version, coverage, isolated).groupBy("shard_id", "day").count()
    found: dict[int, dict[date, int]] = defaultdict(dict)
    for row in rows.collect():
        found[row["shard_id"]][row["day"]] = round(row["count"] * per_row.get(row["day"], 0.0))
    return dict(found)


def _bytes_per_row(settings: Settings, version: int) -> dict[date, float]:
    path = settings.table("usage_hourly")
    table = log.Snapshot(path, DeltaTable(path, version=version))
    sizes: dict[date, int] = defaultdict(int)
    rows: dict[date, int] = defaultdict(int)
    for file in table.all_files():
        sizes[file.partition] += file.size
        rows[file.partition] += file.rows
    return {day: sizes[day] / rows[day] for day in sizes if rows[day]}
