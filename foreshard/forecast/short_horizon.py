"""The next minutes of every shard: the slow forecast plus what is left of its recent deviation, updated with each interval.

A shard's deviation from the slow forecast is smoothed at two speeds. How much of each is still there some intervals later is a
regression through the origin, kept by running sums that forget and shrunk toward the fleet's; the two are combined by the
inverse square of their errors. Quantiles follow the fleet's errors in units of each shard's own, by stochastic steps on the
pinball loss. A million shards take some tenths of a second an interval: everything is a pass over arrays of float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import LEVELS, NORMAL

Singles = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# Mean absolute deviation of a normal error in units of its standard deviation.
_ABSOLUTE = 0.798
_STEP = 0.02
_FLEET_SAMPLE = 100_000
_LEAST = np.float32(1e-30)


@dataclass
class ShortHorizon:
    """`shards`: how many; `horizons`: intervals ahead. `speeds`: the weights of the newest deviation; `memory`: how many
    intervals the running sums remember; `shrinkage`: how many intervals of its own a shard's coefficient needs to count as much
    as the fleet's."""

    shards: int
    horizons: tuple[int, ...] = (1, 5, 60)
    speeds: tuple[float, ...] = (0.9, 0.2)
    memory: float = 720.0
    shrinkage: float = 60.0
    _seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.shards < 0 or not self.horizons or min(self.horizons) < 1:
            raise ForeshardError("a short-horizon forecast needs shards and horizons of at least one interval")
        self._parts = [_Part(self.shards, self.horizons, speed) for speed in self.speeds]
        self._size = np.zeros((len(self.horizons), self.shards), np.float32)
        self._tails = np.tile(np.asarray(NORMAL) / _ABSOLUTE, (len(self.horizons), 1))

    def update(self, actual: npt.ArrayLike, slow: npt.ArrayLike) -> None:
        """Takes in one interval: what came and what the slow forecast had said of it, both (shards,).

        A shard whose value is NaN (not reported) keeps its state. Time: O(shards).
        """
        deviation = np.asarray(actual, np.float32) - np.asarray(slow, np.float32)
        known = np.isfinite(deviation)
        kept = np.float32(math.exp(-1.0 / self.memory))
        for number, horizon in enumerate(self.horizons):
            if self._seen >= horizon:
                then = self._seen - horizon
                said = [part.kept(number, self._pull()) * part.at(then) for part in self._parts]
                error = deviation - self._combined(number, said)
                self._learn_tails(number, error, known)
                _remember(self._size[number], np.abs(error), known, kept)
                for part, forecast in zip(self._parts, said, strict=True):
                    part.learn(number, deviation, part.at(then), forecast, known, kept)
        for part in self._parts:
            part.move(deviation, known, self._seen)
        self._seen += 1

    def predict(self, slow_ahead: npt.ArrayLike) -> tuple[Singles, Singles]:
        """(mean, quantiles) of the interval that is `horizons` after the last one, shapes (horizons, shards) and (levels,
        horizons, shards), from the slow forecasts of those intervals, (horizons, shards). Not below zero."""
        slow = np.asarray(slow_ahead, np.float32)
        mean = np.empty_like(slow)
        quantiles = np.empty((len(LEVELS), *slow.shape), np.float32)
        weight = np.float32(self._weight())
        for number in range(len(self.horizons)):
            said = [part.kept(number, self._pull()) * part.level for part in self._parts]
            np.add(slow[number], self._combined(number, said), out=mean[number])
            size = self._size[number] / weight
            for place, tail in enumerate(self._tails[number]):
                np.add(mean[number], np.float32(tail) * size, out=quantiles[place, number])
        np.maximum(mean, 0, out=mean)
        return mean, np.maximum(quantiles, 0, out=quantiles)

    def _weight(self) -> float:
        """How many intervals the running sums stand for."""
        return max(self.memory * (1.0 - math.exp(-self._seen / self.memory)), 1.0)

    def _pull(self) -> float:
        return self.shrinkage / self._weight()

    def _combined(self, number: int, said: list[Singles]) -> Singles:
        # In double: squares of small errors leave the range of singles. Without errors yet all weigh the same.
        weights = np.stack([(part.errors[number].astype(np.float64) + 1e-30) ** -2 for part in self._parts])
        combined: Singles = (weights / weights.sum(axis=0) * np.stack(said)).sum(axis=0).astype(np.float32)
        return combined

    def _learn_tails(self, number: int, error: Singles, known: Bools) -> None:
        """Moves the fleet's quantiles of errors (in units of the shards' mean absolute error) toward the covered share."""
        size = self._size[number] / np.float32(self._weight())
        judged = np.flatnonzero(known & (size > 0))[:_FLEET_SAMPLE]
        if not len(judged):
            return
        scaled = error[judged] / size[judged]
        for place, level in enumerate(LEVELS):
            covered = float(np.mean(scaled <= self._tails[number, place]))
            self._tails[number, place] += _STEP * (level - covered) / math.sqrt(level * (1 - level))
        self._tails[number] = np.maximum.accumulate(self._tails[number])


class _Part:
    """The deviation smoothed at one speed: `level` (shards,), and how it goes on; sums are (horizons, shards)."""

    def __init__(self, shards: int, horizons: tuple[int, ...], speed: float) -> None:
        self.speed = np.float32(speed)
        self.level = np.zeros(shards, np.float32)
        # The levels of the last intervals, by the interval's number modulo their count.
        self._past = np.zeros((max(horizons), shards), np.float32)
        self._products, self._squares, self.errors = (np.zeros((len(horizons), shards), np.float32) for _ in range(3))

    def at(self, interval: int) -> Singles:
        past: Singles = self._past[interval % len(self._past)]
        return past

    def kept(self, number: int, pull: float) -> Singles:
        """The share of the level that is still there: the shard's own, shrunk toward the fleet's, from 0 to 1."""
        products, squares = self._products[number], self._squares[number]
        # The median of shares, not a sum of loads: that would be the coefficient of the largest shards.
        judged = np.flatnonzero(squares > 0)[:_FLEET_SAMPLE]
        fleet = float(np.clip(np.median(products[judged] / squares[judged]), 0, 1)) if len(judged) else 0.0
        added = np.float32(pull) * squares
        share: Singles = (products + np.float32(fleet) * added) / np.maximum(squares + added, _LEAST)
        return np.clip(share, 0, 1, out=share)

    def learn(
        self, number: int, deviation: Singles, before: Singles, forecast: Singles, known: Bools, kept: np.float32
    ) -> None:
        _remember(self._products[number], deviation * before, known, kept)
        _remember(self._squares[number], before * before, known, kept)
        _remember(self.errors[number], (deviation - forecast) ** 2, known, kept)

    def move(self, deviation: Singles, known: Bools, interval: int) -> None:
        self.level += self.speed * np.where(known, deviation - self.level, 0)
        self._past[interval % len(self._past)] = self.level


def _remember(sums: Singles, value: Singles, known: Bools, kept: np.float32) -> None:
    """Forgets a little and adds the value, in the shards that reported."""
    np.multiply(sums, kept, out=sums, where=known)
    np.add(sums, value, out=sums, where=known)
