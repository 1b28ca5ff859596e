"""How shards err together: each shard's error as common factors' parts and its own, and z for sums of shards.

The quantile of a node's load is Σ mean + z·√(Σ_f (Σ common_f)² + Σ own²): own errors cancel in a sum, common ones do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import LEVELS, Floats

LEVEL = 0.95
NORMAL = 1.645
_SETS = 400
_LOWEST, _HIGHEST = 1.0, 4.0


@dataclass(frozen=True)
class Pooling:
    """`factors`: the fleet's common factors at each time of the backtest, of unit mean square or zero, shape (factors, times).

    `z` makes the quantile LEVEL of sums hold, `coverage` is what it covered where it was not looked for, over `errors` errors.
    """

    factors: Floats
    z: float
    coverage: float
    errors: int


def learn(errors: Floats, seed: int) -> Pooling:
    """The factors and z of a sample's backtest errors, shape (shards, windows, horizon), NaN where unknown.

    Factors, spreads and z are found on every other window and z is tried on the rest, and the other way round: the z returned
    is that of all sums so judged. A fleet too small, or with too short a history for that, gives the normal 1.645.
    """
    windows = errors.shape[1]
    factors = common_factors(_flat(errors))
    known = int(np.isfinite(errors).sum())
    halves = [_ratios(errors, half, seed) for half in (np.arange(windows) % 2 == 0, np.arange(windows) % 2 == 1)]
    if any(len(ratios) == 0 for ratios in halves):
        return Pooling(factors, NORMAL, LEVEL, known)
    tried = [float(np.mean(other <= _quantile(one))) for one, other in (halves, halves[::-1])]
    return Pooling(factors, _quantile(np.concatenate(halves)), float(np.mean(tried)), known)


def _quantile(ratios: Floats) -> float:
    return float(np.clip(np.quantile(ratios, LEVEL), _LOWEST, _HIGHEST))


def common_factors(errors: Floats) -> Floats:
    """Two factors of errors (shards, times): the mean of the shards' errors, each in units of its own spread, and what the sum
    of all errors has beside it, which is where heavy shards err together. Shape (2, times)."""
    known = np.isfinite(errors)
    errors = np.where(known, errors, 0.0)
    spread = np.sqrt((errors**2).sum(axis=1) / np.maximum(known.sum(axis=1), 1))[:, None]
    scaled = np.divide(errors, spread, out=np.zeros_like(errors), where=spread > 0)
    count = np.maximum(known.sum(axis=0), 1)
    first = _unit(scaled.sum(axis=0) / count)
    whole = _unit(errors.sum(axis=0) / count)
    second = whole - first * (np.mean(whole * first) if whole.size else 0.0)
    # What is left of two equal factors is rounding.
    return np.stack([first, _unit(second) if np.sum(second**2) > 1e-12 * second.size else np.zeros_like(second)])


def _flat(errors: Floats) -> Floats:
    return errors.reshape(len(errors), errors.shape[1] * errors.shape[2])


def _unit(values: Floats) -> Floats:
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest == 0.0:
        return values
    scaled = values / largest
    unit: Floats = scaled / np.sqrt(np.mean(scaled**2))
    return unit


def spreads(errors: Floats, factors: Floats) -> tuple[Floats, Floats]:
    """(own, common) standard deviations of errors (shards, times), shapes (shards,) and (shards, factors); a common one carries
    its sign. own² + Σ common² is the mean square of the known errors."""
    known = np.isfinite(errors)
    errors = np.where(known, errors, 0.0)
    count = np.maximum(known.sum(axis=1), 1)
    total = (errors**2).sum(axis=1) / count
    common = errors @ factors.T / count[:, None]
    explained = (common**2).sum(axis=1)
    # Where errors are unknown the factors are no longer at right angles, and could explain more than there is.
    common *= np.sqrt(np.minimum(np.divide(total, explained, out=np.ones_like(total), where=explained > 0), 1.0))[:, None]
    return np.sqrt(np.maximum(total - (common**2).sum(axis=1), 0.0)), common


def by_step(errors: Floats, quantiles: Floats, factors: Floats) -> tuple[Floats, Floats]:
    """(own, common) spreads at each step ahead, shapes (series, horizon) and (series, horizon, factors).

    They follow the width between the lowest and highest-but-one quantile, shape (levels, series, horizon), and have the
    backtest's mean square; a series with less than a horizon's known errors has that width's instead, as its own.
    """
    horizon = quantiles.shape[2]
    own, common = spreads(_flat(errors), factors)
    width = (quantiles[LEVELS.index(0.95)] - quantiles[LEVELS.index(0.05)]) / (2 * NORMAL)
    size = np.sqrt(np.mean(width**2, axis=1))
    is_young = np.isfinite(errors).sum(axis=(1, 2)) < horizon
    own, common = np.where(is_young, size, own), np.where(is_young[:, None], 0.0, common)
    shape = np.divide(width, size[:, None], out=np.ones_like(width), where=size[:, None] > 0)
    return own[:, None] * shape, common[:, None, :] * shape[:, :, None]


def _ratios(errors: Floats, tried: npt.NDArray[np.bool_], seed: int) -> Floats:
    """The sums of errors of random sets of shards in the windows `tried`, over what the other windows say of their spread."""
    shards = len(errors)
    learnt, judged = _flat(errors[:, ~tried]), _flat(errors[:, tried])
    if shards < 2 or not learnt.size or not judged.size:
        return np.zeros(0)
    own, common = spreads(learnt, common_factors(learnt))
    draw = np.random.default_rng(seed)
    chosen = (draw.random((_SETS, shards)) < draw.uniform(0.1, 0.6, (_SETS, 1))).astype(np.float64)
    known = np.isfinite(judged).astype(np.float64)
    squares = chosen @ (known * (own**2)[:, None])
    for factor in common.T:
        squares += (chosen @ (known * factor[:, None])) ** 2
    size = np.sqrt(squares)
    ratios: Floats = (chosen @ np.where(known > 0, judged, 0.0))[size > 0] / size[size > 0]
    return ratios
