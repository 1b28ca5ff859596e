"""Spreads that pool: own errors cancel in sums, common ones add up, and z makes the sum's quantile hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foreshard.forecast.batch import LEVELS, Floats
from foreshard.forecast.pooling import LEVEL, NORMAL, Pooling, by_step, common_factors, learn, spreads

sizes = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
known_errors = arrays(np.float64, sizes, elements=st.floats(-1e6, 1e6))
errors_of_fleets = arrays(np.float64, sizes, elements=st.one_of(st.floats(-1e6, 1e6), st.just(np.nan)))


def flat(errors: Floats) -> Floats:
    return errors.reshape(len(errors), -1)


@given(errors_of_fleets)
def test_own_and_common_spread_make_up_the_whole_of_what_is_known(errors: Floats) -> None:
    own, common = spreads(flat(errors), common_factors(flat(errors)))
    known = np.isfinite(flat(errors))
    total = np.where(known, flat(errors), 0.0) ** 2
    expected = total.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    assert (own >= 0).all()
    assert own**2 + (common**2).sum(axis=1) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(errors_of_fleets, st.integers(0, 100))
def test_z_is_bounded_and_drawn_the_same_again(errors: Floats, seed: int) -> None:
    learnt = learn(errors, seed)
    assert 1.0 <= learnt.z <= 4.0
    assert 0.0 <= learnt.coverage <= 1.0
    assert learnt.errors == np.isfinite(errors).sum()
    again = learn(errors, seed)
    assert (again.z, again.coverage) == (learnt.z, learnt.coverage)


@given(known_errors)
def test_factors_have_unit_size_or_are_nothing_and_stand_at_right_angles(errors: Floats) -> None:
    factors = common_factors(flat(errors))
    for size in np.mean(factors**2, axis=1):
        assert size == pytest.approx(1.0) or size == 0.0
    assert np.mean(factors[0] * factors[1]) == pytest.approx(0.0, abs=1e-6)


def test_shared_errors_are_common_and_private_ones_own() -> None:
    draw = np.random.default_rng(1)
    shared, private = draw.normal(size=400), draw.normal(size=(200, 400))
    factors = common_factors(3 * shared + private)
    own, common = spreads(3 * shared + private, factors)
    assert common[:, 0].mean() == pytest.approx(3, rel=0.1)
    assert own.mean() == pytest.approx(1, rel=0.1)
    against = np.array([1.0, -1.0])[np.arange(200) % 2]
    opposite = spreads(against[:, None] * 3 * shared, factors)[1][:, 0]
    assert (np.sign(opposite) == against).all(), "the common spread carries its sign"


def test_heavy_shards_that_err_together_have_a_factor_of_their_own() -> None:
    draw = np.random.default_rng(3)
    light, heavy = draw.normal(size=(90, 400)), 50 * draw.normal(size=400) + draw.normal(size=(10, 400))
    own, common = spreads(np.vstack([light, heavy]), common_factors(np.vstack([light, heavy])))
    assert np.sqrt((common[90:] ** 2).sum(axis=1)) == pytest.approx(50, rel=0.15)
    assert (own[90:] < 20).all()
    assert own[:90].mean() == pytest.approx(1, rel=0.1)


def test_the_quantile_of_a_sum_holds_out_of_sample() -> None:
    draw = np.random.default_rng(2)
    whole = (2 * draw.normal(size=800) + draw.standard_t(4, size=(40, 800))).reshape(40, 80, 10)
    past, future = whole[:, :40], flat(whole[:, 40:])
    learnt = learn(past, seed=0)
    assert learnt.coverage == pytest.approx(LEVEL, abs=0.03)
    own, common = spreads(flat(past), learnt.factors)
    for first in (0, 10, 20):
        chosen = slice(first, first + 15)
        bound = learnt.z * np.sqrt((common[chosen].sum(axis=0) ** 2).sum() + (own[chosen] ** 2).sum())
        assert np.mean(future[chosen].sum(axis=0) <= bound) == pytest.approx(LEVEL, abs=0.04)


def test_too_little_to_learn_from_gives_a_normal_z() -> None:
    for shape in ((0, 0, 3), (0, 4, 3), (1, 4, 3), (5, 1, 3), (5, 4, 3)):
        learnt = learn(np.zeros(shape), 0)
        assert (learnt.z, learnt.coverage) == (NORMAL, LEVEL)
        assert learnt.factors.shape == (2, shape[1] * shape[2])
    unknown = learn(np.full((5, 4, 3), np.nan), 0)
    assert unknown == Pooling(unknown.factors, NORMAL, LEVEL, 0)


def test_spreads_follow_the_quantiles_width_by_step() -> None:
    draw = np.random.default_rng(4)
    errors = draw.normal(size=(30, 10, 4)) * 5
    width = np.array([1.0, 2.0, 3.0, 1.0])
    quantiles = np.array([NORMAL if level == 0.95 else -NORMAL for level in LEVELS])[:, None, None] * np.tile(width, (30, 1))
    factors = common_factors(flat(errors))
    own, common = by_step(errors, quantiles, factors)
    assert own.shape == (30, 4)
    assert common.shape == (30, 4, 2)
    assert np.allclose(own / own[:, :1], width / width[0])
    total = (own**2 + (common**2).sum(axis=2)).mean(axis=1)
    assert np.allclose(total, (errors**2).mean(axis=(1, 2))), "over the horizon it is the backtest's"
    errors[0] = np.nan
    young, shared = by_step(errors, quantiles, factors)
    assert np.allclose(young[0], width), "without a backtest, the quantiles tell"
    assert not shared[0].any()
