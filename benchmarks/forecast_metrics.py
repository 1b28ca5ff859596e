"""How good a forecast is: pinball loss and absolute error in units of a day's usual change, coverage, and their intervals.

The scale of a series is the mean absolute difference between its values a day apart within the context, so that figures of
series of any size can be averaged. Intervals resample series, not rows: the windows of one series are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVELS = (0.90, 0.95, 0.99)
DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """One contestant on one set, a row for each series and origin; NaN where it gave no forecast.

    `series`: which series each row is of. `spl`, `mase`: shape (rows,). `hits`: the share of outcomes at or below each of
    LEVELS, shape (levels, rows).
    """

    series: npt.NDArray[np.intp]
    spl: Floats
    mase: Floats
    hits: Floats

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        return np.isfinite(self.spl)


def seasonal_scale(context: Floats, lag: int) -> Floats:
    """The mean absolute difference at `lag` steps of each row, shape (series,); NaN where no pair is known."""
    difference = np.abs(context[:, lag:] - context[:, :-lag])
    known = np.isfinite(difference)
    count = known.sum(axis=1)
    total = np.where(known, difference, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def pinball(actual: Floats, quantile: Floats, level: float) -> Floats:
    """The loss of each forecast of a quantile, of the shape given: `level` a unit too low, 1 - `level` a unit too high."""
    missed = actual - quantile
    return np.maximum(level * missed, (level - 1.0) * missed)


def score(series: npt.NDArray[np.intp], actual: Floats, mean: Floats, quantiles: Floats, scale: Floats) -> Scores:
    """`actual`, `mean`: shape (rows, horizon). `quantiles`: of LEVELS, (levels, rows, horizon). `scale`: (rows,), > 0."""
    missing = ~(np.isfinite(mean).all(axis=1) & np.isfinite(quantiles).all(axis=(0, 2)))
    spl = pinball(actual, quantiles[LEVELS.index(0.95)], 0.95).mean(axis=1) / scale
    mase = np.abs(actual - mean).mean(axis=1) / scale
    hits = (actual[None] <= quantiles).mean(axis=2)
    spl[missing], mase[missing], hits[:, missing] = np.nan, np.nan, np.nan
    return Scores(series, spl, mase, hits)


def joined(parts: Sequence[Scores]) -> Scores:
    """The rows of several origins after one another."""
    return Scores(
        np.concatenate([p.series for p in parts]),
        np.concatenate([p.spl for p in parts]),
        np.concatenate([p.mase for p in parts]),
        np.concatenate([p.hits for p in parts], axis=1),
    )


def mean_of(values: Floats, series: npt.NDArray[np.intp], seed: int = 0) -> Interval:
    """The mean of the rows that have a value, with its bootstrap interval by series."""
    return pooled_mean([(values, series)], seed)


def pooled_mean(sets: Sequence[tuple[Floats, npt.NDArray[np.intp]]], seed: int = 0) -> Interval:
    """The mean over all rows of several sets; each set's series are resampled apart. Time O(draws × series)."""
    generator = np.random.default_rng(seed)
    totals, counts = np.zeros(DRAWS), np.zeros(DRAWS)
    total, count = 0.0, 0
    for values, series in sets:
        known = np.isfinite(values)
        if not known.any():
            continue
        _, index = np.unique(series[known], return_inverse=True)
        sums, rows = np.bincount(index, values[known]), np.bincount(index)
        weights = generator.multinomial(len(sums), np.full(len(sums), 1.0 / len(sums)), size=DRAWS)
        totals, counts = totals + weights @ sums, counts + weights @ rows
        total, count = total + float(sums.sum()), count + int(rows.sum())
    if count == 0:
        return Interval(np.nan, np.nan, np.nan)
    low, high = np.quantile(totals / counts, [0.025, 0.975])
    return Interval(total / count, float(low), float(high))


def advantage(ours: Scores, other: Scores, seed: int = 0) -> Interval:
    """How much more the other loses, on the rows that both forecast: above zero where we are better. Paired by series."""
    return mean_of(other.spl - ours.spl, ours.series, seed)
