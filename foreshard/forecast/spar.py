"""A direct ridge per step ahead on values of the last days and weeks and on recent deviations from them.

Source: Taft et al. 2018, "P-Store" (SPAR), with two changes. What is fitted is the difference from last week's value, and each
series' coefficients are shrunk toward those of the whole fleet, by three strengths: the combination weighs them.

With w windows and p features, a series costs O(horizon · (w² p + w³)). The backtest leaves each window out by the closed form
of a ridge's left-out residual, so it costs no further fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction
from foreshard.forecast.lags import Lags, known_windows, lags_of

# Penalty per feature, in units of the feature's own variance times the windows: how far a series may leave the fleet.
STRENGTHS = {"spar_own": 0.3, "spar": 3.0}
FLEET = "spar_fleet"
# Neighbouring steps ahead learn from each other: the width of the kernel, in hours.
_SMOOTHED_HOURS = 1.5
_FLEET_PENALTY = 1e-3
# How much the mean of the last hours is above the one so many days before.
_CHANGES = ((1, 1), (3, 1), (24, 1), (1, 7), (3, 7), (6, 7), (24, 7))
_OLDER = 8
FEATURES = _OLDER + len(_CHANGES) + 2
_CHUNK = 32


@dataclass(frozen=True)
class Coefficients:
    """The fleet's coefficients and the mean square of each feature: (horizon, features) both."""

    fleet: Floats
    size: Floats


class Spar:
    """Members `spar_fleet` (the fleet's coefficients), `spar` and `spar_own` (ever more the series' own)."""

    name = "spar"
    is_cheap = True

    def learn(self, sample: Batch, backtest: Backtest) -> Coefficients:
        """The coefficients of the fleet; series count in inverse proportion to how far they are from a weekly repetition."""
        horizon, windows = backtest.horizon, len(backtest.starts)
        gram = np.zeros((horizon, FEATURES, FEATURES))
        moment = np.zeros((horizon, FEATURES))
        whole, _ = _scaled(sample, backtest)
        target, _ = _targets(sample, backtest, whole)
        variance = np.mean(target**2, axis=(1, 2)) if len(sample) else np.zeros(0)
        weight = 1.0 / (variance + np.median(variance) + 1e-9) if len(sample) else variance
        for first in range(0, len(sample), _CHUNK):
            part = slice(first, first + _CHUNK)
            lags = Lags(whole.values[part], whole.day, whole.origins[:-1], horizon)
            by_step = _features(lags).transpose(2, 0, 1, 3).reshape(horizon, -1, FEATURES)
            weighted = (by_step * np.repeat(weight[part], windows)[None, :, None]).transpose(0, 2, 1)
            gram += weighted @ by_step
            moment += (weighted @ target[part].transpose(2, 0, 1).reshape(horizon, -1, 1))[..., 0]
        near = _kernel(horizon, whole.day)
        gram, moment = np.tensordot(near, gram, axes=1), near @ moment
        diagonal = np.einsum("hpp->hp", gram)
        size = diagonal / np.maximum(near.sum(axis=1)[:, None] * weight.sum() * windows, 1e-300)
        penalty = (_FLEET_PENALTY * diagonal.mean(axis=1) + 1e-12)[:, None, None] * np.eye(FEATURES)
        fleet = np.linalg.solve(gram + penalty, moment[..., None])[..., 0]
        return Coefficients(fleet, size)

    def predict(self, batch: Batch, backtest: Backtest, learnt: Coefficients) -> Mapping[str, Prediction]:
        lags, scale = _scaled(batch, backtest)
        unit = scale[:, None, None]
        features = _features(lags)
        target, judged = _targets(batch, backtest, lags)
        fleet = np.einsum("nwhp,hp->nwh", features, learnt.fleet, optimize=True)
        left = np.where(judged, target - fleet[:, :-1], 0.0)
        features *= 1.0 / np.sqrt(learnt.size + 1e-9)
        if not judged.all():
            features[:, :-1][~judged] = 0.0
        strengths = np.array([strength * FEATURES for strength in STRENGTHS.values()])
        own = _own(features, left, strengths)
        fleet += lags.last_week
        made = {FLEET: fleet * unit}
        for number, name in enumerate(STRENGTHS):
            made[name] = (fleet + own[number]) * unit
        return {name: Prediction.of(forecast) for name, forecast in made.items()}


def _scaled(batch: Batch, backtest: Backtest) -> tuple[Lags, Floats]:
    """The lags of the series, each in units of its own scale, and the scales."""
    lags = lags_of(batch, backtest)
    scale = scale_of(lags.values, lags.day)
    return Lags(lags.values / scale[:, None], lags.day, lags.origins, lags.horizon), scale


