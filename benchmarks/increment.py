"""What one more hour costs with a day, nine days and a year of hours in the table: wall time and bytes read.

An hour looks for corrections in the records of the days before it, as many as `lateness_days` (7) says: nine days have all
of these, a day has not. What a year costs beyond nine days is what grows with the history. After loading, the tables are
compacted as the maintenance does nightly, all alike. Each hour runs in a session that has taken in other hours before, so
that neither the start nor the loading of classes counts. Bytes are all that the processes read, files, sockets and logs
alike.
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
DAYS = {"a day": 1, "nine days": 9, "a year": 365}
_SMALL_BYTES = 64 << 20


@dataclass(frozen=True)
class Cost:
    """The median over the measured hours."""

    seconds: float
    bytes_read: float


def compare(folder: Path, rows: int) -> dict[str, Any]:
    """Loads histories of hours of the same size (`rows` a year), then takes in some hours more; returns the costs."""
    from foreshard.lake.session import session
    from foreshard.local.spark import environment

    os.environ.update(environment())
    per_hour = max(rows // (365 * 24), 1)
    lakes = {name: _settings(folder / name.replace(" ", "-")) for name in DAYS}
    spark = session(next(iter(lakes.values())), "increment")
    for name, settings in lakes.items():
        print(f"loading and compacting {name} of {per_hour:,} rows an hour", flush=True)
        _load(spark, settings, DAYS[name], per_hour)
    measured: dict[str, list[tuple[float, int]]] = {name: [] for name in lakes}
    for number in range(WARM_UP + MEASURED):
        hour = END + timedelta(hours=number)
        # In turns, so that neither has the warmer session or the quieter machine.
        for name, settings in lakes.items():
            measured[name].append(_take_in(spark, settings, hour))
    spark.stop()
    costs = {}
    for name, found in measured.items():
        seconds, read = zip(*found[WARM_UP:], strict=True)
        costs[name] = Cost(statistics.median(seconds), statistics.median(read))
        print(f"{name:9} {costs[name].seconds:6.2f} s   {costs[name].bytes_read / 2**20:8.2f} MiB read", flush=True)
    year = costs.pop("a year")
    ratios = {n: {"time": year.seconds / c.seconds, "bytes": year.bytes_read / c.bytes_read} for n, c in costs.items()}
    for name, ratio in ratios.items():
        print(f"a year against {name}: time {ratio['time']:.2f}, bytes {ratio['bytes']:.2f}")
    costs["a year"] = year
    return {"rows_per_hour": per_hour, "costs": {k: asdict(v) for k, v in costs.items()}, "ratios": ratios}


def _settings(home: Path) -> Settings:
    shutil.rmtree(home, ignore_errors=True)
    spark = SparkSettings("local[2]", "2g")
    return Settings(home=home, lake=str(home / "lake"), landing=str(home / "landing"), spark=spark)


def _load(spark: Any, settings: Settings, days: int, per_hour: int) -> None:
    """The history, a file a day, and the files of the hours that are measured."""
    from foreshard.lake import maintenance
    from foreshard.lake.tables import USAGE_HOURLY, USAGE_RECORD
    from foreshard.usage.aggregate import aggregate

    landing, start, more = Path(settings.landing) / "usage_record", END - timedelta(days=days), WARM_UP + MEASURED
    usage_files.write(landing, "jsonl", start, days * 24, days * 24 * per_hour, hours_a_file=24)
    usage_files.write(landing, "jsonl", END, more, more * per_hour)
    aggregate(spark, settings, start, END)
    for table in (USAGE_RECORD, USAGE_HOURLY):
        path = settings.table(table.name)
        maintenance.compact(spark, path, f"day < '{END.date()}'", (), _SMALL_BYTES)
        maintenance.cleanup_log(path)


def _take_in(spark: Any, settings: Settings, hour: datetime) -> tuple[float, int]:
    """Seconds and bytes read."""
    from foreshard.usage.aggregate import aggregate

    began, before = time.monotonic(), _bytes_read()
    aggregate(spark, settings, hour, hour + timedelta(hours=1))
    return time.monotonic() - began, _bytes_read() - before


def _bytes_read() -> int:
    """Of this process and all its children."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(process.io_counters().read_chars for process in family if process.is_running())
