"""The fleet's forecast on Spark: as each series alone, past shards without a usable history, once for each input."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import records, rows, version

from foreshard.forecast import engine, pooling
from foreshard.forecast.batch import Batch, Floats
from foreshard.forecast.engine import Forecasts, Options
from foreshard.forecast.fleet import heaviest
from foreshard.forecast.publish import forecast_load
from foreshard.lake import delta
from foreshard.lake.tables import QUERY_LOAD, QUERY_PATTERN_OBSERVED
from foreshard.learning.outcomes import learn
from foreshard.settings import Settings
from foreshard.transition.inputs import newest_forecasts

pytestmark = pytest.mark.spark

DAYS = 15
START = datetime(2013, 11, 4, tzinfo=UTC)
ORIGIN = START + timedelta(days=DAYS)
QUANTILES = ("q05", "q10", "q50", "q90", "q95", "q99")
HOT, HOT_SHARD = "hot", 8  # an entity of slot 0, isolated into a shard of its own
ISOLATED = {HOT: HOT_SHARD}


def requests(slot: int, hour: int) -> int:
    """A daily cycle with reproducible scatter."""
    return int(7200 * (2 + np.sin(2 * np.pi * (hour + slot) / 24)) + (hour * 7919 + slot * 104729) % 997)


def load_rows(first: int, last: int) -> list[tuple[Any, ...]]:
    """Slot 0 has its rest and an isolated entity, slot 1 only its rest, slot 2 two days, slot 3 a constant load; slot 4 has
    been silent for ten days, and slot 5 has a load that no double holds exactly in one hour."""
    made: list[tuple[Any, ...]] = []
    for hour in range(first, last):
        time = START + timedelta(hours=hour)
        loads = [(0, "", requests(0, hour)), (0, HOT, requests(5, hour)), (1, "", requests(1, hour)), (3, "", 3600)]
        if hour >= 24 * (DAYS - 2):
            loads.append((2, "", requests(2, hour)))
        if hour < 24 * (DAYS - 10):
            loads.append((4, "", requests(4, hour)))
        loads.append((5, "", 10**12 + 1 if hour == 100 else requests(5, hour)))
        made += [(s, e, time, n, Decimal(n), n * 10, 0, [(1, n)], time.date()) for s, e, n in loads]
    return made


def write_load(spark: Any, settings: Settings, upto: int) -> None:
    frame = spark.createDataFrame(load_rows(0, upto), QUERY_LOAD.schema).coalesce(1)
    complete = (START + timedelta(hours=upto)).isoformat()
    delta.replace_all(frame, QUERY_LOAD.ensure(spark, settings), {"complete_to": complete})


@pytest.fixture(scope="module")
def lake(spark: Any, module_lake: Settings) -> Settings:
    write_load(spark, module_lake, 24 * DAYS)
    day = ORIGIN.date() - timedelta(days=1)
    patterns = [(0, f"e{n}", "s", "o", "recent", 30 - n, day) for n in range(25)]
    patterns += [
        (0, HOT, "s", "o", "recent", 40, day),
        (0, HOT, "s", "o", "older", 60, day),
        (1, "x", "s", "o", "months", 5, day),
    ]
    frame = spark.createDataFrame(patterns, QUERY_PATTERN_OBSERVED.schema).coalesce(1)
    delta.replace_all(frame, QUERY_PATTERN_OBSERVED.ensure(spark, module_lake), {"test": 1})
    return module_lake


@pytest.fixture(scope="module")
def made(spark: Any, lake: Settings) -> dict[int, list[dict[str, Any]]]:
    """Shard → its forecast's rows in order of time."""
    done = forecast_load(spark, lake, ISOLATED)
    assert (done["origin"], done["shards"]) == (ORIGIN.isoformat(), 9)
    found: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(records(lake, "load_forecast"), key=lambda r: r["interval_start"]):
        found.setdefault(row["shard_id"], []).append(row)
    return found


def values_of(shard: int) -> Floats:
    """The packed series of a shard: float32, NaN before its first load."""
    found = np.full(24 * DAYS, np.nan)
    for slot, entity, time, _, load, *_ in load_rows(0, 24 * DAYS):
        if (HOT_SHARD if entity == HOT else slot) == shard:
            found[int((time - START) / timedelta(hours=1))] = float(load) / 3600
    silent = np.isnan(found)
    known = ~silent
    first = int(known.argmax()) if known.any() else 0
    found[first:][silent[first:]] = 0.0
    return found.astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module")
