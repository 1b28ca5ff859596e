"""How shards err together: each shard's error as a common factor's part and its own, and z for sums of shards.

The quantile of a node's load is Σ mean + z·√((Σ common)² + Σ own²): own errors cancel in a sum, common ones do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast.series import Floats

LEVEL = 0.95
_SETS = 400


@dataclass(frozen=True)
class Factor:
    """The fleet's common factor: its value at each time of the backtest, scaled to unit mean square; shape (times,)."""

    values: Floats


def common_factor(errors: Floats) -> Factor:
    """The factor of errors of shape (shards, times): the mean of the shards' errors, each in units of its own spread."""
    if errors.size == 0:
        return Factor(np.zeros(errors.shape[-1] if errors.ndim else 0))
    spread = np.sqrt(np.mean(errors**2, axis=1, keepdims=True))
    scaled = np.divide(errors, spread, out=np.zeros_like(errors), where=spread > 0)
    mean = scaled.mean(axis=0)
    size = float(np.sqrt(np.mean(mean**2)))
    return Factor(mean / size if size > 0 else mean)


def spreads(errors: Floats, factor: Factor) -> tuple[float, float]:
    """(own, common) standard deviations of one shard's errors, shape (times,); the common one carries its sign."""
    if len(errors) == 0 or len(errors) != len(factor.values):
        return (float(np.sqrt(np.mean(errors**2))) if len(errors) else 0.0), 0.0
    common = float(np.mean(errors * factor.values))
    return float(np.sqrt(max(float(np.mean(errors**2)) - common**2, 0.0))), common


def calibrate(errors: Floats, factor: Factor, seed: int) -> tuple[float, float]:
    """(z, its coverage in the sample): z such that the sum of a random set of shards stays below the quantile LEVEL of times.

    `errors` has shape (shards, times). Sets are drawn with `seed`; a fleet too small or without errors gives the normal 1.645.
    """
    if errors.shape[0] < 2 or errors.size == 0 or not np.any(errors):
        return 1.645, LEVEL
    parts = np.array([spreads(row, factor) for row in errors])
    draw = np.random.default_rng(seed)
    ratios = []
    for _ in range(_SETS):
        chosen = draw.random(errors.shape[0]) < draw.uniform(0.1, 0.6)
        size = np.hypot(parts[chosen, 1].sum(), np.sqrt((parts[chosen, 0] ** 2).sum()))
        if size > 0:
            ratios.append(errors[chosen].sum(axis=0) / size)
    if not ratios:  # errors so small that their squares vanish
        return 1.645, LEVEL
    pooled = np.concatenate(ratios)
    z = float(np.clip(np.quantile(pooled, LEVEL), 1.0, 4.0))
    return z, float(np.mean(pooled <= z))
