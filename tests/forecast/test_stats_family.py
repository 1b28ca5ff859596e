"""statsforecast's models as families: what the library says, a window blind to what follows it, and an extra."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from drawn_loads import batch, loads

from foreshard.forecast.batch import backtest_of
from foreshard.forecast.families import FAMILIES
from foreshard.forecast.stats_family import MODELS, StatsModel

needs_extra = pytest.mark.skipif(find_spec("statsforecast") is None, reason="the extra stats is not installed")

WITHOUT_EXTRA = """
import sys
sys.modules["statsforecast"] = None  # as if it were not installed
import numpy as np
from datetime import UTC, datetime, timedelta
from foreshard.errors import ForeshardError
from foreshard.forecast import engine
from foreshard.forecast.batch import Batch
loads = 10 + np.sin(np.arange(504) / 24) + np.arange(3)[:, None]
given = Batch(("a", "b", "c"), datetime(2024, 3, 4, tzinfo=UTC), timedelta(hours=1), loads)
assert np.isfinite(engine.forecast_all(given, engine.Options(24)).mean).all()
try:
    engine.forecast_all(given, engine.Options(24, families=("spar", "auto_ets")))
except ForeshardError as error:
    print(error)
"""


def test_without_the_extra_one_sentence_says_how_to_get_it() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT_EXTRA], capture_output=True, text=True, check=True)
    assert "pip install foreshard[stats]" in said.stdout


@needs_extra
def test_it_says_what_the_library_does_and_windows_do_not_know_what_follows() -> None:
    from statsforecast.models import AutoTheta

    given = batch(loads(3, 24 * 14, 1))
    backtest = backtest_of(given, 24, 2, 72)
    made = StatsModel("auto_theta").predict(given, backtest, None)["auto_theta"]
    expected = AutoTheta(season_length=24).forecast(y=given.values[1], h=24)["mean"]
    np.testing.assert_allclose(made.mean[1], expected, rtol=1e-6)
    start = backtest.starts[0]
    earlier = AutoTheta(season_length=24).forecast(y=given.values[2, :start], h=24)["mean"]
    np.testing.assert_allclose(made.backtest[2, 0], earlier, rtol=1e-6)
    rarely = StatsModel("auto_theta", refit_every=2).predict(given, backtest, None)["auto_theta"]
    np.testing.assert_allclose(rarely.backtest[:, 0], made.backtest[:, 0], rtol=1e-6)
    later = AutoTheta(season_length=24).forecast(y=given.values[0, :start], h=48)["mean"][24:]
    np.testing.assert_allclose(rarely.backtest[0, 1], later, rtol=1e-6)


@needs_extra
def test_a_series_that_is_too_short_has_nothing_said_of_it_and_the_others_go_on() -> None:
    values = loads(2, 24 * 10, 2)
    values[0, :-50] = np.nan
    given = batch(values)
    made = StatsModel("auto_theta").predict(given, backtest_of(given, 24, 1, 72), None)["auto_theta"]
    assert np.isnan(made.mean[0]).all()
    assert np.isfinite(made.mean[1]).all()
    assert set(MODELS) <= set(FAMILIES)
