"""A range of landing hours taken in by Airflow's own backfill gives the tables that one run after another gave."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from landing_rows import land, query, usage
from tables import rows

from foreshard import settings as configuration
from foreshard.local.airflow import LocalAirflow
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.routing import database
from foreshard.settings import Settings
from foreshard.usage.aggregate import aggregate

pytestmark = [pytest.mark.live, pytest.mark.spark]

ROOT = Path(__file__).resolve().parents[2]
FIRST = datetime(2013, 11, 28, 5, tzinfo=UTC)
HOURS = 3
SECONDS = 600
TABLES = ("usage_record", "query_record", "usage_hourly", "query_load", "query_pattern_observed", "quarantine")
SETTINGS = """
home = "var"
slot_bits = 3
heavy_hitters = 2
[spark]
master = "local[2]"
driver_java_options = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""


def land_hours(settings: Settings) -> None:
    """Each hour has late rows of the one before, a corrected row, rows that came before, and a damaged one."""
    for number in range(HOURS):
        hour = FIRST + timedelta(hours=number)
        before = hour - timedelta(minutes=5)
        lines = [
            *(usage(f"e{n}", hour + timedelta(minutes=n), n, record_id=f"{number}-{n}") for n in range(20)),
            usage("late", before, 7, record_id=f"late-{number}"),
            usage("e1", before, 100, record_id=f"{number - 1}-1", revision=1),
            usage("e2", before + timedelta(minutes=2), 2, record_id=f"{number - 1}-2"),
            "{broken",
        ]
        land(settings, "usage_record", hour, "usage.jsonl", lines)
        queries = [query(f"e{n % 5}", hour + timedelta(minutes=n), record_id=f"{number}-{n}") for n in range(30)]
        land(settings, "query_record", hour, "queries.jsonl", [*queries, query("late", before, record_id=f"late-{number}")])


def test_a_backfilled_range_gives_the_tables_of_the_live_runs(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "foreshard.toml").write_text(SETTINGS, "utf-8")
    backfilled = configuration.load(tmp_path / "foreshard.toml")
    live = replace(backfilled, lake=str(tmp_path / "live"))
    land_hours(backfilled)
    for number in range(HOURS):
        hour = FIRST + timedelta(hours=number)
        aggregate(spark, live, hour, hour + timedelta(hours=1))

    # Only this DAG: with the clock on, as backfills need it, the others would forecast the present of an empty log.
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(ROOT / "dags" / "aggregate.py", dags)
    postgres = EmbeddedPostgres(backfilled.home / "postgres")
    url = postgres.start()
    try:
        database.migrate(url)
        metadata = postgres.create_database("airflow")
        with LocalAirflow(backfilled, metadata_url=metadata, postgres_url=url, dags_folder=dags) as airflow:
            backfill(airflow, FIRST, FIRST + timedelta(hours=HOURS - 1))
            expected = {(FIRST + timedelta(hours=n)).strftime("%Y-%m-%dT%H:%M:%S") for n in range(HOURS)}
            airflow.api.wait_until(lambda: expected <= done(airflow), SECONDS, "the backfilled hours to be aggregated")
    finally:
        postgres.stop()

    assert all(rows(live, table) for table in TABLES)
    for table in TABLES:
        assert rows(backfilled, table) == rows(live, table), table


def backfill(airflow: LocalAirflow, first: datetime, last: datetime) -> None:
    """By the command that the DAG's documentation names."""
    command = [sys.executable, "-m", "airflow", "backfill", "create", "--dag-id", "aggregate"]
    span = ["--from-date", first.isoformat(), "--to-date", last.isoformat()]
    environment = {**os.environ, **airflow.environment()}
    created = subprocess.run(
        [*command, *span], env=environment, cwd=airflow.folder, capture_output=True, text=True, check=False
    )
    assert created.returncode == 0, created.stderr


def done(airflow: LocalAirflow) -> set[str]:
    """The partition keys of the runs that succeeded."""
    return {run.partition_key for run in airflow.api.runs("aggregate") if run.state == "success"}