def alone(lake: Settings) -> Forecasts:
    """The forecast of all nine shards in one process."""
    batch = Batch(tuple(map(str, range(9))), START, timedelta(hours=1), np.stack([values_of(shard) for shard in range(9)]))
    return engine.forecast_all(batch, Options(lake.forecast.horizon_hours))


def test_spark_and_one_process_say_the_same(made: dict[int, list[dict[str, Any]]], alone: Forecasts, lake: Settings) -> None:
    horizon = lake.forecast.horizon_hours
    own, common = pooling.by_step(alone.errors, alone.quantiles, pooling.learn(alone.errors, 0).factors)
    for shard, rows_of_shard in made.items():
        assert {r["model"] for r in rows_of_shard} == {alone.model[shard]}
        assert {r["fallback_reason"] for r in rows_of_shard} == {alone.fallback_reason[shard]}
        for name, expected in (("mean", alone.mean), *zip(QUANTILES, alone.quantiles, strict=True), ("spread_own", own)):
            said = [r[name] for r in rows_of_shard]
            assert said == pytest.approx(expected[shard].tolist(), rel=1e-6, abs=1e-12), (shard, name)
        said = np.array([r["spread_common"] for r in rows_of_shard])
        np.testing.assert_allclose(said, common[shard], rtol=1e-6, atol=1e-9)
        times = [r["interval_start"].replace(tzinfo=UTC) for r in rows_of_shard]
        assert times == [ORIGIN + timedelta(hours=h) for h in range(horizon)]


def test_shards_that_cannot_be_fitted_say_why_and_stop_nobody(made: dict[int, list[dict[str, Any]]]) -> None:
    reasons = {shard: {r["fallback_reason"] for r in own} for shard, own in made.items()}
    assert reasons == {
        0: {""},
        1: {""},
        2: {"less than 7 days of history"},
        3: {"the history is constant"},
        4: {"no load in the last 7 days"},
        5: {""},
        6: {"no load in the history"},
        7: {"no load in the history"},
        HOT_SHARD: {""},
    }
    assert {r["mean"] for r in made[3]} == {1.0}
    assert {r["mean"] for r in made[4]} == {0.0}
    assert {r["q99"] for r in made[6]} == {0.0}
    assert all(r["mean"] > 0 and r["spread_own"] > 0 for shard in (0, 1, 2, HOT_SHARD) for r in made[shard])


def test_a_repeat_from_nothing_writes_the_same_rows(spark: Any, made: Any, lake: Settings) -> None:
    names = ("load_forecast", "query_pattern", "calibration_state")
    before = {name: rows(lake, name) for name in names}
    for name in names:
        shutil.rmtree(lake.table(name))
    forecast_load(spark, lake, ISOLATED)
    assert {name: rows(lake, name) for name in names} == before


def test_what_queries_ask_for_adds_up_to_1_for_every_shard_and_interval(made: Any, lake: Settings) -> None:
    sums: dict[tuple[int, datetime], float] = {}
    for row in records(lake, "query_pattern"):
        key = (row["shard_id"], row["interval_start"])
        sums[key] = sums.get(key, 0.0) + row["probability"]
    assert {shard for shard, _ in sums} == {0, 1, HOT_SHARD}
    assert len(sums) == 3 * lake.forecast.horizon_hours
    assert list(sums.values()) == pytest.approx([1.0] * len(sums))
    hot = {r["time_interval"]: r["probability"] for r in records(lake, "query_pattern") if r["shard_id"] == HOT_SHARD}
    assert hot == pytest.approx({"recent": 0.4, "older": 0.6})
    read = newest_forecasts(lake)
    assert {s.shard_id: s.recent_share for s in read.shards}[HOT_SHARD] == pytest.approx(0.4)
    assert (read.origin, len(read.steps)) == (ORIGIN, lake.forecast.horizon_hours)


@pytest.mark.parametrize("table", ["load_forecast", "query_pattern", "calibration_state"])
def test_the_same_input_is_forecast_once_and_a_deleted_output_comes_back(
    spark: Any, made: Any, lake: Settings, table: str
) -> None:
    names = ("load_forecast", "query_pattern", "calibration_state")
    before = {name: rows(lake, name) for name in names}
    versions = [version(lake, name) for name in names]
    assert "skipped" in forecast_load(spark, lake, ISOLATED)
    assert [version(lake, name) for name in names] == versions
    shutil.rmtree(lake.table(table))
    assert "skipped" not in forecast_load(spark, lake, ISOLATED)
    assert {name: rows(lake, name) for name in names} == before


