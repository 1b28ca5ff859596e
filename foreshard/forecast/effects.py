"""What events do to loads, as factors: estimated over names and shards together, and shrunk (empirical Bayes in logarithms).

A holiday makes a day resemble the rest day of the week, more for one shard than for another, and shifts the phases of the day.
So the logarithm of the factor of a phase is slope × (rest day's load over this day's, in logarithms) + the level of that
phase. These coefficients are normal: a single occurrence's around its name's, a name's around its pool's, a pool's around what
holidays do elsewhere, or around nothing; and a shard deviates from them by its own. Source: Gelman and Hill 2007, "Data
Analysis Using Regression and Multilevel Models", chapter 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from foreshard.forecast.batch import Floats
from foreshard.forecast.weekly import PHASES

HOLIDAY, EVENT, ANNOUNCED = "holiday", "event", "announced"
_SIZE = 1 + PHASES  # the slope, then a level per phase


def _covariance(slope: float, level: float) -> Floats:
    """Of coefficients with these standard deviations; half of the levels' variance is common to the phases."""
    made = np.zeros((_SIZE, _SIZE))
    made[0, 0] = slope**2
    made[1:, 1:] = level**2 * 0.5 * (np.eye(PHASES) + 1.0)
    return made


# How occurrences of a name differ, how names differ within their pool, and how far pools may be from their first guesses.
# Only holidays make a day resemble the rest day.
_OCCURRENCES = {HOLIDAY: _covariance(0.1, 0.12), EVENT: _covariance(0.01, 0.12), ANNOUNCED: _covariance(0.01, 0.12)}
_NAMES = {HOLIDAY: _covariance(0.2, 0.2), EVENT: _covariance(0.01, 0.2), ANNOUNCED: _covariance(0.01, 0.2)}
_POOLS = {HOLIDAY: _covariance(0.2, 0.1), EVENT: _covariance(0.01, 0.4), ANNOUNCED: _covariance(0.01, 0.25)}
# More than half-way to the rest day: of public holidays, 0.66 to 0.80 were measured on taxis, pedestrians and bicycles.
_SLOPES = {HOLIDAY: 0.6, EVENT: 0.0, ANNOUNCED: 0.0}
_OCCURRENCE_VARIANCE = 0.12**2
_FIRST_SPREAD = 0.2**2
_SPREADS = (0.05**2, 0.7**2)
_ROUNDS = 2
_EPSILON = 1e-6


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


@dataclass(frozen=True)
class Cells:
    """What one occurrence did to the phases of the day, each of shape (series, PHASES).

    `observed`: the logarithm of its factor by the expected one, NaN where unknown. `likeness`: the logarithm of the rest day's
    load by this day's. `variance`: of `observed` on a day without events.
    """

    pool: str
    name: str
    observed: Floats
    likeness: Floats
    variance: Floats


@dataclass(frozen=True)
class Effect:
    """Coefficients, shape (1 + PHASES,), and their covariance."""

    mean: Floats
    covariance: Floats

    def log_factor(self, likeness: Floats) -> tuple[Floats, Floats]:
        """The mean and the variance on shards of that likeness, shape (series, PHASES)."""
        levels = np.diag(self.covariance)[1:]
        variance = likeness**2 * self.covariance[0, 0] + 2 * likeness * self.covariance[0, 1:] + levels
        return self.mean[0] * likeness + self.mean[1:], variance


@dataclass(frozen=True)
class Effects:
    """What was learnt of a fleet's events. `spread`: the variance of the shards' own deviations."""

    pools: Mapping[str, Effect] = field(default_factory=dict)
    names: Mapping[tuple[str, str], Effect] = field(default_factory=dict)
    spread: float = _FIRST_SPREAD

    def of(self, pool: str, name: str) -> Effect:
        """What a further occurrence of that name will do, or of an unseen one of that pool."""
        if (pool, name) in self.names:
            known, more = self.names[pool, name], _OCCURRENCES[pool]
        else:
            known, more = self.pools.get(pool, _first_guess(pool)), _OCCURRENCES[pool] + _NAMES[pool]
        return Effect(known.mean, known.covariance + more)


def _first_guess(pool: str) -> Effect:
    return Effect(np.array([_SLOPES[pool]] + [0.0] * PHASES), _POOLS[pool])


def estimate(cells: Sequence[Cells]) -> Effects:
    """The effects of the fleet that these occurrences are of. Running time: that of a few passes over the cells."""
    made = Effects()
    for _ in range(_ROUNDS):
        made = _with_spread(cells, _hierarchy(cells, made.spread))
    return made


def _hierarchy(cells: Sequence[Cells], spread: float) -> Effects:
    information: dict[tuple[str, str], tuple[Floats, Floats]] = {}
    for cell in cells:
        precision, weighted = _occurrence(cell, spread)
        before = information.get((cell.pool, cell.name), (np.zeros_like(precision), np.zeros_like(weighted)))
        information[cell.pool, cell.name] = (before[0] + precision, before[1] + weighted)
    pools = {pool: _pool(pool, [v for key, v in information.items() if key[0] == pool]) for pool, _ in information}
    names = {}
    for (pool, name), (precision, weighted) in information.items():
        around = _inverse(_NAMES[pool])
        covariance = _inverse(precision + around)
        names[pool, name] = Effect(covariance @ (weighted + around @ pools[pool].mean), covariance)
    return Effects(pools, names, spread)


