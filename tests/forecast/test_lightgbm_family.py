"""Trees that correct simpler forecasts: better than what they correct, blind to the windows they are tried on, and an extra."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec

import numpy as np
import pytest
from drawn_loads import START, batch, loads

from foreshard.forecast import engine
from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction, backtest_of
from foreshard.forecast.families import FAMILIES
from foreshard.forecast.lightgbm_family import LightGBM
from foreshard.forecast.spar import Spar
from foreshard.forecast.tree_features import known

needs_extra = pytest.mark.skipif(find_spec("lightgbm") is None, reason="the extra ml is not installed")

WITHOUT_EXTRA = """
import sys
sys.modules["lightgbm"] = None  # as if it were not installed
import numpy as np
from foreshard.errors import ForeshardError
from foreshard.forecast import engine
from foreshard.forecast.batch import Batch
from datetime import UTC, datetime, timedelta
loads = 10 + np.sin(np.arange(504) / 24) + np.arange(3)[:, None]
given = Batch(("a", "b", "c"), datetime(2024, 3, 4, tzinfo=UTC), timedelta(hours=1), loads)
assert np.isfinite(engine.forecast_all(given, engine.Options(24)).mean).all()
try:
    engine.forecast_all(given, engine.Options(24, families=("spar", "lightgbm")))
except ForeshardError as error:
    print(error)
