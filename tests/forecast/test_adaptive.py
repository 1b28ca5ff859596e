"""Levels that follow what was observed: they bring coverage to what is declared, leave it alone where it is, stay in bounds."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foreshard.forecast.adaptive import FURTHEST, RATE, adapted, updated
from foreshard.forecast.batch import LEVELS, Floats

UPPER = [place for place, level in enumerate(LEVELS) if level > 0.5]
PLACES = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
LEVEL_SETS = st.tuples(*[st.floats(0.001, 0.999) for _ in LEVELS])
CURVES = arrays(np.float64, (len(LEVELS), 3, 4), elements=st.floats(0, 1e6)).map(lambda drawn: np.sort(drawn, axis=0))


def normal_curve(mean: float, spread: float, series: int) -> Floats:
    """The quantiles of a normal error, shape (levels, series, 1)."""
    return np.broadcast_to((mean + spread * PLACES)[:, None, None], (len(LEVELS), series, 1)).copy()


def lived_through(days: int, series: int, declared: float, seed: int, common: float = 0.0) -> tuple[Floats, tuple[float, ...]]:
    """Days whose forecasts have a spread of `declared` and errors of 1: shares covered (days, levels), levels at last."""
    draw = np.random.default_rng(seed)
    levels_used: tuple[float, ...] = LEVELS
    shares = []
    for _ in range(days):
        published = adapted(normal_curve(100.0, declared, series), levels_used)[:, :, 0]
        shared = common * draw.standard_normal()
        actual = 100.0 + shared + np.sqrt(1 - common**2) * draw.standard_normal(series)
        shares.append((actual <= published).mean(axis=1))
        levels_used = updated(levels_used, [shares[-1]])
    return np.array(shares), levels_used


@pytest.mark.parametrize("declared", [0.75, 0.85, 1.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_wrong_spreads_are_corrected_until_each_level_holds_its_share(declared: float, seed: int) -> None:
    days = 240
    shares, levels_used = lived_through(days, 400, declared, seed)
    declared_levels = np.array(LEVELS)[UPPER]
    uncorrected = [NormalDist().cdf(declared * place) for place in PLACES[UPPER]]
    assert np.abs(uncorrected - declared_levels).max() > 0.03, "there is something to correct"
    last = shares[days // 2 :, UPPER].mean(axis=0)
    assert last == pytest.approx(declared_levels, abs=0.01), f"seed {seed}: {last} instead of {declared_levels}"
    density = np.array([NormalDist().pdf(place) for place in PLACES[UPPER]])
    bound = 2 * FURTHEST * density / (RATE * days)
    assert (np.abs(shares[:, UPPER].mean(axis=0) - declared_levels) <= bound + 1e-9).all(), f"seed {seed}"
    assert levels_used[:3] == LEVELS[:3], "the median and below stay as they are"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_right_spreads_stay_right_though_days_err_together(seed: int) -> None:
    shares, levels_used = lived_through(200, 300, 1.0, seed, common=0.4)
    assert shares.mean(axis=0) == pytest.approx(LEVELS, abs=0.015), f"seed {seed}"
    assert [NormalDist().inv_cdf(level) for level in levels_used] == pytest.approx(PLACES.tolist(), abs=0.5), f"seed {seed}"


def test_coverage_as_declared_changes_nothing() -> None:
    assert updated(LEVELS, [LEVELS] * 30) == LEVELS
    assert updated(LEVELS, []) == LEVELS
    curve = np.sort(np.random.default_rng(5).gamma(2.0, 3.0, (len(LEVELS), 4, 6)), axis=0)
    assert adapted(curve, LEVELS) is curve


def test_days_that_nobody_knows_of_change_nothing() -> None:
    moved = updated(LEVELS, [[0.0, 0.05, 0.4, 0.85, 0.9, 0.97]])
    assert updated(moved, [[None] * 6, [float("nan")] * 6]) == pytest.approx(moved, rel=1e-12)


@given(LEVEL_SETS, st.lists(st.tuples(*[st.floats(0, 1) for _ in LEVELS]), max_size=40))
def test_levels_stay_within_their_bound(levels_used: tuple[float, ...], days: list[tuple[float, ...]]) -> None:
    places = [NormalDist().inv_cdf(level) for level in updated(levels_used, days)]
    assert (np.abs(places - PLACES) <= FURTHEST + 1e-6).all()


def test_too_little_covered_reads_further_up_and_too_much_further_down() -> None:
    up, down = updated(LEVELS, [[0.0] * 6]), updated(LEVELS, [[1.0] * 6])
    assert all(up[place] > LEVELS[place] > down[place] for place in UPPER)


@given(CURVES, LEVEL_SETS)
@example(np.zeros((len(LEVELS), 3, 4)), (0.5,) * 6)
def test_curves_stay_ordered_and_not_negative(curves: Floats, levels_used: tuple[float, ...]) -> None:
    read = adapted(curves, levels_used)
    assert read.shape == curves.shape
    assert (np.diff(read, axis=0) >= 0).all()
    assert (read >= 0).all()
    alone = adapted(curves[:, 1:2], levels_used)
    assert np.array_equal(alone, read[:, 1:2])


@pytest.mark.parametrize("shift", [-0.9, -0.2, 0.3, 0.9])
def test_a_normal_curve_is_read_exactly_within_and_beyond_its_levels(shift: float) -> None:
    levels_used = tuple(NormalDist().cdf(place + shift) for place in PLACES)
    expected = 100.0 + 7.0 * (PLACES + shift)
    assert adapted(normal_curve(100.0, 7.0, 2), levels_used)[:, 1, 0] == pytest.approx(expected, rel=1e-9)


def test_a_tail_that_ends_flat_still_reaches_further() -> None:
    curve = np.array([8.0, 9.0, 10.0, 12.0, 14.0, 14.0])[:, None, None]
    levels_used = (*LEVELS[:-1], 0.999)
    assert adapted(curve, levels_used)[-1, 0, 0] > 15.0


def test_levels_of_another_curve_are_refused() -> None:
    with pytest.raises(ValueError, match="6 levels, not 2"):
        updated((0.5, 0.9), [])
