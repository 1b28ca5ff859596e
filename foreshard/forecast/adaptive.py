"""Levels that follow what was observed, after adaptive conformal inference (Gibbs and Candès 2021).

A published quantile is read off the forecast's curve of quantiles at the level that lately came true at the declared share. If
the quantile of 95 % held in 91 % of intervals, it is read further up the curve from the next day on, until it holds in 95 %.
Steps are taken in units of a normal error, where a share that is missing is about as much at every level.

Only levels above the median move. Many loads are often zero, which is at or below any lower quantile whatever that says; and
what is planned by is the upper ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np

from foreshard.forecast.batch import LEVELS, Floats

# The part of a day's difference that is made good the day after: half of a steady one is gone within two weeks. On three public
# loads whose quantiles held anyway, that changed the pinball losses by less than 0.6 %; twice as much cost up to 1.2 %.
RATE = 0.05
# In units of a normal error: how far a level may move in a day, and in all.
FURTHEST_A_DAY = 0.25
FURTHEST = 1.0
_NORMAL = NormalDist()
_PLACES = np.array([_NORMAL.inv_cdf(level) for level in LEVELS])
# How much the covered share grows with a step up the curve, if errors are normal.
_DENSITIES = np.array([_NORMAL.pdf(place) for place in _PLACES])


def updated(levels_used: Sequence[float], covered_a_day: Iterable[Sequence[float | None]]) -> tuple[float, ...]:
    """The levels to read the curve at, one for each of LEVELS, after further days.

    `levels_used`: those before; LEVELS themselves at first. `covered_a_day`: per day, in order, the share of outcomes at or
    below each published quantile; None or NaN where nobody knows. Over many days the share of an upper level differs from the
    declared one by at most 2·FURTHEST·density / (RATE·days), as long as no step meets a bound.
    """
    offset = np.clip(_places(levels_used) - _PLACES, -FURTHEST, FURTHEST)
    for shares in covered_a_day:
        covered = np.array([np.nan if share is None else share for share in shares], dtype=np.float64)
        # As the declared share itself: exactly no step.
        covered = np.where(np.isfinite(covered) & (_PLACES > 0), covered, LEVELS)
        step = RATE * (np.asarray(LEVELS) - covered) / _DENSITIES
        offset = np.clip(offset + np.clip(step, -FURTHEST_A_DAY, FURTHEST_A_DAY), -FURTHEST, FURTHEST)
    return tuple(
        level if shift == 0.0 else _NORMAL.cdf(place + shift)
        for level, place, shift in zip(LEVELS, _PLACES.tolist(), offset.tolist(), strict=True)
    )


def adapted(quantiles: Floats, levels_used: Sequence[float]) -> Floats:
    """The curves of quantiles, shape (levels, series, horizon), read at other levels: same shape, ordered, not below zero.

    Between LEVELS a curve is linear in units of a normal error; beyond its ends it goes on as steeply as it ends, or as it is
    on the whole from the median on if that is steeper. Each row depends on itself alone.
    """
    if tuple(levels_used) == LEVELS:
        return quantiles
    places = _places(levels_used)
    read: Floats = np.tensordot(_weights(places), quantiles, axes=1)
    middle = LEVELS.index(0.50)
    for end, beside in ((0, 1), (-1, -2)):
        beyond = np.minimum(places - _PLACES[0], 0.0) if end == 0 else np.maximum(places - _PLACES[-1], 0.0)
        if np.any(beyond):
            slope = np.maximum(_slope(quantiles, beside, end), _slope(quantiles, middle, end))
            read += beyond[:, None, None] * slope
    ordered: Floats = np.maximum.accumulate(np.maximum(read, 0.0), axis=0)
    return ordered


def _weights(places: Floats) -> Floats:
    """What each of LEVELS counts for in a curve read at these places, shape (places, levels); its ends are held."""
    return np.stack([np.interp(places, _PLACES, row) for row in np.eye(len(LEVELS))], axis=1)


def _slope(quantiles: Floats, one: int, other: int) -> Floats:
    slope: Floats = (quantiles[other] - quantiles[one]) / (_PLACES[other] - _PLACES[one])
    return slope


def _places(levels: Sequence[float]) -> Floats:
    """The levels as places of the normal distribution; raises ValueError unless there is one between 0 and 1 for each."""
    if len(levels) != len(LEVELS):
        raise ValueError(f"there are {len(LEVELS)} levels, not {len(levels)}")
    return np.array([_NORMAL.inv_cdf(level) for level in levels])