def _occurrence(cell: Cells, spread: float) -> tuple[Floats, Floats]:
    """The precision of one occurrence's coefficients as a measurement of its name's, and precision times coefficients."""
    is_known = np.isfinite(cell.observed)
    weight = np.where(is_known, 1.0 / (cell.variance + spread), 0.0)
    observed, likeness = np.where(is_known, cell.observed, 0.0), np.where(is_known, cell.likeness, 0.0)
    normal = np.diag(np.concatenate([[np.sum(weight * likeness**2)], weight.sum(axis=0)])) + _EPSILON * np.eye(_SIZE)
    normal[0, 1:] = normal[1:, 0] = (weight * likeness).sum(axis=0)
    right = np.concatenate([[np.sum(weight * likeness * observed)], (weight * observed).sum(axis=0)])
    own = _inverse(normal)
    precision = _inverse(own + _OCCURRENCES[cell.pool])
    return precision, precision @ (own @ right)


def _pool(pool: str, names: Sequence[tuple[Floats, Floats]]) -> Effect:
    guess = _first_guess(pool)
    whole = _inverse(guess.covariance)
    weighted = whole @ guess.mean
    for precision, own in names:
        covariance = _inverse(precision + _EPSILON * np.eye(_SIZE))
        measured = _inverse(covariance + _NAMES[pool])
        whole = whole + measured
        weighted = weighted + measured @ (covariance @ own)
    covariance = _inverse(whole)
    return Effect(covariance @ weighted, covariance)


def _with_spread(cells: Sequence[Cells], effects: Effects) -> Effects:
    """The effects with the spread of the shards by the moments of what the names leave unexplained."""
    excess, total = 0.0, 0.0
    for cell in cells:
        left = cell.observed - effects.of(cell.pool, cell.name).log_factor(cell.likeness)[0]
        # What all shards had in common is the occurrence's, not theirs.
        left = left - np.nan_to_num(_column_medians(left))
        weight = np.where(np.isfinite(left), (cell.variance + effects.spread) ** -2.0, 0.0)
        excess += float(np.sum(weight * (np.nan_to_num(left) ** 2 - cell.variance)))
        total += float(weight.sum())
    spread = float(np.clip(excess / total, *_SPREADS)) if total > 0 else effects.spread
    return Effects(effects.pools, effects.names, spread)


def _column_medians(values: Floats) -> Floats:
    medians = np.full(values.shape[1], np.nan)
    for column in range(values.shape[1]):
        known = values[np.isfinite(values[:, column]), column]
        if len(known):
            medians[column] = np.median(known)
    return medians


@dataclass(frozen=True)
class Deviations:
    """How shards deviated from the effects of the names on the occurrences of one pool; arrays of shape (occurrences, series,
    PHASES)."""

    names: tuple[str, ...]
    left: Floats
    variance: Floats
    spread: float

    def own(self, name: str) -> tuple[Floats, Floats]:
        """The mean and the variance of each shard's deviation on a further occurrence of that name, shape (series, PHASES).

        Shrunk in three steps: what a shard does on every event, what on this one, and at which phase.
        """
        part = self.spread / 3
        every, every_variance = _shrunk(self.left, self.variance + 2 * part, part, (0, 2))
        is_it = np.array([n == name for n in self.names], dtype=bool)
        left, variance = self.left[is_it] - every[:, None], self.variance[is_it]
        one, one_variance = _shrunk(left, variance + part, part, (0, 2))
        phase, phase_variance = _shrunk(left - one[:, None], variance, part, (0,))
        return (every + one)[:, None] + phase, (every_variance + one_variance)[:, None] + phase_variance

    def on(self, occurrence: int) -> Floats:
        """How much of what the names leave unexplained of one occurrence was its effect, shape (series, PHASES)."""
        own, _ = self.own(self.names[occurrence])
        left = np.nan_to_num(self.left[occurrence] - own)
        effect: Floats = own + left * self.spread / (self.spread + self.variance[occurrence])
        return effect


def deviations(cells: Sequence[Cells], effects: Effects, pool: str, series: int) -> Deviations:
    """The deviations of a batch of so many series on the occurrences of a pool in its history."""
    chosen = [cell for cell in cells if cell.pool == pool]
    shape = (len(chosen), series, PHASES)
    left = [cell.observed - effects.of(pool, cell.name).log_factor(cell.likeness)[0] for cell in chosen]
    variance = [cell.variance + _OCCURRENCE_VARIANCE for cell in chosen]
    names = tuple(cell.name for cell in chosen)
    return Deviations(names, np.reshape(left, shape), np.reshape(variance, shape), effects.spread)


def _shrunk(values: Floats, variance: Floats, spread: float, axes: tuple[int, ...]) -> tuple[Floats, Floats]:
    """The mean over axes, shrunk toward zero as a draw of variance `spread` seen with errors of `variance`, and its
    variance."""
    weight = np.where(np.isfinite(values), 1.0 / variance, 0.0)
    total = weight.sum(axis=axes)
    mean = (weight * np.nan_to_num(values)).sum(axis=axes) / np.maximum(total, 1e-12)
    gain = spread * total / (spread * total + 1.0)
    return gain * mean, spread * (1.0 - gain)
