"""A fleet's forecast on Spark: core-minutes and memory from packed Delta to written Delta, and of the packing, apart.

`python -m benchmarks.forecast_fleet [--series N] [--rows-of N]`: N series of 504 hours are drawn into a packed table and
forecast 24 hours ahead with quantiles; `--rows-of` series of the same kind are drawn as rows of query_load and packed. Both
are CPU seconds of all processes, the session's start apart. A run of WARM series goes first, which also compiles what the JVM
runs. Figures for a million: what that run cost, and the rest in proportion, but for what the driver learns from its sample.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from foreshard.forecast.columns import arrays
from foreshard.forecast.history import Span, span_of
from foreshard.forecast.packing import PACKED
from foreshard.settings import ForecastSettings, Settings, SparkSettings

ORIGIN = datetime(2024, 3, 1, tzinfo=UTC)
MILLION = 1_000_000
HOURS, HORIZON = 504, 24
WARM = 2_000
_DRAWN = 2_000


@dataclass
class Cost:
    """CPU seconds of all processes, wall seconds, and the most resident bytes of one Python worker and of the JVM."""

    cpu: float = 0.0
    wall: float = 0.0
    worker: int = 0
    java: int = 0
    seen: dict[int, float] = field(default_factory=dict)


@contextmanager
def measured() -> Iterator[Cost]:
    """CPU time of this process and of all below it, sampled often enough that what a process used before it ended counts."""
    cost, done = Cost(), threading.Event()
    before = _cpu(cost)
    began = time.monotonic()
    sampler = threading.Thread(target=lambda: _sample(cost, done), daemon=True)
    sampler.start()
    try:
        yield cost
    finally:
        cost.wall = time.monotonic() - began
        done.set()
        sampler.join()
        cost.cpu = _cpu(cost) - before


def _sample(cost: Cost, done: threading.Event) -> None:
    while not done.wait(0.2):
        _cpu(cost)


def _cpu(cost: Cost) -> float:
    """The seconds of every process seen so far, those that ended included."""
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            times, size, name = process.cpu_times(), process.memory_info().rss, process.name()
        except psutil.Error:
            continue
        cost.seen[process.pid] = times.user + times.system
        if name == "java":
            cost.java = max(cost.java, size)
        elif process.pid != own.pid:
            cost.worker = max(cost.worker, size)
    return sum(cost.seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=MILLION)
    parser.add_argument("--rows-of", type=int, default=20_000, help="how many series are drawn as rows and packed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), asked.series, asked.rows_of)


def compare(folder: Path, series: int, rows_of: int) -> None:
    """Draws, packs, forecasts and prints."""
    from foreshard.lake.session import session
    from foreshard.local.spark import environment

    os.environ.update(environment())
    settings = Settings(
        home=folder,
        lake=str(folder / "lake"),
        forecast=ForecastSettings(horizon_hours=HORIZON, history_days=HOURS // 24),
        spark=SparkSettings("local[2]", "2g"),
    )
    span = span_of(ORIGIN, ORIGIN - timedelta(hours=HOURS), timedelta(hours=1), timedelta(days=56), timedelta(hours=HORIZON))
    spark = session(settings, "forecast_fleet")
    try:
        started = []
        for count in (WARM, rows_of):
            drawn = _drawn_rows(spark, folder / f"{count}", count, span)
            with measured() as packing:
                _pack(spark, folder / f"{count}", drawn, count, span)
            started.append(packing.cpu)
        _say("packing query_load", rows_of, packing, started[0], 0.0, 10)
        started = []
        for count in (WARM, series):
            _draw_packed(spark, folder / f"{count}" / "packed", count, span)
            with measured() as forecasting:
                learning = _forecast(spark, folder / f"{count}", span, count)
            started.append(forecasting.cpu)
        _say("forecasting packed series", series, forecasting, started[0], learning, 30)
        _check(spark, folder / f"{series}", series)
    finally:
        spark.stop()


def _say(what: str, series: int, cost: Cost, start: float, fixed: float, target: int) -> None:
    million = (start + (cost.cpu - fixed) * MILLION / series) / 60
    print(
        f"{what}: {series:,} series, {cost.cpu:.1f} CPU s ({fixed:.1f} of them on the driver's sample), {cost.wall:.1f} s of "
        f"wall, {1e3 * (cost.cpu - fixed) / series:.3f} ms a series, after {start:.1f} CPU s for the first {WARM:,}; a worker "
        f"at most {cost.worker / 2**20:,.0f} MiB, the JVM {cost.java / 2**20:,.0f} MiB\n"
        f"  a million: {million:.1f} core-minutes (target ≤ {target})",
        flush=True,
    )


def loads(shards: Any, hours: int) -> Any:
    """Weighted requests an hour, shape (shards, hours): daily and weekly cycles, a trend, noise of both kinds, dead shards."""
    draw = np.random.default_rng([17, int(shards[0])])
    count, hour = len(shards), np.arange(hours)
    level = np.exp(draw.normal(6.0, 1.5, (count, 1)))
    day = 1 + draw.uniform(0, 0.9, (count, 1)) * np.sin(2 * np.pi * (hour / 24 + draw.uniform(0, 1, (count, 1))))
    week = 1 - draw.uniform(0, 0.6, (count, 1)) * ((hour // 24) % 7 >= 5)
    trend = 1 + draw.normal(0, 0.2, (count, 1)) * hour / hours
    noise = np.exp(draw.normal(0, 0.15, (count, hours)))
    made = draw.poisson(np.maximum(level * day * week * trend, 0.0) * noise).astype(np.float64)
    made[draw.random(count) < 0.02] = 0.0
    return made


def _each_batch(make: Callable[[Any], pa.RecordBatch]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def made(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            ids = batch.column(0).to_numpy()
            for first in range(0, len(ids), _DRAWN):
                yield make(ids[first : first + _DRAWN])

    return made


def _ids(spark: Any, series: int) -> Any:
    return spark.range(0, series, 1, max(series // 10_000, 2))


def _draw_packed(spark: Any, path: Path, series: int, span: Span) -> None:
    def make(ids: Any) -> pa.RecordBatch:
        rates = (loads(ids, span.steps) / 3600).astype(np.float32)
        columns = [pa.array(ids.astype(np.int32)), arrays(rates), pa.array(np.zeros(len(ids), np.float32))]
        return pa.RecordBatch.from_arrays(columns, ["shard_id", "values", "scatter"])

    _ids(spark, series).mapInArrow(_each_batch(make), PACKED).write.format("delta").save(str(path))


def _drawn_rows(spark: Any, folder: Path, series: int, span: Span) -> Any:
    """Rows as aggregate writes them: partitioned by day, loads as decimals."""
    from pyspark.sql import functions as F

    first = int(span.start.timestamp())

    def make(ids: Any) -> pa.RecordBatch:
        made = loads(ids, span.steps)
        columns = [
            pa.array(np.repeat(ids.astype(np.int32), span.steps)),
            pa.array(np.tile(first + 3600 * np.arange(span.steps), len(ids))),
            pa.array(made.ravel()),
        ]
        return pa.RecordBatch.from_arrays(columns, ["slot", "second", "requests"])

    rows = _ids(spark, series).mapInArrow(_each_batch(make), "slot int, second bigint, requests double")
    table = rows.where("requests > 0").select(
        "slot",
        F.lit("").alias("entity_id"),
        F.timestamp_seconds("second").alias("interval_start"),
        F.col("requests").cast("decimal(20,6)").alias("load"),
        F.to_date(F.timestamp_seconds("second")).alias("day"),
    )
    table.repartition("day").write.format("delta").partitionBy("day").save(str(folder / "rows"))
    return spark.read.format("delta").load(str(folder / "rows"))


def _pack(spark: Any, folder: Path, drawn: Any, series: int, span: Span) -> None:
    from pyspark.sql import functions as F

    from foreshard.forecast import fleet, packing

    ids = spark.range(series).select(F.col("id").cast("int").alias("shard_id"))
    packed = packing.pack(fleet.with_shard(drawn, spark, {}), ids, span, series)
    packed.write.format("delta").save(str(folder / "packed-rows"))


def _forecast(spark: Any, folder: Path, span: Span, series: int) -> float:
    """From the packed table to one row of arrays a shard; returns the CPU seconds of learning from the sample."""
    from foreshard.forecast import fleet
    from foreshard.forecast.engine import Options

    packed = spark.read.format("delta").load(str(folder / "packed"))
    before = time.process_time()
    model = fleet.learn(packed, range(series), span, Options(span.horizon))
    learning = time.process_time() - before
    fleet.forecast(packed, model).write.format("delta").save(str(folder / "forecast"))
    return learning


def _check(spark: Any, folder: Path, series: int) -> None:
    """That there is a forecast of every series, and none of it below zero or unknown."""
    from pyspark.sql import functions as F

    made = spark.read.format("delta").load(str(folder / "forecast"))
    is_bad = F.exists("q95", lambda load: F.isnan(load) | (load < 0)) | (F.size("q95") != HORIZON)
    found = made.agg(F.countDistinct("shard_id").alias("series"), F.count_if(is_bad).alias("bad")).first()
    if (found["series"], found["bad"]) != (series, 0):
        raise SystemExit(f"{found['series']:,} of {series:,} series are forecast, {found['bad']:,} of them badly")


if __name__ == "__main__":
    main()
