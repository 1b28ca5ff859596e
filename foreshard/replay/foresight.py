"""What the forecast engine knew at each moment of a replay, made in one pass over the load as it came.

The engine is fitted again every REFIT_BLOCKS blocks; between fits the online model corrects it with each new interval. How far
the corrected forecasts were off before, for all shards together and each by itself, is the spread of the next ones. The pass
begins before the test, so that there are errors to learn from. At every moment it reads the rows that are over by then alone.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import Batch
from foreshard.forecast.engine import Options, forecast_all
from foreshard.forecast.short_horizon import ShortHorizon
from foreshard.replay.defaults import Defaults
from foreshard.replay.load import Load
from foreshard.replay.planned import Expected
from foreshard.replay.spreads import PastErrors, Spread
from foreshard.replay.trace import Floats

BLOCK_SECONDS = 900
REFIT_BLOCKS = 4
# Eight weeks: what weekly patterns need, and no more than the engine would use of a longer history.
_HISTORY_SECONDS = 56 * 86_400
_WARM_BLOCKS = 336
_LEAST_AHEAD_SECONDS = 2 * 3_600
_MOST_BLOCKS = 24
# The engine's backtest windows at each fit: the online model judges the forecasts again, at every interval.
_WINDOWS = 5


@dataclass(frozen=True)
class Grid:
    """Times in seconds. The load is observed in units of `unit`, forecast in blocks of `block`, `blocks` of them ahead."""

    interval: int
    unit: int
    block: int
    blocks: int
    look: int  # after so many seconds of its interval the load is known, if intervals are longer than that; else 0

    @staticmethod
    def of(load: Load, defaults: Defaults, lead_seconds: float) -> Grid:
        """`lead_seconds`: what a change takes; the forecast reaches at least twice as far."""
        interval = load.interval_seconds
        unit = interval * math.ceil(defaults.decision_seconds / interval)
        block = unit * math.ceil(BLOCK_SECONDS / unit)
        blocks = math.ceil(max(_LEAST_AHEAD_SECONDS, 2 * lead_seconds) / block) + 1
        look = defaults.decision_seconds if interval > defaults.decision_seconds else 0
        return Grid(interval, unit, block, min(_MOST_BLOCKS, blocks), look)

    @property
    def horizons(self) -> tuple[int, ...]:
        """Units from now to the middle of each block."""
        each = self.block // self.unit
        return tuple(each * j + each // 2 + 1 for j in range(self.blocks))


@dataclass(frozen=True)
class Foresight:
    """What was foreseen at second `second` of the test: T steps between `edges` (T + 1,), in seconds of the test."""

    second: int
    edges: Floats
    mean: Floats  # (S, T)
    spread: Spread

    def from_second(self, second: int) -> tuple[Floats, Expected]:
        """The edges, beginning with `second`, and what is expected in the steps that are not over by then."""
        first = int(np.searchsorted(self.edges, second, side="right")) - 1
        first = min(max(first, 0), self.mean.shape[1] - 1)
        own, common = self.spread.at(self.mean)
        edges = self.edges[first:].copy()
        edges[0] = second
        return edges, Expected(self.mean[:, first:], own[:, first:], common[:, first:])


@dataclass(frozen=True)
class Tape:
    """What was foreseen, moment by moment. `young`: how many shards had but a fallback's forecast at the start of the test, and
    `why` the first of them did."""

    moments: tuple[Foresight, ...]
    young: int
    why: str

    def at(self, second: int) -> Foresight:
        """The newest at a second of the test."""
        return self.moments[max(0, bisect_right(self.moments, second, key=lambda moment: moment.second) - 1)]


def foresee(load: Load, start: datetime, defaults: Defaults, lead_seconds: float, country: str = "") -> Tape:
    """The forecasts that there would have been during the test of a load that begins at `start`.

    Raises ForeshardError if there is less than a block of a quarter of an hour, or one interval, before the test. Time O(fits ×
    what the engine takes + moments × shards × blocks).
    """
    grid = Grid.of(load, defaults, lead_seconds)
    before = load.test_start * load.interval_seconds
    if before < grid.block:
        raise ForeshardError(
            f"{before / 60:g} minutes before the test are too few to forecast from, at least {grid.block // 60} are needed: "
            "give more training days, or policies that do without a forecast"
        )
    watcher = _Watcher(load, start, grid, country)
    moments = tuple(moment for moment in watcher.moments() if moment.edges[-1] > 0)
    return Tape(moments, watcher.young, watcher.why)


class _Watcher:
    """Goes through a load unit by unit; `_rates` is only ever read up to the rows that are over."""

    def __init__(self, load: Load, start: datetime, grid: Grid, country: str) -> None:
        self._rates, self._grid, self._country = load.rates, grid, country
        self._begin, self._test = start, load.test_start
        self._per_unit, self._per_block = grid.unit // grid.interval, grid.block // grid.unit
        self._online = ShortHorizon(load.rates.shape[1], grid.horizons)
        self._past = PastErrors(load.rates.shape[1], grid.blocks)
        self._slow = np.zeros((0, load.rates.shape[1]))  # by unit, from unit `_slow_from` on
        self._slow_from = 0
        self.young, self.why = 0, ""

    def moments(self) -> Iterator[Foresight]:
        units = len(self._rates) // self._per_unit
        test = self._test // self._per_unit
        first = max(self._per_block, test - min(_WARM_BLOCKS * self._per_block, test // 2))
        refit = REFIT_BLOCKS * self._per_block
        for known in range(first, units + 1):
            if (known - first) % refit == 0 or known == test:
                self._fit(known, is_first=known <= test)
            yield self._moment(known)
            if known < units:
                actual = self._unit(known)
                self._past.came(known, self._rates, self._per_unit)
                self._online.update(actual, self._slow_at(np.array([known]))[0])

    def _unit(self, unit: int) -> Floats:
        mean: Floats = self._rates[unit * self._per_unit : (unit + 1) * self._per_unit].mean(axis=0)
        return mean

    def _fit(self, known: int, is_first: bool) -> None:
        """Fits on the blocks that are over when `known` units are."""
        rows = self._per_unit * self._per_block
        over = known // self._per_block
        begin = max(0, over - _HISTORY_SECONDS // self._grid.block)
        values = self._rates[begin * rows : over * rows].reshape(over - begin, rows, -1).mean(axis=1)
        ahead = self._grid.blocks + REFIT_BLOCKS + 2
        step = timedelta(seconds=self._grid.block)
        batch = Batch(
            tuple(str(i) for i in range(values.shape[1])), self._begin + begin * step, step, np.ascontiguousarray(values.T)
        )
        made = forecast_all(batch, Options(ahead, windows=_WINDOWS, country=self._country))
        if is_first:
            reasons = [reason for reason in made.fallback_reason if reason]
            self.young, self.why = len(reasons), reasons[0] if reasons else ""
        self._slow = _by_unit(made.mean.T, values[-1], self._per_block)
        self._slow_from = over * self._per_block

    def _slow_at(self, units: np.ndarray) -> Floats:
        found: Floats = self._slow[np.minimum(units - self._slow_from, len(self._slow) - 1)]
        return found

    def _moment(self, known: int) -> Foresight:
        grid = self._grid
        slow = self._slow_at(known - 1 + np.array(grid.horizons))
        mean = self._online.predict(slow)[0].astype(np.float64).T
        self._past.said(known, grid.horizons, mean)
        now = (known * self._per_unit - self._test) * grid.interval
        edges = now + grid.block * np.arange(grid.blocks + 1, dtype=np.float64)
        spread = self._past.spread(known, REFIT_BLOCKS * self._per_block)
        if grid.look:
            # The last unit counted as over has only just begun: what is left of it is known.
            edges = np.concatenate([[now - grid.unit], edges])
            mean = np.concatenate([self._unit(known - 1)[:, None], mean], axis=1)
            return Foresight(now - grid.unit + grid.look, edges, mean, spread.after_a_known_step())
        return Foresight(now, edges, mean, spread)


def _by_unit(slow: Floats, before: Floats, each: int) -> Floats:
    """Forecasts of blocks (T, S) as those of their units, (T × each, S): on straight lines between the middles of blocks.

    `before`: the load of the block before the first.
    """
    if each == 1:
        return slow
    middle = np.arange(-1, len(slow)) * each + (each - 1) / 2
    at = np.arange(len(slow) * each)
    after = np.minimum(np.searchsorted(middle, at, side="right"), len(slow))
    part = np.clip((at - middle[after - 1]) / each, 0.0, 1.0)[:, None]
    line = np.vstack([before, slow])
    found: Floats = (1.0 - part) * line[after - 1] + part * line[after]
    return found
