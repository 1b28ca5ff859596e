"""The skill of published forecasts: as measured from pairs, kept once, and put into epochs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake
from first_epoch import publish_first_epoch

from foreshard.lake import log
from foreshard.learning.published_skill import measure_skill, read_skill, skill_of
from foreshard.learning.skill import measured_skill
from foreshard.routing import corrections, pool, store
from foreshard.settings import Settings

START = datetime(2013, 11, 4, tzinfo=UTC)
SHARDS, HOURS = 12, 30


def scores(seed: int, trust: float) -> pa.Table:
    """Each hour's loads differ; of what was foreseen of it the part `trust` came."""
    draw = np.random.default_rng(seed)
    rows = []
    for hour in range(HOURS):
        foreseen = draw.lognormal(2.0, 0.5, SHARDS)
        came = (foreseen.mean() + trust * (foreseen - foreseen.mean())) * 3 + draw.normal(0, 0.2, SHARDS)
        time = START + timedelta(hours=hour)
        rows += [
            {"shard_id": s, "interval_start": time, "origin": START, "mean": foreseen[s], "actual": max(0.0, came[s])}
            | {"day": date(2013, 11, 4)}
            for s in range(SHARDS)
        ]
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize(("trust", "expected"), [(1.0, 1.0), (0.4, 0.4), (0.0, 0.0), (-1.0, 0.0)])
def test_skill_is_the_part_of_the_differences_between_shards_that_came(trust: float, expected: float) -> None:
    assert skill_of(scores(1, trust)) == pytest.approx(expected, abs=0.03)


def test_of_one_hour_it_is_what_is_measured_from_pairs() -> None:
    hour = scores(2, 0.5).slice(0, SHARDS)
    assert skill_of(hour) == pytest.approx(measured_skill(hour["mean"].to_pylist(), hour["actual"].to_pylist()))


def test_forecasts_that_do_not_tell_shards_apart_say_nothing() -> None:
    one = scores(1, 1.0).filter(pc.equal(scores(1, 1.0)["shard_id"], 0))
    assert skill_of(one) is None
    assert skill_of(one.slice(0, 0)) is None


def test_it_is_kept_once_and_read_where_epochs_are_published(lake: Settings) -> None:
    assert read_skill(lake) == 1.0
    assert measure_skill(lake) == 1.0, "nothing is scored yet"
    write_deltalake(lake.table("forecast_score"), scores(3, 0.4), partition_by=["day"])
    found = measure_skill(lake)
    assert found == pytest.approx(0.4, abs=0.03)
    assert read_skill(lake) == found
    version = log.latest_version(lake.table("forecast_score"))
    assert measure_skill(lake) == found
    assert log.latest_version(lake.table("forecast_score")) == version


def test_an_epoch_carries_the_skill_and_the_corrections_of_its_time(lake: Settings) -> None:
    url = lake.postgres_url
    pool.register(url, lake)
    write_deltalake(lake.table("forecast_score"), scores(3, 0.4), partition_by=["day"])
    skill = measure_skill(lake)
    corrections.write_learnt(url, lake.pool_id, {"a": 1.25, "b": 1.0})
    publish_first_epoch(lake)
    published = store.current(url, lake.pool_id)
    assert published is not None
    assert (published.skill, published.corrections) == (skill, (("a", 1.25),))
