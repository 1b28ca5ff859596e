"""Quantiles from the errors of the backtest, calibrated on a sample of the fleet.

Each quantile is the mean plus a linear combination of the series' own figures: the spread of its errors overall, at that phase
of the day and of late, with and without the level's square root (counts), how far the members are apart, and its own quantile
of errors. Which of them tells most is the fleet's to say: the coefficients minimise the pinball loss over the backtests of a
sample (Koenker and Bassett 1978), each figure found without the window that it is judged on, as in jackknife+ (Barber et al.
2021). So the fleet's tail informs every series, and a figure that says nothing about this fleet has no weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import LEVELS, NORMAL, Floats
from foreshard.forecast.combination import Blend, age_weights

# Windows that count as "of late".
_RECENT = 3
_SMOOTHED_STEPS = 1.0
# Below this share of the mean level, the square root of the level no longer says how counts scatter.
_LEAST_LEVEL = 0.02
_ROWS = 12_000
# What comes differs more from the history than its windows do from each other, which were left out one at a time, and so know
# what came after them. On seven public loads the share beyond a quantile was a sixth more than asked for; so much less is
# asked for.
_BEYOND = 0.85
_ROUNDS = 14
FIGURES = ("spread", "phase", "absolute", "spread_of_counts", "phase_of_counts", "recent", "members", "own")
_PHASE, _OWN = FIGURES.index("phase"), FIGURES.index("own")


@dataclass(frozen=True)
class Calibration:
    """Coefficients of the figures for each of LEVELS, shape (levels, figures)."""

    coefficients: Floats


def learn(blend: Blend) -> Calibration:
    """The coefficients from the backtests of a sample. With few series or windows they stay near those of a normal error."""
    start = np.array([_normal_start(level) for level in LEVELS])
    series, windows, horizon = blend.errors.shape
    if series == 0 or windows < 2:
        return Calibration(start)
    shared, own = _figures_left_out(blend)
    unit = np.maximum(shared[0][:, :, :1], 1e-12)
    errors = (blend.errors / unit).ravel()
    weight = np.broadcast_to(age_weights(windows)[None, :, None], blend.errors.shape).ravel()
    rows = _rows_to_use(errors)
    if not len(rows):
        return Calibration(start)
    design = np.stack([*((figure / unit).ravel()[rows] for figure in shared), np.empty(len(rows))], axis=1)
    place = np.unravel_index(rows, (series, windows, horizon))
    penalty = 1e-3 + 0.3 / series
    found = []
    for number in range(len(LEVELS)):
        design[:, _OWN] = own[number][place[0], place[1]] / unit[place[0], place[1], 0]
        found.append(_pinball_fit(design, errors[rows], weight[rows], _asked(LEVELS[number]), start[number], penalty))
    return Calibration(np.array(found))


def quantiles(blend: Blend, calibration: Calibration) -> Floats:
    """Shape (levels, series, horizon): ordered by level, and never below zero."""
    shared, own = _figures(blend)
    count = len(FIGURES) - 1
    offset = np.tensordot(calibration.coefficients[:, :count], np.stack(shared), axes=1)
    offset += calibration.coefficients[:, _OWN, None, None] * own[:, :, None]
    rows: Floats = np.maximum(blend.mean + offset, 0.0)
    return np.maximum.accumulate(rows, axis=0)


def _asked(level: float) -> float:
    """The level that is fitted so that `level` is covered by what comes."""
    if level == 0.5:
        return level
    return 1 - _BEYOND * (1 - level) if level > 0.5 else _BEYOND * level


def _normal_start(level: float) -> Floats:
    start = np.zeros(len(FIGURES))
    start[_PHASE], start[_OWN] = 0.5 * NORMAL[LEVELS.index(level)], 0.5
    return start


def _rows_to_use(errors: Floats) -> npt.NDArray[np.intp]:
    """Rows of known errors, evenly taken; what is fifty spreads off would only say that the spread is wrong."""
    known = np.flatnonzero(np.abs(errors) < 50.0)  # NaN is not
    if len(known) <= _ROWS:
        return known
    return known[np.linspace(0, len(known) - 1, _ROWS).astype(np.intp)]


def _figures(blend: Blend) -> tuple[list[Floats], Floats]:
    """The figures of the forecast, each broadcastable to (series, horizon), and the own quantiles (levels, series)."""
    errors = blend.errors
    known = ~np.isnan(errors)
    age = age_weights(errors.shape[1])[None, :, None] * known
    squares, absolutes = np.nan_to_num(errors) ** 2, np.abs(np.nan_to_num(errors))
    total = np.maximum(age.sum(axis=1), 1e-300)
    by_phase = (age * squares).sum(axis=1) / total
    count = np.maximum(age.sum(axis=(1, 2)), 1e-300)
    spread = np.sqrt((age * squares).sum(axis=(1, 2)) / count)[:, None]
    absolute = ((age * absolutes).sum(axis=(1, 2)) / count)[:, None]
    phase = np.sqrt(_smoothed(by_phase))
    late = known[:, -_RECENT:]
    recent = np.sqrt((squares[:, -_RECENT:] * late).sum(axis=(1, 2)) / np.maximum(late.sum(axis=(1, 2)), 1))[:, None]
    root = np.sqrt(np.maximum(blend.mean / _mean_level(blend)[:, None], _LEAST_LEVEL))
    members = np.sqrt(_smoothed(blend.spread[:, -1] ** 2))
    whole = np.ones_like(blend.mean)
    shared = [spread * whole, phase, absolute * whole, spread * root, phase * root, recent * whole, members]
    return shared, _own_quantiles(_flat(errors))


def _figures_left_out(blend: Blend) -> tuple[list[Floats], Floats]:
    """As `_figures` for every window, found without it: (series, windows, horizon), own (levels, series, windows)."""
    errors = blend.errors
    windows = errors.shape[1]
    known = ~np.isnan(errors)
    age = age_weights(windows)[None, :, None] * known
    squares, absolutes = np.nan_to_num(errors) ** 2, np.abs(np.nan_to_num(errors))
    weighted = age * squares
    by_phase = _without(weighted, axis=(1,)) / np.maximum(_without(age, axis=(1,)), 1e-300)
    count = np.maximum(_without(age, axis=(1, 2)), 1e-300)
    spread = np.sqrt(np.maximum(_without(weighted, axis=(1, 2)) / count, 0.0))
    absolute = _without(age * absolutes, axis=(1, 2)) / count
    phase = np.sqrt(np.maximum(_smoothed(by_phase), 0.0))
    per_window = squares.sum(axis=2) / np.maximum(known.sum(axis=2), 1)
    recent = np.stack([_mean_before(per_window, w) for w in range(windows)], axis=1)
    root = np.sqrt(np.maximum(blend.fitted / _mean_level(blend)[:, None, None], _LEAST_LEVEL))
    members = np.sqrt(_smoothed(blend.spread[:, :-1] ** 2))
    whole = np.ones_like(errors)
    shared = [
        spread * whole,
        phase,
        absolute * whole,
        spread * root,
        phase * root,
        np.sqrt(recent)[:, :, None] * whole,
        members,
    ]
    own = [_own_quantiles(_flat(np.delete(errors, w, axis=1))) for w in range(windows)]
    return shared, np.stack(own, axis=2)


def _mean_before(per_window: Floats, window: int) -> Floats:
    """Over the windows just before one; the oldest has the next one instead."""
    chosen = range(max(window - _RECENT, 0), window) if window else range(1, 2)
    mean: Floats = per_window[:, list(chosen)].mean(axis=1)
    return mean


def _without(values: Floats, axis: tuple[int, ...]) -> Floats:
    """For each window the sum over all others, by phase (axis 1) or over all phases (axes 1 and 2), as (series, windows, ·)."""
    own = values if axis == (1,) else values.sum(axis=2, keepdims=True)
    without: Floats = own.sum(axis=1, keepdims=True) - own
    return without


def _mean_level(blend: Blend) -> Floats:
    level: Floats = np.maximum(blend.fitted.mean(axis=(1, 2)) if blend.fitted.size else blend.mean.mean(axis=1), 1e-12)
    return level


def _smoothed(values: Floats) -> Floats:
    """Along the horizon, by a kernel of about a step."""
    apart = np.arange(values.shape[-1])[:, None] - np.arange(values.shape[-1])
    near = np.exp(-0.5 * (apart / _SMOOTHED_STEPS) ** 2)
    smooth: Floats = values @ (near / near.sum(axis=0))
    return smooth


def _flat(errors: Floats) -> Floats:
    """(series, windows, horizon) as (series, windows · horizon), of no series too."""
    return errors.reshape(len(errors), errors.shape[1] * errors.shape[2])


def _own_quantiles(errors: Floats) -> Floats:
    """The quantiles of each row at LEVELS, at place p (n + 1) as split conformal prediction has it; (levels, series)."""
    if not errors.shape[1]:
        return np.zeros((len(LEVELS), len(errors)))
    ordered = np.sort(errors, axis=1)  # NaN come last
    count = (~np.isnan(errors)).sum(axis=1)
    place = np.clip(np.asarray(LEVELS)[:, None] * (count + 1) - 1, 0, np.maximum(count - 1, 0))
    low = place.astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    rows = np.arange(len(errors))
    below, above = ordered[rows, low], ordered[rows, high]
    found = below + (place - low) * (above - below)
    return np.where(count > 0, found, 0.0)


def left_out_quantile(errors: Floats, level: float) -> Floats:
    """For every window the quantile of the series' errors in all others, shape (series, windows)."""
    number = LEVELS.index(level)
    windows = range(errors.shape[1])
    found = [_own_quantiles(_flat(np.delete(errors, w, axis=1)))[number] for w in windows]
    return np.stack(found, axis=1) if found else np.zeros(errors.shape[:2])


def _pinball_fit(design: Floats, actual: Floats, weight: Floats, level: float, start: Floats, penalty: float) -> Floats:
    """Coefficients that minimise the pinball loss plus a ridge toward `start`, by reweighted least squares (Hunter and Lange
    2000): each round bounds the loss by a parabola, smoothed less and less."""
    size = np.sqrt(np.mean(design**2, axis=0)) + 1e-9
    ridge = penalty * np.diag(size**2) * len(actual)
    found: Floats = start.copy()
    for step in range(_ROUNDS):
        left = actual - design @ found
        weights = weight * np.where(left >= 0, level, 1 - level) / (np.abs(left) + max(0.5 * 0.7**step, 0.02))
        weighted = design * weights[:, None]
        found = np.asarray(np.linalg.solve(weighted.T @ design + ridge, weighted.T @ actual + ridge @ start), np.float64)
    return found
