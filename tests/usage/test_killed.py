"""The job is killed at every commit boundary; what the next runs make of it is what an undisturbed run makes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from landing_rows import land, query, usage
from short_jvm import submit_args
from tables import rows

from foreshard.local.spark import environment
from foreshard.settings import Settings
from foreshard.usage.aggregate import aggregate

pytestmark = pytest.mark.spark

HOUR = datetime(2013, 11, 28, 5, tzinfo=UTC)
TABLES = ("usage_record", "query_record", "quarantine", "usage_hourly", "query_load", "query_pattern_observed")
BOUNDARIES = [("usage_record", "before"), *((table, "after") for table in TABLES)]


def land_more(settings: Settings, number: int) -> None:
    """Files that bring every table something new: rows, a correction, repetitions and damage."""
    at = HOUR + timedelta(minutes=number)
    lines = [
        usage("same", at, 1, record_id="r0", revision=number),
        *(usage(f"e{n}", at, n, record_id=f"r{number}-{n}") for n in range(5)),
        usage("e1", at, 1, record_id=f"r{number}-1"),
        usage("no id", at),
        f"{{damaged {number}",
    ]
    land(settings, "usage_record", HOUR, f"{number}.jsonl", lines)
    asked = [query(f"e{n}", at, record_id=f"q{number}-{n}") for n in range(4)]
    land(settings, "query_record", HOUR, f"{number}.jsonl", [*asked, asked[0], "[]"])


def settings_file(settings: Settings) -> Path:
    file = settings.home / "foreshard.toml"
    lines = ['home = "."', "slot_bits = 3", "heavy_hitters = 2", "[checks]", "rows_on_spark = false"]
    lines += ["[spark]", 'master = "local[2]"', "shuffle_partitions = 2"]
    file.write_text("\n".join(lines), "utf-8")
    return file


def killed(settings: Settings, table: str, when: str) -> None:
    """Runs the job in a process of its own, which kills itself there."""
    script = Path(__file__).with_name("killed_run.py")
    command = [sys.executable, str(script), str(settings_file(settings)), f"{HOUR:%Y-%m-%dT%H}", table, when]
    env = {**os.environ, **environment(), "PYSPARK_SUBMIT_ARGS": submit_args()}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, f"it was to die {when} the commit to {table}\n{done.stderr[-2000:]}"


def test_a_job_killed_at_any_commit_leaves_tables_that_the_next_run_completes(spark: Any, lake: Settings) -> None:
    for number, (table, when) in enumerate(BOUNDARIES):
        land_more(lake, number)
        killed(lake, table, when)
    end = HOUR + timedelta(hours=1)
    result = aggregate(spark, lake, HOUR, end)
    for count in result.counts.values():
        assert count.read == count.accepted + count.duplicates + count.quarantined

    calm = replace(lake, home=lake.home / "calm", lake=str(lake.home / "calm" / "lake"))
    undisturbed = aggregate(spark, calm, HOUR, end)
    assert undisturbed.counts["usage_record"].accepted == 7 * len(BOUNDARIES)
    for table in TABLES:
        assert rows(lake, table) == rows(calm, table), table
    assert rows(lake, "usage_hourly")
    shutil.rmtree(calm.home)
