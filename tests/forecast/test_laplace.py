"""The fit with a Laplace prior: its conditions of optimality hold, and its noise agrees with its penalty."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast import laplace
from foreshard.forecast.batch import Floats


def ramps(count: int, steps: int, seed: int) -> tuple[Floats, Floats, float]:
    """Almost parallel columns, as a trend's are, and a target: products, pull and the target's squares."""
    draw = np.random.default_rng(seed)
    time = np.arange(steps) / steps
    columns = np.maximum(time[:, None] - np.linspace(0.03, 0.8, count), 0.0)
    turns = np.where(draw.random(count) < 0.3, draw.normal(0.0, 3.0, count), 0.0)
    target = columns @ turns + draw.normal(0.0, draw.uniform(0.01, 0.3), steps)
    return columns.T @ columns + 1e-9 * np.eye(count), columns.T @ target, float(target @ target)


def objective(gram: Floats, pull: Floats, rest: float, rows: int, delta: Floats, variance: float) -> float:
    squares = rest - 2 * pull @ delta + delta @ gram @ delta
    return float(rows / 2 * np.log(variance) + squares / (2 * variance) + np.abs(delta).sum() / 0.05 + 2 * variance)


@given(st.integers(1, 25), st.integers(40, 400), st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_a_fit_meets_the_conditions_of_optimality(count: int, steps: int, seed: int) -> None:
    gram, pull, rest = ramps(count, steps, seed)
    delta = np.zeros(count)
    variance = laplace.fit(gram, pull, rest, steps, 0.05, delta)
    slope, penalty = pull - gram @ delta, variance / 0.05
    tolerance = 1e-5 * penalty + 1e-9
    inside = delta != 0.0
    assert (np.abs(slope[~inside]) <= penalty + tolerance).all()
    np.testing.assert_allclose(slope[inside], penalty * np.sign(delta[inside]), atol=tolerance)
    squares = rest - 2 * pull @ delta + delta @ gram @ delta
    np.testing.assert_allclose(variance, laplace.noise_of(squares, steps), rtol=1e-5)


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_no_change_of_the_solution_improves_it(seed: int) -> None:
    gram, pull, rest = ramps(12, 200, seed)
    delta = np.zeros(12)
    variance = laplace.fit(gram, pull, rest, 200, 0.05, delta)
    best = objective(gram, pull, rest, 200, delta, variance)
    draw = np.random.default_rng(seed)
    for size in (1e-3, 1e-2, 1e-1):
        other = delta + size * draw.normal(size=12)
        assert objective(gram, pull, rest, 200, other, variance * np.exp(size * draw.normal())) >= best - 1e-9


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_start_elsewhere_ends_at_an_optimum_as_good(seed: int) -> None:
    gram, pull, rest = ramps(25, 300, seed)
    cold, warm = np.zeros(25), np.random.default_rng(seed).normal(0.0, 1.0, 25)
    variances = [laplace.fit(gram, pull, rest, 300, 0.05, delta) for delta in (cold, warm)]
    reached = [objective(gram, pull, rest, 300, d, v) for d, v in zip((cold, warm), variances, strict=True)]
    assert abs(reached[0] - reached[1]) <= 1e-3 + 1e-4 * abs(reached[0])


def test_nothing_to_explain_leaves_everything_at_zero() -> None:
    gram, _, _ = ramps(25, 300, 1)
    delta = np.zeros(25)
    laplace.fit(gram, np.zeros(25), 3.0, 300, 0.05, delta)
    assert (delta == 0.0).all()
