"""Copying and verifying replicas beside bare Spark: the same rows of the same table in the same session.

`python -m benchmarks.transition [--rows 3000000] [--slots 1024] [--days 60] [--rounds 5] [--out FILE]` draws a source, copies a
third of its shards to a node as one move each, and prints medians over the rounds: rows per second beside a bare read, filter
and write of the same rows, the time of the verification beside that of the copy, whether the rows copied are exactly those
planned and those caught up with, and what hot replicas take beside full ones. The contestants run in turns, after one round
that is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from foreshard.settings import Settings, SparkSettings

START = datetime(2024, 3, 1, tzinfo=UTC)
HOT_DAYS = 7
NODE = "copied"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000, help="of the source, all shards and days")
    parser.add_argument("--slots", type=int, default=1024, help="a power of two")
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", default="2g", help="the driver's heap")
    parser.add_argument("--folder", help="where to work; default: a temporary folder, removed at the end")
    parser.add_argument("--out", help="a file for the figures, as JSON")
    arguments = parser.parse_args()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="foreshard-benchmark-")).resolve()
    try:
        figures = measure(folder, arguments)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(figures, indent=2), "utf-8")
    return 0


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Draws the source, runs the rounds; returns and prints the figures."""
    from foreshard.lake.session import session
    from foreshard.local.spark import environment
    from foreshard.transition.retire import drop_shards

    os.environ.update(environment())
    settings = Settings(
        home=folder,
        lake=str(folder / "lake"),
        landing=str(folder / "landing"),
        slot_bits=arguments.slots.bit_length() - 1,
        spark=SparkSettings("local[2]", arguments.memory),
    )
    spark = session(settings, "benchmark")
    version = draw(spark, settings, arguments.rows, arguments.days)
    shards = list(range(0, settings.slots, 3))
    contestants: dict[str, Callable[[], int]] = {
        "bare": lambda: bare(spark, settings, shards, version, in_partitions=False),
        "bare, a folder a shard": lambda: bare(spark, settings, shards, version, in_partitions=True),
        "copy": lambda: copy(spark, settings, shards, version, None),
        "verify": lambda: check(spark, settings, shards, version, None),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    rows: dict[str, int] = {}
    for number in range(arguments.rounds + 1):
        drop_shards(settings, NODE, shards)
        for name, run in contestants.items():
            began = time.monotonic()
            rows[name] = run()
            if number:
                times[name].append(time.monotonic() - began)
    figures = summary(times, rows, len(shards), arguments)
    figures |= counted(spark, settings, shards, version, rows["copy"])
    spark.stop()
    for name, value in figures.items():
        print(f"{name:32} {value}", flush=True)
    return figures


def draw(spark: Any, settings: Settings, rows: int, days: int) -> int:
    """A source of about so many rows, of entities with few or many of them; returns its version."""
    from pyspark.sql import functions as F

    from foreshard.lake import delta, log
    from foreshard.lake.tables import USAGE_HOURLY

    path = USAGE_HOURLY.ensure(spark, settings)
    hours = days * 24
    # A few entities are in every hour, most are rare.
    entity = F.concat(F.lit("e"), F.floor(F.pow(F.rand(1), 3) * settings.slots * 20).cast("string"))
    drawn = spark.range(rows).select(
        entity.alias("entity_id"),
        F.concat(F.lit("s"), (F.rand(2) * 4).cast("int")).alias("service_id"),
        F.concat(F.lit("o"), (F.rand(3) * 8).cast("int")).alias("operation_id"),
        F.timestamp_seconds(F.lit(int(START.timestamp())) + (F.rand(4) * hours).cast("long") * 3600).alias("hour"),
        (F.rand(5) * 1000).cast("decimal(28,6)").alias("quantity"),
    )
    keys = ["entity_id", "service_id", "operation_id", "hour"]
    found = drawn.groupBy(*keys).agg(F.sum("quantity").cast("decimal(28,6)").alias("quantity"), F.count("*").alias("events"))
    slot = F.xxhash64("entity_id").bitwiseAND(F.lit(settings.slots - 1)).cast("int")
    whole = found.withColumn("slot", slot).withColumn("day", F.to_date("hour")).select(*USAGE_HOURLY.schema.names)
    ordered = delta.packed_by_day(whole).sortWithinPartitions("day", "slot", "entity_id")
    delta.append(ordered, path, {"benchmark": rows})
    return log.latest_version(path)


def bare(spark: Any, settings: Settings, shards: list[int], version: int, in_partitions: bool) -> int:
    """Reads, filters and writes a new table as anyone would; returns the rows."""
    from deltalake import DeltaTable
    from pyspark.sql import functions as F

    path = str(Path(settings.lake) / "bare")
    shutil.rmtree(path, ignore_errors=True)
    rows = spark.read.format("delta").option("versionAsOf", version).load(settings.table("usage_hourly"))
    writer = rows.where(F.col("slot").isin(shards)).write.format("delta")
    (writer.partitionBy("slot") if in_partitions else writer).save(path)
    return int(sum(DeltaTable(path).get_add_actions(flatten=True)["num_records"].to_pylist()))


def copy(spark: Any, settings: Settings, shards: list[int], version: int, covers_from: date | None) -> int:
    """Copies the shards under a name of its own, so that it begins anew; returns the rows."""
    from foreshard.transition.copy_state import CopyJob
    from foreshard.transition.copying import copy_moves

    name = f"{time.monotonic()}"
    jobs = [CopyJob(position, shard, covers_from, f"{name}/{position}") for position, shard in enumerate(shards)]
    return sum(copy_moves(spark, settings, NODE, jobs, version, {}).values())


def check(spark: Any, settings: Settings, shards: list[int], version: int, covers_from: date | None) -> int:
    """Verifies the copies; returns the rows. Raises SystemExit if one differs."""
    from foreshard.transition.verify import verify

    outcome = verify(settings, {NODE: dict.fromkeys(shards, covers_from)}, version, {})
    if outcome.mismatches:
        raise SystemExit(f"verification failed: {outcome.mismatches[0]}")
    return sum(outcome.rows.values())


def summary(times: dict[str, list[float]], rows: dict[str, int], shards: int, arguments: argparse.Namespace) -> dict[str, Any]:
    seconds = {name: statistics.median(found) for name, found in times.items()}
    assert len(set(rows.values())) == 1, rows
    return {
        "source_rows": arguments.rows,
        "days": arguments.days,
        "shards_copied": shards,
        "rows_copied": rows["copy"],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "rows_per_second": {name: round(rows[name] / value) for name, value in seconds.items()},
        "copy_throughput_of_bare": round(seconds["bare"] / seconds["copy"], 3),
        "copy_throughput_of_bare_same_layout": round(seconds["bare, a folder a shard"] / seconds["copy"], 3),
        "verify_time_of_copy": round(seconds["verify"] / seconds["copy"], 3),
    }


def counted(spark: Any, settings: Settings, shards: list[int], version: int, copied: int) -> dict[str, Any]:
    """Whether exactly the planned rows were copied, then a day more is caught up with, and what hot replicas take."""
    from pyspark.sql import functions as F

    from foreshard.lake import delta, log
    from foreshard.transition.copy import follow

    path = settings.table("usage_hourly")
    mine = delta.read(spark, path, version).where(F.col("slot").isin(shards))
    planned = mine.count()
    last = mine.agg(F.max("day")).first()[0]
    hot_since = last - timedelta(days=HOT_DAYS - 1)
    more = delta.read(spark, path, version).where(F.col("day") == F.lit(last)).withColumn("day", F.date_add("day", 1))
    delta.append(more.withColumn("hour", F.expr("hour + INTERVAL 1 DAY")), path, {"benchmark": 0})
    newest = log.latest_version(path)
    follow(spark, settings, NODE, newest, {})
    followed = check(spark, settings, shards, newest, None)
    added = mine.where(F.col("day") == F.lit(last)).count()
    full = copied + added
    hot = copy(spark, settings, shards, newest, hot_since)
    return {
        "rows_planned": planned,
        "rows_caught_up": followed - copied,
        "rows_exact": copied == planned and followed == planned + added,
        "hot_rows_of_full": round(hot / full, 4),
    }


if __name__ == "__main__":
    sys.exit(main())