"""


def chaotic(series: int, steps: int, seed: int) -> Floats:
    """Loads whose day follows from the day before by the logistic map: a rule that holds for all series and that no linear
    model can say, because a day and the day before are not correlated."""
    draw = np.random.default_rng(seed)
    height = np.empty((series, -(-steps // 24)))
    height[:, 0] = draw.uniform(0.1, 0.9, series)
    for day in range(1, height.shape[1]):
        height[:, day] = 3.95 * height[:, day - 1] * (1 - height[:, day - 1])
    wave = 3 + np.sin(2 * np.pi * (np.arange(height.shape[1] * 24) / 24 + draw.random((series, 1))))
    noise = draw.uniform(0.99, 1.01, wave.shape)
    made: Floats = 10 * (1 + np.repeat(height, 24, axis=1)) * wave * noise
    return made[:, :steps]


def off(prediction: Prediction, actual: Floats) -> tuple[float, float]:
    """The mean absolute error of the forecast and of the backtest."""
    mean, windows = prediction.mean, prediction.backtest
    return float(np.abs(mean - actual[:, -24:]).mean()), float(np.abs(windows - actual[:, :-24].reshape(windows.shape)).mean())


@needs_extra
def test_trees_find_a_rule_of_the_fleet_that_linear_models_cannot_say_and_the_backtest_says_how_well() -> None:
    whole = chaotic(80, 504 + 24, seed=21)
    given = batch(whole[:, :504])
    backtest = backtest_of(given, 24, 14, 72)
    actual = whole[:, backtest.starts[0] :]
    spar = Spar()
    linear, _ = off(spar.predict(given, backtest, spar.learn(given, backtest))["spar"], actual)
    family = LightGBM(rounds=40)
    made = family.predict(given, backtest, family.learn(given, backtest))
    for member in made.values():
        future, tried = off(member, actual)
        assert future < 0.7 * linear
        # Trees that had seen the windows would be far better there than in the future.
        assert 0.8 * future < tried < 1.5 * future


@needs_extra
def test_the_backtest_says_nothing_of_noise_that_it_has_not_seen() -> None:
    draw = np.random.default_rng(22)
    given = batch(10 + draw.normal(size=(60, 504)))
    backtest = backtest_of(given, 24, 14, 72)
    family = LightGBM(rounds=40)
    tried = family.predict(given, backtest, family.learn(given, backtest))["lightgbm"].backtest
    errors = backtest.windows(given.values) - tried
    # Nothing is better for noise than its mean, and trees that had seen it would seem to be.
    assert 0.98 < np.sqrt(np.mean(errors**2)) < 1.1


@needs_extra
def test_what_is_learnt_travels_and_says_the_same_twice_and_of_each_row_alone() -> None:
    given = batch(loads(60, seed=23))
    backtest = backtest_of(given, 24, 14, 72)
    family = LightGBM(seed=5, rounds=20)
    learnt = family.learn(given, backtest)
    assert pickle.dumps(family.learn(given, backtest)) == pickle.dumps(learnt)
    whole = family.predict(given, backtest, learnt)
    part = family.predict(given.take([7, 3]), backtest, pickle.loads(pickle.dumps(learnt)))
    assert set(whole) == {"lightgbm", "lightgbm_daily"}
    for name, prediction in whole.items():
        np.testing.assert_allclose(part[name].mean, prediction.mean[[7, 3]], rtol=1e-6)
        np.testing.assert_allclose(part[name].backtest, prediction.backtest[[7, 3]], rtol=1e-6)
    other = LightGBM(seed=6, rounds=20)
    assert not np.array_equal(
        other.predict(given, backtest, other.learn(given, backtest))["lightgbm"].mean, whole["lightgbm"].mean
    )


@needs_extra
def test_features_of_a_window_do_not_know_it() -> None:
    given = batch(loads(6, seed=24))
    backtest = backtest_of(given, 24, 10, 72)
    changed = given.values.copy()
    last = backtest.starts[-1]
    changed[:, last : last + 24] *= 5
    later = batch(changed)
    learnt = Spar().learn(given, backtest)
    before, after = known(given, backtest, learnt), known(later, backtest, learnt)
    origins = np.array([len(backtest.starts) - 1])
    # The scale and the mean (the last feature) are of the whole history: without them nothing of the window is left.
    np.testing.assert_allclose(
        after.bases["yesterday"][:, origins] * after.scale, before.bases["yesterday"][:, origins] * before.scale, rtol=1e-9
    )
    loads_before, loads_after = (one.loads[:, origins, :, :-1] * one.scale[..., None] for one in (before, after))
    np.testing.assert_allclose(loads_after, loads_before, rtol=1e-4)


@needs_extra
@pytest.mark.parametrize("windows", [0, 1, 2])
def test_with_too_few_windows_to_learn_from_the_bases_stand(windows: int) -> None:
    given = batch(loads(4, seed=25))
    backtest = backtest_of(given, 24, windows, 72)
    family = LightGBM(rounds=40)
    made = family.predict(given, backtest, family.learn(given, backtest))
    np.testing.assert_allclose(made["lightgbm_daily"].mean, given.values[:, -24:])
    assert made["lightgbm"].backtest.shape == (4, windows, 24)
    assert np.isfinite(made["lightgbm"].mean).all()


@needs_extra
def test_no_content_raises_and_other_series_are_forecast() -> None:
    values = loads(40, seed=26)
    values[0] = np.nan
    values[1] = 0.0
    values[2, 100:300] = np.nan
    values[3, :450] = np.nan
    values[4] = 1e300 * np.where(np.arange(504) % 2 == 0, 1.0, 0.0)
    values[5, 490] = np.inf
    given = batch(values)
    family = LightGBM(rounds=40)
    backtest = backtest_of(given, 24, 14, 72)
    made = family.predict(given, backtest, family.learn(given, backtest))
    for prediction in made.values():
        assert np.isfinite(prediction.mean[6:]).all()
        assert np.isfinite(prediction.backtest[6:]).all()
    nothing = given.take([])
    assert family.predict(nothing, backtest, family.learn(nothing, backtest))["lightgbm"].mean.shape == (0, 24)


@needs_extra
@pytest.mark.parametrize(("minutes", "steps", "horizon"), [(15, 96 * 12, 96), (60 * 24, 120, 3)])
def test_other_grains(minutes: int, steps: int, horizon: int) -> None:
    values = loads(20, steps, seed=27)
    given = Batch(tuple(f"s{i}" for i in range(20)), START, timedelta(minutes=minutes), values)
    made = engine.forecast_all(given, engine.Options(horizon, windows=6, families=(*engine.DEFAULT, "lightgbm")))
    assert made.mean.shape == (20, horizon)
    assert np.isfinite(made.quantiles).all()
    assert not any(made.fallback_reason)


@needs_extra
def test_the_engine_combines_it_and_forecasts_with_it_alone() -> None:
    whole = chaotic(40, 504 + 24, seed=28)
    given, actual = batch(whole[:, :504]), whole[:, 504:]
    errors = {}
    for families in (engine.DEFAULT, (*engine.DEFAULT, "lightgbm"), ("lightgbm",)):
        made = engine.forecast_all(given, engine.Options(24, windows=10, families=families))
        errors[families] = np.abs(made.mean - actual).mean()
    without, with_it, alone = errors.values()
    assert with_it < without
    assert alone < without


def test_without_the_extra_the_others_work_and_one_sentence_says_what_to_install() -> None:
    assert "lightgbm" in FAMILIES
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRA], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "pip install foreshard[ml]" in done.stdout


@needs_extra
def test_a_backtest_without_series_before_it_is_no_error() -> None:
    given = batch(loads(3, 80, seed=29))
    family = LightGBM(rounds=40)
    made = family.predict(given, Backtest((), 24), family.learn(given, Backtest((), 24)))
    assert made["lightgbm"].backtest.shape == (3, 0, 24)
    assert np.isfinite(made["lightgbm"].mean).all()
