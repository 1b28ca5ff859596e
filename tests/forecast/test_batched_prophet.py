"""Prophet for whole batches: the library's own figures and a better optimum, strictly causal, row by row, whatever comes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn_loads import HOUR, START, batch, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction, backtest_of
from foreshard.forecast.batched_prophet import BatchedProphet, fit
from foreshard.forecast.prophet_design import columns_of

DAY = 24
NONE = Backtest((), DAY)
FAMILY = BatchedProphet()


def predict(given: Batch, backtest: Backtest, family: BatchedProphet = FAMILY) -> Prediction:
    return family.predict(given, backtest)["batched_prophet"]


def mean(given: Batch, horizon: int = DAY) -> Floats:
    return predict(given, Backtest((), horizon)).mean


def library(given: Batch, row: int = 0, horizon: int = DAY) -> tuple[Any, Floats]:
    """The library's model, fitted to a series with its regressors, and its forecast."""
    from prophet import Prophet

    logging.getLogger("cmdstanpy").disabled = True
    times = pd.date_range(START.replace(tzinfo=None), periods=given.steps + horizon, freq=given.step)
    frame = pd.DataFrame({"ds": times, **{k: v if v.ndim == 1 else v[row] for k, v in given.regressors.items()}})
    model = Prophet(uncertainty_samples=0)
    # In the order of the batched columns.
    for name in sorted(given.regressors):
        model.add_regressor(name)
    model.fit(frame.iloc[: given.steps].assign(y=given.values[row]))
    return model, model.predict(frame.iloc[given.steps :])["yhat"].to_numpy()


def objective(model: Any, values: Floats, trend: Floats, deltas: Floats, effects: Floats, noise: float) -> float:
    """What the library minimises, by its own design matrix: the negative logarithm of the posterior density."""
    history = model.history
    t, y = history["t"].to_numpy(), history["y_scaled"].to_numpy()
    terms, _, _, _ = model.make_all_seasonality_features(history)
    ramps = np.maximum(t[:, None] - model.changepoints_t, 0.0)
    said = trend[0] * t + trend[1] + ramps @ deltas[: ramps.shape[1]] + terms.to_numpy() @ effects
    squares = float(((y - said) ** 2).sum())
    priors = (trend**2).sum() / 50 + np.abs(deltas).sum() / 0.05 + (effects**2).sum() / 200 + 2 * noise**2
    return float(len(y) * np.log(noise) + squares / (2 * noise**2) + priors)


def of_library(model: Any, values: Floats) -> float:
    p = model.params
    trend = np.array([p["k"].item(), p["m"].item()])
    return objective(model, values, trend, p["delta"][0], p["beta"][0], p["sigma_obs"].item())


def with_holes(values: Floats) -> Floats:
    """A late start, an outage, and single gaps, each in a row of its own; the rest whole."""
    made = values.copy()
    made[0, :130] = np.nan
    made[1, 200:260] = np.nan
    made[2, np.random.default_rng(3).random(made.shape[1]) < 0.1] = np.nan
    return made


HOLIDAY = np.zeros(504 + DAY)
HOLIDAY[[*range(100, 124), *range(340, 364), *range(510, 528)]] = 1.0


def ordinary() -> Batch:
    return batch(loads(6, seed=1))


def gappy() -> Batch:
    return batch(with_holes(loads(6, seed=2)))


def driven() -> Batch:
    """A holiday of all series and a regressor of each, which move the loads."""
    values = loads(6, seed=3)
    price = np.random.default_rng(4).normal(100.0, 7.0, (6, 504 + DAY))
    size = values.mean(axis=1, keepdims=True)
    return batch(values + size * (0.5 * HOLIDAY[:504] - 0.02 * (price[:, :504] - 100)), holiday=HOLIDAY, price=price)


@pytest.mark.parametrize("drawn", [ordinary, gappy, driven])
def test_it_forecasts_what_the_library_does_from_an_optimum_no_worse(drawn: Callable[[], Batch]) -> None:
    given = drawn()
    ours, parameters = mean(given), fit(given)
    apart = []
    for row in range(len(given)):
        model, theirs = library(given, row)
        apart.append(np.abs(ours[row] - theirs).mean() / np.nanmax(np.abs(given.values[row])))
        reached = objective(
            model,
            given.values[row],
            parameters.trend[row],
            parameters.deltas[row],
            parameters.effects[row],
            float(parameters.noise[row]),
        )
        assert reached <= of_library(model, given.values[row]) + 0.02
    assert np.median(apart) <= 0.002
    assert max(apart) <= 0.01


