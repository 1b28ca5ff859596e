"""Scoring on Spark: every quantile is kept, tables of before gain the columns, and what is learnt of a day is learnt once."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from tables import records, rows, version

from foreshard.forecast.batch import LEVELS
from foreshard.lake import delta
from foreshard.lake.tables import FORECAST_SCORE, LOAD_FORECAST, QUERY_LOAD, QUERY_RECORD, Table
from foreshard.learning.drift import Drift
from foreshard.learning.evaluation import QUANTILES, evaluate, stored_scores
from foreshard.learning.learnt import Learnt, read_learnt
from foreshard.learning.outcomes import learn
from foreshard.routing import pool
from foreshard.routing.corrections import read_corrections
from foreshard.settings import Settings
from spark_jobs import learn_from_outcomes as job

pytestmark = pytest.mark.spark

START = datetime(2013, 11, 4, tzinfo=UTC)
DAYS = 9
OLD = Table(
    "forecast_score",
    "shard_id int, interval_start timestamp, origin timestamp, model string, horizon_steps int, actual double, mean double, "
    "q95 double, naive double, day date",
    ("day",),
)


def requests(slot: int, hour: int) -> int:
    return 3600 * (5 + slot + hour % 24) if (hour + 1) % 50 else 0  # an outage now and then


def write_load(spark: Any, settings: Settings, hours: int) -> None:
    made = []
    for hour in range(hours):
        time = START + timedelta(hours=hour)
        for slot in range(2):
            if n := requests(slot, hour):
                made.append((slot, "", time, n, Decimal(n), n, 0, [(1, n)], time.date()))
    frame = spark.createDataFrame(made, QUERY_LOAD.schema).coalesce(1)
    said = {"complete_to": (START + timedelta(hours=hours)).isoformat()}
    delta.replace_all(frame, QUERY_LOAD.ensure(spark, settings), said)


def write_forecasts(spark: Any, settings: Settings, days: int) -> None:
    """A day's forecast from each midnight, whose quantiles are one below the load at 50 % and two above it from 90 % on."""
    made = []
    for hour in range(24 * days):
        time = START + timedelta(hours=hour)
        origin = START + timedelta(days=hour // 24)
        for slot in range(2):
            mean = 5.0 + slot + hour % 24
            curve = [mean - 3, mean - 2, mean - 1, mean + 2, mean + 3, mean + 4]
            made.append((slot, time, origin, "spar", mean, *curve, 1.0, [0.0], 1, "", origin.date()))
    frame = spark.createDataFrame(made, LOAD_FORECAST.schema).coalesce(1)
    delta.replace_all(frame, LOAD_FORECAST.ensure(spark, settings), {"input_version": 1})


@pytest.fixture(scope="module")
def lake(spark: Any, module_lake: Settings) -> Settings:
    """A table of scores from before there were more quantiles than one, with a row of a day long past."""
    QUERY_RECORD.ensure(spark, module_lake)
    path = OLD.ensure(spark, module_lake)
    then = START - timedelta(days=20)
    old = spark.createDataFrame([(0, then, then, "prophet", 1, 1.0, 1.0, 2.0, 1.0, then.date())], OLD.schema)
    delta.append(old, path, {"scored_to": START.isoformat()})
    write_load(spark, module_lake, 24 * DAYS + 2)
    write_forecasts(spark, module_lake, DAYS + 1)
    return module_lake


def test_a_table_of_before_gains_every_quantile_and_the_days_are_learnt_from_once(spark: Any, lake: Settings) -> None:
    done = learn(spark, lake, {})
    assert done["scored"] == 2 * (24 * DAYS + 2)
    kept = records(lake, "forecast_score")
    assert set(kept[0]) == set(FORECAST_SCORE.schema.names)
    (old,) = [row for row in kept if row["model"] == "prophet"]
    assert [old[name] for name in QUANTILES] == [None, None, None, None, 2.0, None]
    for row in (row for row in kept if row["model"] == "spar"):
        hour = round((row["interval_start"].replace(tzinfo=UTC) - START) / timedelta(hours=1))
        actual = requests(row["shard_id"], hour) / 3600
        assert row["actual"] == actual, "an outage is scored as it came"
        assert [row[name] - row["mean"] for name in QUANTILES] == pytest.approx([-3, -2, -1, 2, 3, 4])
        # Nothing is known of a week before the first load.
        assert row["naive"] == (requests(row["shard_id"], hour - 168) / 3600 if hour >= 168 else None)
        assert row["horizon_steps"] == hour % 24 + 1

    found = evaluate(stored_scores(lake, 7), lake.forecast.grain_minutes)
    outages = sum(1 for hour in range(24 * (DAYS - 6), 24 * DAYS + 2) if requests(0, hour) == 0)
    share = outages / found.whole.intervals * 2
    assert found.whole.covered == pytest.approx([share] * 3 + [1.0] * 3)

    learnt = read_learnt(lake)
    assert learnt == Learnt.of_metadata(done)
    assert learnt.day == (START + timedelta(days=DAYS - 1)).date()
    assert learnt.levels_used[: LEVELS.index(0.9)] == LEVELS[: LEVELS.index(0.9)]
    assert learnt.levels_used[LEVELS.index(0.9)] < 0.9, "the upper quantiles are said too high"
    assert learnt.drift == Drift()

    before, newest = rows(lake, "forecast_score"), version(lake, "forecast_score")
    again = learn(spark, lake, {})
    assert again | {"scored": done["scored"]} == done
    assert rows(lake, "forecast_score") == before
    assert version(lake, "forecast_score") == newest + 1, "the scores were written again, nothing was learnt again"
    assert read_learnt(lake) == learnt
    assert not np.isnan(learnt.levels_used).any()


def write_queries(spark: Any, settings: Settings, took: dict[str, tuple[float, float]]) -> None:
    """Node → milliseconds for a light and for a heavy operation; all as loaded as was predicted. Slow failures say nothing."""
    at = START + timedelta(days=DAYS, minutes=90)
    names = QUERY_RECORD.schema.names
    plain = dict.fromkeys(names) | {"event_time": at, "day": at.date(), "predicted_load": 2.0, "load_after": 2.0, "revision": 0}
    asked = [
        plain | {"node_id": node, "operation_id": operation, "age_class": "recent", "latency_ms": ms, "status": status}
        for node, (light, heavy) in took.items()
        # Node b is asked more for what takes long.
        for operation, ms, status, times in [
            ("light", light, 200, 4),
            ("heavy", heavy, 200, 12 if node == "b" else 4),
            ("light", 9e3, 503, 2 if node == "a" else 0),
        ]
        for _ in range(times)
    ]
    made = [tuple((row | {"record_id": str(n)})[name] for name in names) for n, row in enumerate(asked)]
    frame = spark.createDataFrame(made, QUERY_RECORD.schema).coalesce(1)
    delta.replace_all(frame, QUERY_RECORD.ensure(spark, settings), {"test": 1})


def test_a_node_is_corrected_by_how_long_its_queries_take_beside_others_like_them(spark: Any, lake: Settings) -> None:
    write_queries(spark, lake, {"a": (1.0, 50.0), "b": (1.0, 50.0), "c": (1.4, 70.0)})
    done = learn(spark, lake, {})
    assert done["corrections"].keys() == {"a", "b", "c"}
    assert done["corrected_nodes"] == 3
    assert done["corrections"]["c"] == pytest.approx(1.1), "one step up"
    assert done["corrections"]["a"] == pytest.approx(done["corrections"]["b"], abs=0.02), "whatever they were asked for"
    assert 0.9 <= done["corrections"]["a"] < 1.0, "less time than all together"
    assert learn(spark, lake, {})["corrections"] == done["corrections"]

    # The job also says it to gateways: beside the mean of all, since plans alone need what is not relative.
    pool.register(lake.postgres_url, lake)
    job.work(spark, lake, argparse.Namespace())
    told = {n: c.now() for n, c in read_corrections(lake.postgres_url, "usage").items()}
    mean = sum(done["corrections"].values()) / 3
    assert told == pytest.approx({n: c / mean for n, c in done["corrections"].items()})
    assert 0 <= done["skill"] <= 1
