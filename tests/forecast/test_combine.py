"""One series' forecast: which model stands in for what history, quantiles in order, and better than knowing nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast.combine import Options, forecast
from foreshard.forecast.series import LEVELS, Floats, Series, regular

START = datetime(2013, 11, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)


def series(values: Floats, step: timedelta = HOUR) -> Series:
    return Series(START, step, np.asarray(values, dtype=np.float64))


def seasonal(days: int, seed: int = 0) -> Floats:
    """Hourly load with a daily and a weekly cycle and scatter of a tenth."""
    hours = np.arange(24 * days)
    level = 100 + 60 * np.sin(2 * np.pi * hours / 24) + 20 * np.sin(2 * np.pi * hours / 168)
    return np.maximum(level + np.random.default_rng(seed).normal(0, 6, len(hours)), 0.0)


loads = st.floats(0, 1e12)
spoilt = loads | st.sampled_from([float("nan"), float("inf"), float("-inf")])
histories = st.lists(loads, min_size=1, max_size=100) | st.lists(spoilt, min_size=1, max_size=40)


@given(histories, st.integers(1, 40), st.sampled_from([HOUR, HOUR * 6, HOUR * 24, HOUR * 24 * 30]))
@settings(max_examples=60, deadline=None)
def test_any_history_gives_an_ordered_forecast_without_negative_load(
    values: list[float], horizon: int, step: timedelta
) -> None:
    made = forecast(series(np.array(values), step), Options(horizon, models=("seasonal_naive",)))
    assert made.mean.shape == (horizon,)
    assert made.quantiles.shape == (len(LEVELS), horizon)
    assert np.isfinite(made.mean).all()
    assert np.isfinite(made.quantiles).all()
    assert (made.mean >= 0).all()
    assert (made.quantiles >= 0).all()
    assert (np.diff(made.quantiles, axis=0) >= 0).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.ones(24 * 3) * 5, "less than 14 days of history"),
        (np.zeros(0), "less than 14 days of history"),
        (np.ones(24 * 15) * 5, "the history is constant"),
        (np.append(np.arange(24.0 * 15), np.nan), "the history has values that are not finite"),
    ],
)
def test_a_history_that_cannot_be_fitted_gets_the_naive_forecast_and_says_why(values: Floats, reason: str) -> None:
    made = forecast(series(values), Options(5))
    assert (made.model, made.fallback_reason) == ("seasonal_naive", reason)
    assert np.isfinite(made.mean).all()


def test_loads_too_large_to_square_fall_back_instead_of_spreading_nan() -> None:
    made = forecast(series(seasonal(15) * 1e200), Options(5, models=("seasonal_naive",)))
    assert np.isfinite(made.mean).all()
    assert np.isfinite(made.quantiles).all()


def test_a_model_that_fails_is_replaced_and_its_words_are_kept() -> None:
    made = forecast(series(seasonal(15)), Options(5, country="no such country"))
    assert made.model == "seasonal_naive"
    assert made.fallback_reason.startswith("prophet failed: ")
    assert made.mean.shape == (5,)


def test_a_clear_cycle_is_forecast_far_better_than_by_the_mean_and_again_the_same() -> None:
    whole = seasonal(22)
    past, future = series(whole[: 24 * 21]), whole[24 * 21 :]
    made = forecast(past, Options(24, seed=7))
    assert "prophet" in made.model
    error = np.mean(np.abs(made.mean - future))
    assert error < 0.25 * np.mean(np.abs(past.values.mean() - future))
    assert np.mean(future <= made.quantiles[LEVELS.index(0.95)]) >= 0.7
    again = forecast(past, Options(24, seed=7))
    assert np.array_equal(again.mean, made.mean)
    assert np.array_equal(again.quantiles, made.quantiles)


def test_intervals_without_a_value_had_no_load() -> None:
    times = [START, START + HOUR * 3, START + HOUR * 9]
    made = regular(times, [1.0, 2.0, 3.0], HOUR, START + HOUR * 6)
    assert made.values.tolist() == [1, 0, 0, 2, 0, 0]
    assert made.end == START + HOUR * 6
