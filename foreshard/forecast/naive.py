"""Forecasts that need no fit: what was at the same time, means of such values, and the recent level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction
from foreshard.forecast.lags import Lags, lags_of

# How much of the last day's difference from the same day a week before is still there at the time forecast.
_KEPT = 0.7
_HOURS = 3


@dataclass(frozen=True)
class Naive:
    """A family of such forecasts, each a member."""

    name: str
    members: tuple[str, ...]
    is_cheap: bool = True

    def learn(self, sample: Batch, backtest: Backtest) -> None:
        """There is nothing to learn."""

    def predict(self, batch: Batch, backtest: Backtest, learnt: None) -> Mapping[str, Prediction]:
        lags = lags_of(batch, backtest)
        return {member: Prediction.of(_MADE[member](lags)) for member in self.members}


def _shifted_week(lags: Lags) -> Floats:
    """Last week moved to the level of the last day."""
    return lags.last_week + _KEPT * lags.spread(lags.change(lags.day, lags.week))


def _last_value(lags: Lags) -> Floats:
    """The mean of the last three hours."""
    return np.array(lags.spread(lags.level(max(lags.day * _HOURS // 24, 1))))


_MADE: Mapping[str, Callable[[Lags], Floats]] = {
    "seasonal_naive_24h": lambda lags: lags.days_before(1),
    "seasonal_naive_168h": lambda lags: lags.last_week,
    "daily_mean": lambda lags: lags.daily_mean,
    "weekly_mean": lambda lags: lags.weekly_mean,
    "shifted_week": _shifted_week,
    "last_value": _last_value,
}
SEASONAL_NAIVE = Naive("seasonal_naive", ("seasonal_naive_24h", "seasonal_naive_168h"))
PROFILE = Naive("profile", ("daily_mean", "weekly_mean", "shifted_week"))
LAST_VALUE = Naive("last_value", ("last_value",))