@pytest.mark.parametrize("drawn", [ordinary, gappy, driven])
def test_on_request_it_stops_where_the_library_does(drawn: Callable[[], Batch]) -> None:
    given = drawn()
    backtest = backtest_of(given, DAY, 2, 168)
    theirs = np.array([library(given, row)[1] for row in range(len(given))])
    optimum, stopped = predict(given, backtest), predict(given, backtest, BatchedProphet(as_library=True))
    largest = np.nanmax(given.values, axis=1)
    apart = [np.abs(made.mean - theirs).mean(axis=1) / largest for made in (optimum, stopped)]
    assert np.median(apart[1]) <= 0.001
    assert apart[1].mean() <= apart[0].mean()
    assert (stopped.mean != optimum.mean).any()
    np.testing.assert_array_equal(stopped.backtest, optimum.backtest)


def test_where_nothing_is_left_to_explain_or_little_is_known_the_optimum_stands() -> None:
    short, plain = batch(loads(2, 90)), batch(np.full((1, 504), 4.0))
    family = BatchedProphet(as_library=True)
    np.testing.assert_array_equal(predict(short, Backtest((), DAY), family).mean, mean(short))
    np.testing.assert_array_equal(predict(plain, Backtest((), DAY), family).mean, mean(plain))


def test_the_design_is_the_librarys() -> None:
    given = batch(loads(1))
    model, _ = library(given)
    terms, _, _, _ = model.make_all_seasonality_features(model.history)
    ours = columns_of(given, DAY).shared[: given.steps, 2:]
    np.testing.assert_allclose(ours, terms.to_numpy(), atol=1e-9)


def test_years_of_days_have_a_yearly_season_and_no_daily_one() -> None:
    days = np.arange(1000)
    values = 10 + 3 * np.sin(2 * np.pi * days / 365.25) + np.sin(2 * np.pi * days / 7)
    given = Batch(("a",), START, timedelta(days=1), values[None])
    assert columns_of(given, 30).shared.shape[1] == 2 + 6 + 20
    ahead = np.arange(1000, 1030)
    expected = 10 + 3 * np.sin(2 * np.pi * ahead / 365.25) + np.sin(2 * np.pi * ahead / 7)
    np.testing.assert_allclose(mean(given, 30)[0], expected, atol=0.05)


def test_a_late_start_is_a_shorter_history() -> None:
    values = loads(3, seed=5)
    late = values.copy()
    late[:, :150] = np.nan
    shorter = Batch(("a", "b", "c"), START + 150 * HOUR, HOUR, values[:, 150:])
    np.testing.assert_allclose(mean(batch(late)), mean(shorter), rtol=1e-6)


@given(st.integers(0, 10**6), st.integers(0, 13))
@settings(max_examples=25, deadline=None)
def test_a_window_is_forecast_without_what_came_in_it_or_later(seed: int, window: int) -> None:
    values = with_holes(loads(4, seed=seed))
    backtest = backtest_of(batch(values), DAY, 14, 168)
    changed = values.copy()
    changed[:, backtest.starts[window] :] = np.random.default_rng(seed).lognormal(
        2, 2, changed[:, backtest.starts[window] :].shape
    )
    before, after = (predict(batch(v), backtest).backtest[:, : window + 1] for v in (values, changed))
    np.testing.assert_allclose(before, after, rtol=1e-9)


@pytest.mark.parametrize("drawn", [ordinary, gappy, driven])
def test_a_windows_forecast_is_the_forecast_from_the_history_before_it(drawn: Callable[[], Batch]) -> None:
    given = drawn()
    backtest = backtest_of(given, DAY, 14, 168)
    tried = predict(given, backtest).backtest
    for number in (0, 6, 13):
        start = backtest.starts[number]
        known = {name: v[..., : start + DAY] for name, v in given.regressors.items()}
        alone = mean(Batch(given.ids, given.start, given.step, given.values[:, :start], known))
        largest = np.nanmax(given.values, axis=1, keepdims=True)
        np.testing.assert_allclose(alone / largest, tried[:, number] / largest, atol=1e-3)
        assert np.isfinite(alone[1:]).all()


