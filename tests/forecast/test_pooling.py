"""Spreads that pool: own errors cancel in sums, common ones add up, and z makes the sum's quantile hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foreshard.forecast.pooling import LEVEL, calibrate, common_factor, spreads
from foreshard.forecast.series import Floats

errors_of_fleets = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 30)), elements=st.floats(-1e6, 1e6))


@given(errors_of_fleets)
def test_own_and_common_spread_make_up_the_whole(errors: Floats) -> None:
    factor = common_factor(errors)
    for row in errors:
        own, common = spreads(row, factor)
        assert own >= 0
        assert own**2 + common**2 == pytest.approx(np.mean(row**2), rel=1e-6, abs=1e-6)


@given(errors_of_fleets, st.integers(0, 100))
def test_z_is_bounded_and_drawn_the_same_again(errors: Floats, seed: int) -> None:
    factor = common_factor(errors)
    z, coverage = calibrate(errors, factor, seed)
    assert 1.0 <= z <= 4.0
    assert 0.0 <= coverage <= 1.0
    assert calibrate(errors, factor, seed) == (z, coverage)


@given(errors_of_fleets)
def test_the_factor_has_unit_size_or_is_nothing(errors: Floats) -> None:
    size = np.mean(common_factor(errors).values ** 2)
    assert size == pytest.approx(1.0) or size == 0.0


def test_shared_errors_are_common_and_private_ones_own() -> None:
    draw = np.random.default_rng(1)
    shared, private = draw.normal(size=400), draw.normal(size=(200, 400))
    factor = common_factor(3 * shared + private)
    parts = np.array([spreads(row, factor) for row in 3 * shared + private])
    assert parts[:, 1].mean() == pytest.approx(3, rel=0.1)
    assert parts[:, 0].mean() == pytest.approx(1, rel=0.1)
    against = np.array([1.0, -1.0])[np.arange(200) % 2]
    opposite = np.array([spreads(row, factor)[1] for row in against[:, None] * 3 * shared])
    assert (np.sign(opposite) == against).all(), "the common spread carries its sign"


def test_the_quantile_of_a_sum_holds_out_of_sample() -> None:
    draw = np.random.default_rng(2)
    whole = 2 * draw.normal(size=800) + draw.normal(size=(40, 800))
    past, future = whole[:, :400], whole[:, 400:]
    factor = common_factor(past)
    z, _ = calibrate(past, factor, seed=0)
    parts = np.array([spreads(row, factor) for row in past])
    for first in (0, 10, 20):
        chosen = slice(first, first + 15)
        bound = z * np.hypot(parts[chosen, 1].sum(), np.sqrt((parts[chosen, 0] ** 2).sum()))
        assert np.mean(future[chosen].sum(axis=0) <= bound) == pytest.approx(LEVEL, abs=0.04)


def test_a_shard_without_a_backtest_has_no_common_part() -> None:
    factor = common_factor(np.ones((2, 5)))
    assert spreads(np.zeros(0), factor) == (0.0, 0.0)
    assert spreads(np.array([3.0, 3.0]), factor) == (3.0, 0.0)
    assert calibrate(np.zeros((0, 0)), common_factor(np.zeros((0, 0))), 0) == (1.645, LEVEL)
