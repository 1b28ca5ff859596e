"""Forecasts that need no fit: what was at the same time, means of such values, and the recent level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction
from foreshard.forecast.lags import Lags, lags_of

SEASONAL = "seasonal_naive_168h"
# How much of the last day's difference from the same day a week before is still there at the time forecast.
_KEPT = 0.7
_HOURS = 3


class Naive:
    """`seasonal_naive_24h` and `_168h`, the baselines; `daily_mean` and `weekly_mean` of several days and weeks; `shifted_week`
    (last week moved to the level of the last day); `last_value` (the mean of the last three hours)."""

    name = "naive"
    is_cheap = True

    def learn(self, sample: Batch, backtest: Backtest) -> None:
        """There is nothing to learn."""

    def predict(self, batch: Batch, backtest: Backtest, learnt: None) -> Mapping[str, Prediction]:
        return {name: Prediction.of(made) for name, made in members(lags_of(batch, backtest)).items()}


def members(lags: Lags) -> dict[str, Floats]:
    """Each forecast at every origin, shape (series, origins, horizon)."""
    recent = max(lags.day * _HOURS // 24, 1)
    return {
        "seasonal_naive_24h": lags.days_before(1),
        SEASONAL: lags.last_week,
        "daily_mean": lags.daily_mean,
        "weekly_mean": lags.weekly_mean,
        "shifted_week": lags.last_week + _KEPT * lags.spread(lags.change(lags.day, lags.week)),
        "last_value": np.array(lags.spread(lags.level(recent))),
    }