@pytest.mark.parametrize("family", [FAMILY, BatchedProphet(as_library=True)])
@pytest.mark.parametrize("drawn", [ordinary, gappy, driven])
def test_a_row_depends_on_itself_alone(drawn: Callable[[], Batch], family: BatchedProphet) -> None:
    given = drawn()
    backtest = backtest_of(given, DAY, 3, 168)
    together = predict(given, backtest, family)
    for row in range(len(given)):
        alone = predict(given.take([row]), backtest, family)
        np.testing.assert_allclose(alone.mean[0], together.mean[row], rtol=1e-9)
        np.testing.assert_allclose(alone.backtest[0], together.backtest[row], rtol=1e-9)


def test_a_regressor_of_all_series_may_be_given_for_each() -> None:
    values = loads(3, seed=6) * (1 + 0.4 * HOLIDAY[:504])
    shared = mean(batch(values, holiday=HOLIDAY))
    np.testing.assert_allclose(mean(batch(values, holiday=np.tile(HOLIDAY, (3, 1)))), shared, rtol=1e-9)
    assert np.abs(shared[:, 6:] / mean(batch(values))[:, 6:] - 1).min() > 0.1


@pytest.mark.parametrize("values", [np.zeros(528), np.ones(528), np.full(528, 7e9), np.r_[np.zeros(504), np.ones(24)]])
def test_a_regressor_that_never_varied_says_nothing(values: Floats) -> None:
    given = batch(loads(3, seed=7))
    np.testing.assert_allclose(mean(batch(given.values, constant=values)), mean(given), rtol=1e-6)


def test_a_regressor_with_an_unknown_step_is_left_out_for_the_series_that_lack_it() -> None:
    values = loads(3, seed=8)
    lacking = np.random.default_rng(8).normal(size=(3, 528))
    lacking[1, 520] = np.nan
    made, without = mean(batch(values, price=lacking)), mean(batch(values))
    np.testing.assert_allclose(made[1], without[1], rtol=1e-6)
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(mean(batch(values, price=lacking[1])), without)
    np.testing.assert_array_equal(mean(batch(values, price=lacking[0, :520])), without)


@given(st.floats(1e-250, 1e250))
@settings(max_examples=25, deadline=None)
def test_the_unit_of_a_load_does_not_matter(unit: float) -> None:
    values = loads(2, seed=9)
    np.testing.assert_allclose(mean(batch(values * unit)), mean(batch(values)) * unit, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e12])
def test_a_constant_stays_what_it_is(value: float) -> None:
    np.testing.assert_allclose(mean(batch(np.full((1, 504), value)))[0], value, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(
    "values",
    [np.full(504, np.nan), np.r_[np.full(470, np.nan), np.ones(34)], np.full(504, np.inf), np.r_[np.full(503, np.nan), 1.0]],
)
def test_too_little_that_is_known_gives_nan_and_leaves_the_others_alone(values: Floats) -> None:
    others = loads(2, seed=10)
    made = mean(batch(np.vstack([others[:1], values, others[1:]])))
    assert np.isnan(made[1]).all()
    np.testing.assert_allclose(made[[0, 2]], mean(batch(others)), rtol=1e-9)


@pytest.mark.parametrize("steps", [0, 1, 2, 30, 47])
def test_a_grid_too_short_gives_nan(steps: int) -> None:
    assert np.isnan(mean(batch(loads(2)[:, :steps]))).all()


spoilt = st.floats(-1e12, 1e12) | st.sampled_from([float("nan"), float("inf"), 0.0, 1e300])


@given(st.lists(spoilt, min_size=48, max_size=120), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_whatever_the_values_it_neither_raises_nor_says_infinity(values: list[float], horizon: int) -> None:
    given = batch(np.array([values, [1.0 + i % 24 for i in range(len(values))]]))
    for family in (FAMILY, BatchedProphet(as_library=True)):
        made = predict(given, backtest_of(given, horizon, 5, 48), family)
        assert made.mean.shape == (2, horizon)
        assert not np.isinf(made.mean[0]).any()
        assert np.isfinite(made.mean[1]).all()


def test_refitting_less_often_keeps_the_forecast_and_the_windows_it_refits() -> None:
    given = gappy()
    backtest = backtest_of(given, DAY, 14, 168)
    full, sparse = predict(given, backtest), predict(given, backtest, BatchedProphet(refit_every=7))
    np.testing.assert_array_equal(sparse.mean, full.mean)
    np.testing.assert_allclose(sparse.backtest[3:, [0, 7]], full.backtest[3:, [0, 7]], rtol=0.02)
    assert not np.allclose(sparse.backtest[3:, 13], full.backtest[3:, 13], rtol=1e-3)
