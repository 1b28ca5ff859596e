"""The aggregation beside bare Spark and DuckDB: the same files to the same tables, in one run.

`python -m benchmarks.aggregate [--rows 20000000] [--format jsonl] [--days 10]` draws the rows, runs each in a process of its
own, and prints rows per second, peak memory, and the ratio of times to bare Spark's. `--increment` shows instead what an
hour costs with a day and with a year in the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import increment, usage_files
from benchmarks.measured import Measured, run
from foreshard import settings as configuration
from foreshard.local.spark import environment, submit_command
from foreshard.local.submit import job_script
from foreshard.settings import ENVIRONMENT_VARIABLE

START = datetime(2024, 3, 1, tzinfo=UTC)
_SETTINGS = """
home = "{home}"
landing = "{landing}"
postgres_url = "{postgres_url}"
[checks]
rows_on_spark = {checks}
[spark]
master = "local[2]"
driver_memory = "{memory}"
driver_java_options = "-XX:+UseParallelGC"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--format", choices=["jsonl", "parquet"], default="jsonl")
    parser.add_argument("--memory", default="1400m", help="the driver's heap")
    parser.add_argument("--increment", action="store_true", help="one hour with a day and with a year in the table")
    parser.add_argument("--folder", help="where to work; default: a temporary folder, removed at the end")
    parser.add_argument("--out", help="a file for the figures, as JSON")
    arguments = parser.parse_args()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="foreshard-benchmark-")).resolve()
    try:
        figures = increment.compare(folder, arguments.rows) if arguments.increment else bulk(folder, arguments)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(figures, indent=2), "utf-8")
    return 0


def bulk(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Runs every contestant on the same files; returns its figures."""
    landing = folder / f"landing-{arguments.format}-{arguments.rows}"
    if not landing.exists():
        print(f"drawing {arguments.rows:,} rows as {arguments.format}", flush=True)
        usage_files.write(landing / "usage_record", arguments.format, START, 24 * arguments.days, arguments.rows)
    contestants: dict[str, Callable[[], Measured]] = {
        "bare Spark": lambda: _rival(folder, arguments, landing, "spark"),
        "foreshard, no checks of rows": lambda: _ours(folder, arguments, landing, "false"),
        "foreshard, all checks": lambda: _ours(folder, arguments, landing, "true"),
        "DuckDB": lambda: _rival(folder, arguments, landing, "duckdb"),
    }
    figures: dict[str, object] = {"rows": arguments.rows, "format": arguments.format}
    bare = 0.0
    print(f"{'':30}{'seconds':>9}{'CPU s':>9}{'rows/s':>12}{'memory':>9}{'JVM':>8}{'ratio':>8}")
    for name, measure in contestants.items():
        found = measure()
        bare = bare or found.wall
        ratio = found.wall / bare
        figures[name] = asdict(found) | {"rows_per_second": arguments.rows / found.wall, "ratio": ratio}
        print(
            f"{name:30}{found.wall:9.1f}{found.cpu:9.1f}{arguments.rows / found.wall:12,.0f}"
            f"{found.memory / 2**30:8.2f}G{found.java_memory / 2**30:7.2f}G{ratio:8.2f}",
            flush=True,
        )
    return figures


def _settings(folder: Path, landing: Path, checks: str, memory: str, name: str) -> Path:
    home = folder / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    file = home / "foreshard.toml"
    file.write_text(_SETTINGS.format(home=home, landing=landing, postgres_url="", checks=checks, memory=memory), "utf-8")
    return file


def _ours(folder: Path, arguments: argparse.Namespace, landing: Path, checks: str) -> Measured:
    from foreshard.local.postgres import EmbeddedPostgres
    from foreshard.routing import database

    file = _settings(folder, landing, checks, arguments.memory, f"ours-{checks}")
    settings = configuration.load(file)
    postgres = EmbeddedPostgres(settings.home / "postgres")
    try:
        database.migrate(postgres.start())
        end = START + timedelta(days=arguments.days)
        span = ["--settings", str(file), "--from", START.isoformat(), "--to", end.isoformat()]
        command = submit_command(settings, job_script("aggregate"), span)
        return run(command, environment(), folder / f"ours-{checks}.log")
    finally:
        postgres.stop()


def _rival(folder: Path, arguments: argparse.Namespace, landing: Path, name: str) -> Measured:
    file = _settings(folder, landing, "false", arguments.memory, name)
    source, out = landing / "usage_record", folder / name / "out"
    script = Path(__file__).with_name("rivals.py")
    given = [name, arguments.format, str(source), str(out)]
    command = [sys.executable, str(script), *given]
    if name == "spark":
        command = submit_command(configuration.load(file), script, given)
    variables = {**environment(), ENVIRONMENT_VARIABLE: str(file)}
    return run(command, variables, folder / f"{name}.log")


if __name__ == "__main__":
    sys.exit(main())
