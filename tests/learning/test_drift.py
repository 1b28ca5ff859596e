"""Drift: changes of what came true are found within days, what is steady is left alone, and windows shrink to what is new."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.forecast.batch import LEVELS
from foreshard.learning.drift import LEAST_WINDOWS, Day, Drift, drift_of, skill_bounds

FIRST = date(2026, 3, 2)
SEEDS = range(100, 140)


def days_of(covered: Sequence[float], relative_error: Sequence[float] | None = None) -> list[Day]:
    """Days with these shares at 95 % and errors of this multiple of the naive's."""
    errors = relative_error if relative_error is not None else [0.7] * len(covered)
    return [
        Day(FIRST + timedelta(days=n), 2400, tuple(share if level == 0.95 else level for level in LEVELS), 10.0 * error, 10.0)
        for n, (share, error) in enumerate(zip(covered, errors, strict=True))
    ]


def drawn(seed: int, days: int, mean: float = 0.95, scatter: float = 0.015) -> list[float]:
    draw = np.random.default_rng(seed)
    return list(np.clip(draw.normal(mean, scatter, days), 0, 1))


@pytest.mark.parametrize(("after", "within"), [(0.6, 3), (0.85, 4), (0.90, 8)])
def test_a_fall_of_coverage_is_found_within_days_and_dated(after: float, within: int) -> None:
    change, off = 28, []
    for seed in SEEDS:
        days = days_of(drawn(seed, change) + drawn(seed + 1000, within, after))
        if drift_of(days[:change]).since:
            continue  # a false alarm before; how many there may be is another test's
        found = drift_of(days)
        assert found.since is not None, f"seed {seed}"
        off.append(abs((found.since - days[change].day).days))
        assert any("less was covered" in reason for reason in found.reasons), f"seed {seed}"
    assert len(off) > len(SEEDS) // 2
    assert np.median(off) <= 1, off
    assert max(off) <= 7, off


def test_coverage_that_is_steadily_off_is_no_drift() -> None:
    assert drift_of(days_of([0.85] * 42)) == Drift()
    assert drift_of(days_of([1.0] * 42)) == Drift()


def test_unchanged_fleets_seldom_raise_an_alarm() -> None:
    alarms = sum(
        drift_of(days_of(drawn(seed, 42), 0.7 * np.exp(drawn(seed + 500, 42, 0.0, 0.1)))).since is not None for seed in SEEDS
    )
    assert alarms <= len(SEEDS) // 5, f"{alarms} of {len(SEEDS)} fleets"


@given(st.floats(0, 1), st.integers(10, 40))
def test_no_single_day_is_a_drift(share: float, place: int) -> None:
    covered = [0.95] * 42
    covered[place] = share
    assert drift_of(days_of(covered)) == Drift()


def test_a_growing_error_and_a_lost_skill_are_drifts() -> None:
    grown = drift_of(days_of([0.95] * 28, [0.5] * 24 + [0.9] * 4))
    assert grown == Drift(FIRST + timedelta(days=24), ("the error grew beside the naive forecast's",))
    lost = drift_of(days_of([0.95] * 28, [1.1] * 28))
    assert lost.since == FIRST + timedelta(days=21)
    assert lost.reasons == ("the naive forecast was better for 7 days",)


def test_too_few_days_and_days_without_figures_say_nothing() -> None:
    assert drift_of([]) == Drift()
    assert drift_of(days_of([0.95, 0.2, 0.1])) == Drift()
    blank = [Day(FIRST + timedelta(days=n), 0, (None,) * len(LEVELS), 0.0, 0.0) for n in range(30)]
    assert drift_of(blank) == Drift()
    assert all(np.isnan(bound) for bound in skill_bounds(blank))


def test_windows_are_those_since_the_change_until_the_usual_number_is_there_again() -> None:
    drift = Drift(FIRST, ("changed",))
    assert [drift.windows(14, FIRST + timedelta(days=n)) for n in (1, 3, 4, 5, 10, 15, 60)] == [3, 3, 3, 4, 9, 14, 14]
    assert Drift().windows(14, FIRST) == 14
    assert drift.windows(2, FIRST) == 2
    assert [drift.windows(14, FIRST + timedelta(days=n), 4) for n in (1, 2, 3, 4, 10)] == [3, 4, 8, 12, 14]
    assert LEAST_WINDOWS == 3


def test_the_bounds_of_skill_hold_it_between_them() -> None:
    days = days_of([0.95] * 20, [0.6, 0.8] * 10)
    low, high = skill_bounds(days)
    assert low < 0.3 < high
    assert high - low < 0.1
