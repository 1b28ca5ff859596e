"""What was foreseen at each moment of a replay: in time, of the right intervals, and as sure as it says."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from foreshard.errors import ForeshardError
from foreshard.replay.defaults import DEFAULTS
from foreshard.replay.foresight import Grid, Tape, foresee
from foreshard.replay.load import Load

START = datetime(2024, 3, 4, tzinfo=UTC)


def daily(seed: int, interval_seconds: int, days: int, test_days: int, shards: int = 6) -> Load:
    """A daily cycle with noise of a tenth for all shards together and a tenth for each."""
    draw = np.random.default_rng(seed)
    a_day = 86_400 // interval_seconds
    length = days * a_day
    level = 100.0 * (1.5 + np.sin(2 * np.pi * np.arange(length) / a_day)) * draw.normal(1.0, 0.1, length)
    rates = level[:, None] * draw.dirichlet(np.full(shards, 5.0)) * draw.normal(1.0, 0.1, (length, shards))
    return Load(np.maximum(rates, 0.0), interval_seconds, length - test_days * a_day)


def within_quantile(load: Load, tape: Tape, step: int) -> float:
    """The part of moments whose pool quantile at 0.95 was above what came in the middle of a step."""
    total, held = load.test.sum(axis=1), []
    for moment in tape.moments:
        row = int((moment.edges[step] + moment.edges[step + 1]) / 2 // load.interval_seconds)
        if moment.second >= 0 and row < len(total):
            own, common = moment.spread.at(moment.mean)
            spread = np.sqrt((own[:, step] ** 2).sum() + (common[:, step].sum(axis=0) ** 2).sum())
            held.append(total[row] <= moment.mean[:, step].sum() + 1.645 * spread)
    return float(np.mean(held))


@pytest.mark.parametrize(
    ("interval", "unit", "block", "look"),
    [(60, 300, 900, 0), (300, 300, 900, 0), (600, 600, 1200, 300), (3600, 3600, 3600, 300)],
)
def test_units_blocks_and_the_first_look_follow_the_interval(interval: int, unit: int, block: int, look: int):
    grid = Grid.of(Load(np.ones((100, 1)), interval, 50), DEFAULTS, 600)
    assert (grid.unit, grid.block, grid.look) == (unit, block, look)
    assert grid.blocks * grid.block >= 2 * 3600
    middles = (np.array(grid.horizons) - 0.5) * unit
    assert (np.abs(middles - (np.arange(grid.blocks) + 0.5) * block) <= unit / 2).all()


@pytest.mark.parametrize("interval", [60, 600, 3600])
def test_a_moment_is_the_newest_that_was_known_and_its_steps_follow_each_other(interval: int):
    load = daily(0, interval, 3, 1)
    tape = foresee(load, START, DEFAULTS, 600)
    for second in range(0, len(load.test) * interval, DEFAULTS.decision_seconds):
        moment = tape.at(second)
        assert moment.second <= second
        edges, expected = moment.from_second(second)
        assert edges[0] == second
        assert (np.diff(edges) > 0).all()
        assert expected.mean.shape == expected.own.shape == expected.common.shape[:2] == (6, len(edges) - 1)
    # An interval longer than the time between decisions is known once it has been looked at.
    if interval > DEFAULTS.decision_seconds:
        known = tape.at(10 * interval + DEFAULTS.decision_seconds).from_second(10 * interval + 300)[1]
        assert known.mean[:, 0] == pytest.approx(load.test[10])
        assert (known.own[:, 0] == 0).all()


def test_the_pools_quantile_holds_as_often_as_it_says():
    load = daily(1, 3600, 42, 21)
    tape = foresee(load, START, DEFAULTS, 600)
    assert tape.young == 0
    for step in (1, 2, 3):
        assert 0.90 <= within_quantile(load, tape, step) <= 0.99


def test_too_little_history_falls_back_and_says_so():
    tape = foresee(daily(2, 3600, 4, 2), START, DEFAULTS, 600)
    assert tape.young == 6
    assert "7 days" in tape.why


def test_less_than_a_block_before_the_test_is_refused():
    with pytest.raises(ForeshardError, match=r"5 minutes before the test are too few.*at least 15"):
        foresee(Load(np.ones((100, 1)), 60, 5), START, DEFAULTS, 600)
