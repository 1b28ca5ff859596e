"""What one more hour costs with a day and with a year of hours in the table: CPU seconds, wall time and bytes read.

Each hour runs in a session that has taken in other hours before, so that neither the start nor the loading of classes
counts. Bytes are all that the processes read, files, sockets and logs alike.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks import usage_files
from foreshard.settings import Settings, SparkSettings

END = datetime(2024, 3, 1, tzinfo=UTC)
WARM_UP, MEASURED = 3, 7


@dataclass(frozen=True)
class Cost:
    """The median over the measured hours."""

    seconds: float
    bytes_read: float


def compare(folder: Path, rows: int) -> dict[str, Any]:
    """Loads a day and a year of hours of the same size (`rows` a year), then takes in some hours more; returns the costs."""
    from foreshard.lake.session import session
    from foreshard.local.spark import environment

    os.environ.update(environment())
    per_hour = rows // (365 * 24)
    spark: Any = None
    costs = {}
    for name, days in (("a day", 1), ("a year", 365)):
        home = folder / name.replace(" ", "-")
        shutil.rmtree(home, ignore_errors=True)
        settings = Settings(
            home=home, lake=str(home / "lake"), landing=str(home / "landing"), spark=SparkSettings("local[2]", "2g")
        )
        spark = spark or session(settings, "increment")
        costs[name] = _cost(spark, settings, days, per_hour)
        print(f"{name:8} {costs[name].seconds:6.2f} s   {costs[name].bytes_read / 2**20:8.2f} MiB read", flush=True)
    spark.stop()
    day, year = costs["a day"], costs["a year"]
    ratios = {"time": year.seconds / day.seconds, "bytes": year.bytes_read / day.bytes_read}
    print(f"a year against a day: time {ratios['time']:.2f}, bytes {ratios['bytes']:.2f}")
    return {"rows_per_hour": per_hour, "costs": {k: asdict(v) for k, v in costs.items()}, "ratios": ratios}


def _cost(spark: Any, settings: Settings, days: int, per_hour: int) -> Cost:
    from foreshard.usage.aggregate import aggregate

    start = END - timedelta(days=days)
    hours = days * 24 + WARM_UP + MEASURED
    usage_files.write(Path(settings.landing) / "usage_record", "jsonl", start, hours, hours * per_hour)
    aggregate(spark, settings, start, END)
    seconds, read = [], []
    for number in range(WARM_UP + MEASURED):
        hour = END + timedelta(hours=number)
        began, before = time.monotonic(), _bytes_read()
        aggregate(spark, settings, hour, hour + timedelta(hours=1))
        seconds.append(time.monotonic() - began)
        read.append(_bytes_read() - before)
    return Cost(statistics.median(seconds[WARM_UP:]), statistics.median(read[WARM_UP:]))


def _bytes_read() -> int:
    """Of this process and all its children."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(process.io_counters().read_chars for process in family if process.is_running())
