"""The skill of published forecasts: as measured from pairs, kept once, and put into epochs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from foreshard.learning.published_skill import measure_skill, read_skill, skill_of
from foreshard.learning.skill import measured_skill
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
    one = scores(1, 1.0).filter(pa.compute.equal(scores(1, 1.0)["shard_id"], 0))
    assert skill_of(one) is None
    assert skill_of(one.slice(0, 0)) is None


def test_it_is_kept_once_and_read_where_epochs_are_published(lake: Settings) -> None:
    assert read_skill(lake) == 1.0
    assert measure_skill(lake) == 1.0, "nothing is scored yet"
    write_deltalake(lake.table("forecast_score"), scores(3, 0.4), partition_by=["day"])
    found = measure_skill(lake)
    assert found == pytest.approx(0.4, abs=0.03)
    assert read_skill(lake) == found
    from foreshard.lake import log

    version = log.latest_version(lake.table("forecast_score"))
    assert measure_skill(lake) == found
    assert log.latest_version(lake.table("forecast_score")) == version