def scale_of(values: Floats, day: int) -> Floats:
    """The mean absolute difference from the day before, or the mean where there is none; never 0; shape (series,)."""
    level = np.abs(values).mean(axis=1)
    daily = np.abs(values[:, day:] - values[:, :-day]).mean(axis=1) if values.shape[1] > day else np.zeros(len(values))
    scale: Floats = np.where(daily > 1e-9 * level, daily, np.maximum(level, 1e-9))
    return scale


def _kernel(horizon: int, day: int) -> Floats:
    width = _SMOOTHED_HOURS * max(day / 24, 1 / 24)
    apart = np.arange(horizon)[:, None] - np.arange(horizon)
    near: Floats = np.exp(-0.5 * (apart / width) ** 2)
    return near


def _targets(batch: Batch, backtest: Backtest, lags: Lags) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What the windows were above the week before (0 where unknown), and which of it is known."""
    judged = known_windows(batch, backtest)
    above = backtest.windows(lags.values) - lags.last_week[:, : len(backtest.starts)]
    return np.where(judged, above, 0.0), judged


def _features(lags: Lags) -> Floats:
    """Older values against last week's, neighbours, recent deviations, the level, a constant.

    Shape (series, origins, horizon, FEATURES); what the history does not reach is 0, as if it were like last week.
    """
    base, day = lags.last_week, lags.day
    hour = max(day // 24, 1)
    second, third = lags.earlier_weeks
    days = (lags.days_before(count, instead=base) for count in (1, 2, 3))
    near_week = 0.5 * (lags.weeks_before(1, -1, base) + lags.weeks_before(1, 1, base))
    near_day = 0.5 * (lags.days_before(1, -1, base) + lags.days_before(1, 1, base))
    features = np.empty((*base.shape, FEATURES))
    for number, column in enumerate((*days, lags.daily_mean, second, third, near_week, near_day)):
        np.subtract(column, base, out=features[..., number])
    for number, (hours, season) in enumerate(_CHANGES, _OLDER):
        span = day if hours == 24 else hours * hour
        features[..., number] = lags.change(span, day * season)[:, :, None]
    features[..., -2] = base
    features[..., -1] = 1.0
    return features


@numba.njit(cache=True)
def _own(features, left, strengths):  # type: ignore[no-untyped-def]
    """What each series adds to the fleet's forecast, by ridge in its dual form: windows without themselves, then the future.

    features (series, windows + 1, horizon, p), left (series, windows, horizon) → (strengths, series, windows + 1, horizon).
    """
    series, origins, horizon, _ = features.shape
    windows = origins - 1
    made = np.zeros((len(strengths), series, origins, horizon))
    kernel = np.empty((origins, windows))
    inverse = np.empty((windows, windows))
    for n in range(series):
        for h in range(horizon):
            _products(features[n, :, h], kernel)
            for s in range(len(strengths)):
                _inverse_factor(kernel, strengths[s], inverse)
                made[s, n, windows, h] = _left_out(inverse, kernel[windows], left[n, :, h], made[s, n, :, h])
    return made


@numba.njit(cache=True)
def _products(rows, kernel):  # type: ignore[no-untyped-def]
    """Products of every origin's features with those of each window before it (the lower triangle)."""
    origins, count = rows.shape
    for i in range(origins):
        for j in range(min(i + 1, origins - 1)):
            total = 0.0
            for p in range(count):
                total += rows[i, p] * rows[j, p]
            kernel[i, j] = total


@numba.njit(cache=True)
def _inverse_factor(kernel, strength, inverse):  # type: ignore[no-untyped-def]
    """The inverse of the Cholesky factor of kernel + strength · 1, row by row."""
    size = len(inverse)
    lower = np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            total = kernel[i, j] + (strength if i == j else 0.0)
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            lower[i, j] = np.sqrt(total) if i == j else total / lower[j, j]
        for j in range(i):
            total = 0.0
            for k in range(j, i):
                total -= lower[i, k] * inverse[k, j]
            inverse[i, j] = total / lower[i, i]
        inverse[i, i] = 1.0 / lower[i, i]


@numba.njit(cache=True)
def _left_out(inverse, new, left, made):  # type: ignore[no-untyped-def]
    """Writes each window's forecast without itself into `made`; returns that of the new row.

    With M the regularised kernel and a = M⁻¹ left, the left-out residual of a window is a / diag(M⁻¹).
    """
    size = len(inverse)
    half = np.empty(size)
    for i in range(size):
        total = 0.0
        for k in range(i + 1):
            total += inverse[i, k] * left[k]
        half[i] = total
    forecast = 0.0
    for j in range(size):
        share, diagonal = 0.0, 0.0
        for i in range(j, size):
            share += inverse[i, j] * half[i]
            diagonal += inverse[i, j] * inverse[i, j]
        made[j] = left[j] - share / diagonal
        forecast += share * new[j]
    return forecast
