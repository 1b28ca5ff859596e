"""Prophet, the library itself, for chosen series: about 80 ms a fit at 840 hourly points, and a fit for each window.

Source: Taylor and Letham 2018, "Forecasting at Scale". It is fed at most the last 56 days, in intervals of 15 to 60 minutes:
shorter ones are averaged first (at one minute a fit takes seconds), longer ones taken as they are.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.forecast.batch import DAY, Backtest, Batch, Floats, Prediction

Steps = npt.NDArray[np.intp]

LONGEST_HISTORY = timedelta(days=56)
FINEST_STEP = timedelta(minutes=15)
# Less says nothing of a day's course.
LEAST_DAYS, LEAST_STEPS = 2, 10


@dataclass(frozen=True)
class ProphetFamily:
    """The family. `seed` goes to every fit. `refit_every`: every how many windows of the backtest it is fitted anew; the
    windows between are forecast by the fit before them."""

    seed: int = 0
    refit_every: int = 1
    name: str = "prophet"
    is_cheap: bool = False

    def learn(self, sample: Batch, backtest: Backtest) -> None:
        """Nothing: each series is fitted alone."""

    def predict(self, batch: Batch, backtest: Backtest, learnt: Any = None) -> Mapping[str, Prediction]:
        """NaN wherever the library fails or has less than two days of known steps; what it says of the others stands."""
        _silence()
        horizon, windows = backtest.horizon, len(backtest.starts)
        mean = np.full((len(batch), horizon), np.nan)
        tried = np.full((len(batch), windows, horizon), np.nan)
        for row in range(len(batch)):
            series = _Series.of(batch, row, horizon)
            for first in range(0, windows, max(self.refit_every, 1)):
                starts = backtest.starts[first : first + max(self.refit_every, 1)]
                steps = np.concatenate([start + np.arange(horizon) for start in starts])
                tried[row, first : first + len(starts)] = series.forecast(starts[0], steps, self.seed).reshape(-1, horizon)
            mean[row] = series.forecast(batch.steps, batch.steps + np.arange(horizon), self.seed)
        return {self.name: Prediction(mean, tried)}


@dataclass(frozen=True)
class _Series:
    """One series: its times (UTC without a zone, as the library wants them), its loads, and its regressors by name."""

    times: pd.DatetimeIndex
    step: timedelta
    loads: Floats
    regressors: dict[str, Floats]

    @classmethod
    def of(cls, batch: Batch, row: int, horizon: int) -> _Series:
        """A regressor that is not known at every step of the history and the horizon is left out."""
        length = batch.steps + horizon
        times = pd.date_range(batch.start.replace(tzinfo=None), periods=length, freq=batch.step)
        loads = np.where(np.isfinite(batch.values[row]), batch.values[row], np.nan)
        given = {f"regressor_{name}": v if v.ndim == 1 else v[row] for name, v in sorted(batch.regressors.items())}
        known = {name: v[:length] for name, v in given.items() if len(v) >= length and np.isfinite(v[:length]).all()}
        return cls(times, batch.step, loads, known)

    def forecast(self, end: int, steps: Steps, seed: int) -> Floats:
        """What the library says of some later steps from the history before step `end`; NaN if it fails."""
        try:
            return self._fitted(end, steps, seed)
        except Exception:
            # Whatever the library raises for one series, the others go on; NaN says that it has nothing to say.
            return np.full(len(steps), np.nan)

    def _fitted(self, end: int, steps: Steps, seed: int) -> Floats:
        from prophet import Prophet

        history = self._history(end)
        if history["y"].notna().sum() * self._merged() < max(LEAST_DAYS * (DAY / self.step), LEAST_STEPS):
            return np.full(len(steps), np.nan)
        model = Prophet(uncertainty_samples=0)
        for name in self.regressors:
            model.add_regressor(name)
        try:
            model.fit(history, seed=seed)
        finally:
            # Otherwise each fit leaves its files behind until the process ends.
            if model.stan_backend is not None and model.stan_backend.stan_fit is not None:
                model.stan_backend.cleanup()
        future = pd.DataFrame({"ds": self.times[steps], **{name: v[steps] for name, v in self.regressors.items()}})
        said: Floats = model.predict(future)["yhat"].to_numpy(dtype=np.float64)
        return said if np.isfinite(said).all() else np.full(len(steps), np.nan)

    def _merged(self) -> int:
        """How many steps become one interval of the library's."""
        return max(math.ceil(FINEST_STEP / self.step), 1)

    def _history(self, end: int) -> pd.DataFrame:
        """The intervals before `end`, the newest whole. Each stands at the mean of its steps' times, so that the model can be
        asked for single steps; one of which no step is known is unknown."""
        merged = self._merged()
        longest = int(LONGEST_HISTORY / (self.step * merged))
        count = min(end // merged, longest)
        begin = end - count * merged
        known = self.loads[begin:end].reshape(count, merged)
        often = np.isfinite(known).sum(axis=1)
        sums = np.where(np.isfinite(known), known, 0.0).sum(axis=1)
        loads = np.where(often > 0, sums / np.maximum(often, 1), np.nan)
        times = self.times[begin:end:merged] + self.step * (merged - 1) / 2
        regressors = {name: v[begin:end].reshape(count, merged).mean(axis=1) for name, v in self.regressors.items()}
        return pd.DataFrame({"ds": times, "y": loads, **regressors})


def _silence() -> None:
    """The library reports every fit; some lines a series would bury the job's own output."""
    for name in ("cmdstanpy", "prophet", "prophet.models", "prophet.plot"):
        logging.getLogger(name).disabled = True
    os.environ.setdefault("TQDM_DISABLE", "1")
