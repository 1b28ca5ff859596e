"""Models of statsforecast, a series at a time, for chosen series: an extra, `pip install foreshard[stats]`.

A fit takes a third of a second to some seconds at 504 hourly points, and each window of the backtest is one more.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction
from foreshard.forecast.lags import LEAST_DAYS, filled, steps_a_day

# Family → the library's model; all with a season of a day.
MODELS = {"auto_ets": "AutoETS", "auto_theta": "AutoTheta", "auto_arima": "AutoARIMA"}


@dataclass(frozen=True)
class StatsModel:
    """One model, a member of its own name. `refit_every`: every how many windows it is fitted anew; those between are forecast
    by the fit before them, further ahead."""

    name: str
    refit_every: int = 1
    is_cheap: bool = False

    def learn(self, sample: Batch, backtest: Backtest) -> None:
        """Nothing: each series is fitted alone. Raises ForeshardError without the extra."""
        _library()

    def predict(self, batch: Batch, backtest: Backtest, learnt: None) -> Mapping[str, Prediction]:
        """NaN where the library fails, or has less than three days before it. Gaps are filled as for `spar`."""
        day = steps_a_day(batch)
        values = filled(batch.values, day)
        first = np.where(np.isfinite(batch.values).any(axis=1), np.isfinite(batch.values).argmax(axis=1), batch.steps)
        made = np.full((len(batch), len(backtest.starts) + 1, backtest.horizon), np.nan)
        for row in range(len(batch)):
            for window, starts in self._fits(backtest, batch.steps):
                ahead = starts[-1] - starts[0] + backtest.horizon
                history = values[row, first[row] : starts[0]]
                if len(history) >= LEAST_DAYS * day:
                    said = self._forecast(history, ahead, day)
                    for number, start in enumerate(starts):
                        made[row, window + number] = said[start - starts[0] :][: backtest.horizon]
        return {self.name: Prediction.of(made)}

    def _fits(self, backtest: Backtest, steps: int) -> list[tuple[int, tuple[int, ...]]]:
        """(the first window, the origins) that one fit each serves; the forecast itself has a fit of its own."""
        every = max(self.refit_every, 1)
        windows = [(i, backtest.starts[i : i + every]) for i in range(0, len(backtest.starts), every)]
        return [*windows, (len(backtest.starts), (steps,))]

    def _forecast(self, history: Floats, ahead: int, day: int) -> Floats:
        model = getattr(_library(), MODELS[self.name])(season_length=day)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                said: Floats = np.asarray(model.forecast(y=history, h=ahead)["mean"], dtype=np.float64)
        except Exception:
            # Whatever the library raises for one series, the others go on; NaN says that it has nothing to say.
            return np.full(ahead, np.nan)
        return said if np.isfinite(said).all() else np.full(ahead, np.nan)


def _library() -> Any:
    """Imported late: the other families do without the extra."""
    try:
        from statsforecast import models
    except ImportError:
        raise ForeshardError(
            f"the families {', '.join(MODELS)} need statsforecast; install it with pip install foreshard[stats]"
        ) from None
    return models