def test_forecasts_are_scored_once_against_what_came(
    spark: Any, made: dict[int, list[dict[str, Any]]], lake: Settings, query_log: Callable[[], None]
) -> None:
    write_load(spark, lake, 24 * DAYS + 4)
    query_log()
    done = learn(spark, lake, ISOLATED)
    assert done["scored"] == 9 * 4
    scored = {(r["shard_id"], r["horizon_steps"]): r for r in records(lake, "forecast_score")}
    for step in range(1, 5):
        hour = 24 * DAYS + step - 1
        row = scored[HOT_SHARD, step]
        assert row["actual"] == pytest.approx(requests(5, hour) / 3600)
        assert row["naive"] == pytest.approx(requests(5, hour - 24 * 7) / 3600)
        assert row["mean"] == made[HOT_SHARD][step - 1]["mean"]
        assert scored[4, step]["actual"] == 0.0
    corrections = {r["node_id"]: r for r in records(lake, "node_correction")}
    assert corrections["a"]["correction"] == pytest.approx(1.1), "twice the load predicted: one step up"
    assert corrections["b"]["correction"] == pytest.approx(1.0)
    assert corrections["a"]["queries"] == 3

    before = [rows(lake, name) for name in ("forecast_score", "node_correction")]
    learn(spark, lake, ISOLATED)
    assert [rows(lake, name) for name in ("forecast_score", "node_correction")] == before
    for name in ("forecast_score", "node_correction"):
        shutil.rmtree(lake.table(name))
    learn(spark, lake, ISOLATED)
    assert [rows(lake, name) for name in ("forecast_score", "node_correction")] == before


def test_a_grain_of_five_minutes_is_published_at_five_minutes(spark: Any, lake: Settings, tmp_path: Path) -> None:
    fine = replace(lake, lake=str(tmp_path), slot_bits=1, forecast=replace(lake.forecast, grain_minutes=5))
    made = []
    for number in range(12 * 24 * 9):
        time = ORIGIN - timedelta(minutes=5 * (number + 1))
        load = requests(0, int((time - START) / timedelta(hours=1))) // 12
        made.append((0, "", time, load, Decimal(load), load, 0, [(1, load)], time.date()))
    frame = spark.createDataFrame(made, QUERY_LOAD.schema).coalesce(1)
    delta.replace_all(frame, QUERY_LOAD.ensure(spark, fine), {"complete_to": ORIGIN.isoformat()})
    QUERY_PATTERN_OBSERVED.ensure(spark, fine)
    assert forecast_load(spark, fine, {})["shards"] == 2
    said = sorted((r["shard_id"], r["interval_start"].replace(tzinfo=UTC), r["mean"]) for r in records(fine, "load_forecast"))
    places = [ORIGIN + timedelta(minutes=5 * n) for n in range(12 * fine.forecast.horizon_hours)]
    assert [(shard, time) for shard, time, _ in said] == [(shard, time) for shard in (0, 1) for time in places]
    for shard, time, mean in said:
        expected = requests(0, int((time - START) / timedelta(hours=1))) / 3600 if shard == 0 else 0.0
        assert mean == pytest.approx(expected, rel=0.2), time


@pytest.fixture
def query_log(spark: Any, lake: Settings) -> Callable[[], None]:
    """Writes queries of the last hour: node a had twice the load that was predicted, node b what was predicted."""
    from foreshard.lake.tables import QUERY_RECORD

    def write() -> None:
        at = ORIGIN + timedelta(hours=3, minutes=30)
        names = [f.name for f in QUERY_RECORD.schema.fields]
        made = []
        for n, (node, after) in enumerate([("a", 4.0), ("b", 2.0)] * 3):
            row = dict.fromkeys(names) | {
                "record_id": str(n),
                "revision": 0,
                "node_id": node,
                "event_time": at,
                "day": at.date(),
            }
            made.append(tuple((row | {"predicted_load": 2.0, "load_after": after})[name] for name in names))
        frame = spark.createDataFrame(made, QUERY_RECORD.schema).coalesce(1)
        delta.replace_all(frame, QUERY_RECORD.ensure(spark, lake), {"test": 1})

    return write


def test_the_heaviest_shards_are_found_whatever_of_their_history_is_unknown(spark: Any) -> None:
    unknown = float("nan")
    rows = [(0, [unknown, 9.0, 9.0]), (1, [5.0, 5.0, 5.0]), (2, [None, 0.0, 1.0]), (3, [30.0, unknown, unknown])]
    packed = spark.createDataFrame(rows, "shard_id int, values array<float>")
    assert heaviest(packed, 2) == {"3", "0"}
    assert heaviest(packed, 9) == {"0", "1", "2", "3"}
