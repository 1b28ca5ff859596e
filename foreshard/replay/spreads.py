"""How far forecasts were off before, as the spread of the next ones: of each shard by itself and of all together.

Errors are remembered at the level at which they were made and grow with the load to a power (0, ½ or 1) that fits the pool's
errors best. They are single intervals', not blocks', so that a block's spread has the noise within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreshard.forecast.pooling import LEVEL, NORMAL, common_factors, spreads
from foreshard.replay.trace import Floats

# Errors kept for each block ahead, and below how many nothing can be said of them.
_KEPT, _FEWEST = 336, 12
# Of a forecast that nobody has tried yet: half as much again is not unlikely.
_UNTRIED = 0.3
_POWERS = (0.0, 0.5, 1.0)
# A load far below its level is not known as much better.
_LEAST_SHARE = 0.05
_LOWEST_Z, _HIGHEST_Z = 1.0, 4.0


@dataclass(frozen=True)
class Spread:
    """Spreads at the shards' levels, such that a quantile at z = 1.645 holds of LEVEL of the pool's loads."""

    level: Floats  # (S,) loads at which the spreads hold
    power: float
    own: Floats  # (S, T)
    common: Floats  # (S, T, F)

    def at(self, mean: Floats) -> tuple[Floats, Floats]:
        """(own, common) at expected loads (S, T), of the same shapes as here."""
        grown = _grown(mean, self.level[:, None], self.power)
        return self.own * grown, self.common * grown[:, :, None]

    def after_a_known_step(self) -> Spread:
        """The same with a step before the others of which all is known."""
        own = np.pad(self.own, ((0, 0), (1, 0)))
        return Spread(self.level, self.power, own, np.pad(self.common, ((0, 0), (1, 0), (0, 0))))


class PastErrors:
    """What was said of S shards, `blocks` steps ahead, and what came."""

    def __init__(self, shards: int, blocks: int) -> None:
        self._error, self._said = np.zeros((2, blocks, _KEPT, shards))
        self._count = np.zeros(blocks, dtype=np.int64)
        self._open: dict[int, list[tuple[int, Floats]]] = {}  # by unit: the block ahead as which it was forecast, and how
        self._made: Spread | None = None
        self._made_at = 0

    def said(self, known: int, horizons: Sequence[int], mean: Floats) -> None:
        """Forecasts (S, blocks) made when `known` units were over, of those so many units ahead."""
        for block, horizon in enumerate(horizons):
            self._open.setdefault(known - 1 + horizon, []).append((block, mean[:, block]))

    def came(self, unit: int, rates: Floats, per_unit: int) -> None:
        """A unit is over: its middle interval is what its forecasts are judged by."""
        actual = rates[unit * per_unit + per_unit // 2]
        for block, mean in self._open.pop(unit, ()):
            place = self._count[block] % _KEPT
            self._error[block, place], self._said[block, place] = actual - mean, mean
            self._count[block] += 1

    def spread(self, known: int, every: int) -> Spread:
        """Learnt anew when so many units have passed since it was."""
        if self._made is None or known - self._made_at >= every or self._count.min() < _FEWEST:
            self._made, self._made_at = self._learnt(), known
        return self._made

    def _learnt(self) -> Spread:
        blocks, _, shards = self._error.shape
        kept = int(min(self._count.min(), _KEPT))
        if kept < _FEWEST:
            seen = self._said[0, : max(1, int(self._count[0]))].mean(axis=0)
            common = np.tile((_UNTRIED * seen)[:, None, None], (1, blocks, 1))
            return Spread(seen, 1.0, np.zeros((shards, blocks)), common)
        level = np.maximum(self._said[:, :kept].mean(axis=(0, 1)), 1e-12)
        power = self._power(kept, level)
        own, common = np.zeros((shards, blocks)), np.zeros((shards, blocks, 2))
        for block in range(blocks):
            grown = _grown(self._said[block, :kept], level, power)
            error = (self._error[block, :kept] / grown).T
            own[:, block], common[:, block] = spreads(error, common_factors(error))
            z = _z(self._error[block, :kept].sum(axis=1), grown, own[:, block], common[:, block])
            own[:, block] *= z / NORMAL
            common[:, block] *= z / NORMAL
        return Spread(level, power, own, common)

    def _power(self, kept: int, level: Floats) -> float:
        """Under which the pool's errors one block ahead are the most likely, taken for normal."""
        total, whole = self._error[0, :kept].sum(axis=1), float(level.sum())
        said = self._said[0, :kept].sum(axis=1)

        def unlikely(power: float) -> float:
            grown = _grown(said, np.array(whole), power)
            return float(np.log(grown).mean() + 0.5 * np.log(np.mean((total / grown) ** 2) + 1e-30))

        return min(_POWERS, key=unlikely)


def _grown(mean: Floats, level: Floats, power: float) -> Floats:
    found: Floats = np.maximum(mean / np.maximum(level, 1e-12), _LEAST_SHARE) ** power
    return found


def _z(total: Floats, grown: Floats, own: Floats, common: Floats) -> float:
    """The quantile of the pool's errors (W,) in units of the spread that they were to have."""
    square = (grown * own) ** 2
    size = np.sqrt(square.sum(axis=1) + ((grown @ common) ** 2).sum(axis=1))
    ratios = total[size > 0] / size[size > 0]
    return float(np.clip(np.quantile(ratios, LEVEL), _LOWEST_Z, _HIGHEST_Z)) if ratios.size else NORMAL
