"""The library through the families' interface: bounded input, the same twice, and no series that stops another."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from drawn_loads import START, batch, loads

from foreshard.forecast.batch import Backtest, Batch, Prediction, backtest_of
from foreshard.forecast.batched_prophet import BatchedProphet
from foreshard.forecast.prophet_family import ProphetFamily

MINUTE = timedelta(minutes=1)


def predict(given: Batch, backtest: Backtest, **settings: int) -> Prediction:
    return ProphetFamily(**settings).predict(given, backtest)["prophet"]


def test_it_says_what_the_batched_model_says_and_the_same_twice() -> None:
    given = batch(loads(2, seed=11))
    backtest = backtest_of(given, 24, 2, 168)
    made, again = (predict(given, backtest, seed=3) for _ in range(2))
    np.testing.assert_array_equal(made.mean, again.mean)
    np.testing.assert_array_equal(made.backtest, again.backtest)
    batched = BatchedProphet().predict(given, backtest)["batched_prophet"]
    size = given.values.max(axis=1)
    assert (np.abs(made.mean - batched.mean).mean(axis=1) / size <= 0.01).all()
    assert (np.abs(made.backtest - batched.backtest).mean(axis=(1, 2)) / size <= 0.01).all()


def test_a_series_that_cannot_be_fitted_gets_nan_and_the_others_their_forecast() -> None:
    values = loads(4, seed=12)
    values[0] = np.nan
    values[1] = 1e308 * np.where(np.arange(504) % 2 == 0, 1.0, -1.0)
    values[2, 40:] = np.inf
    made = predict(batch(values), Backtest((), 24))
    assert np.isnan(made.mean[[0, 2]]).all()
    assert np.isfinite(made.mean[3]).all()


def test_minutes_are_averaged_to_quarters_and_no_more_than_56_days_are_read() -> None:
    minutes = np.arange(60 * 24 * 70)
    wave = 100 + 50 * np.sin(2 * np.pi * minutes / (60 * 24))
    values = np.where(minutes < 60 * 24 * 14, 1e6, wave)
    values[-3000:-2990] = np.nan
    given = Batch(("a",), START, MINUTE, values[None])
    made = predict(given, Backtest((), 90)).mean[0]
    ahead = np.arange(len(minutes), len(minutes) + 90)
    np.testing.assert_allclose(made, 100 + 50 * np.sin(2 * np.pi * ahead / (60 * 24)), atol=1.0)


def test_windows_between_refits_are_forecast_by_the_fit_before_them() -> None:
    given = batch(loads(1, seed=13))
    backtest = backtest_of(given, 24, 3, 168)
    sparse = predict(given, backtest, refit_every=3).backtest[0]
    before = given.values[:, : backtest.starts[0]]
    alone = predict(batch(before), Backtest((), 72)).mean[0]
    np.testing.assert_allclose(sparse.reshape(-1), alone, rtol=1e-9)


def test_a_regressor_moves_the_forecast_and_an_unknown_one_is_left_out() -> None:
    holiday = np.zeros(528)
    holiday[[*range(100, 124), *range(300, 324), *range(504, 528)]] = 1.0
    values = loads(1, seed=14) * (1 + 0.6 * holiday[:504])
    plain = predict(batch(values), Backtest((), 24)).mean
    moved = predict(batch(values, holiday=holiday), Backtest((), 24)).mean
    assert (moved / plain > 1.2).all()
    holiday[510] = np.nan
    np.testing.assert_array_equal(predict(batch(values, holiday=holiday), Backtest((), 24)).mean, plain)
