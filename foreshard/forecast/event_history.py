"""What events did to the history of a batch: where they were, what was expected of those steps, and what came instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import Batch, Floats
from foreshard.forecast.calendar import Calendar, Event
from foreshard.forecast.effects import ANNOUNCED, EVENT, HOLIDAY, Cells, Deviations, Effect, Effects, deviations
from foreshard.forecast.weekly import PHASES, Ints, LocalGrid, Noise, expected, has_weeks, local_grid, noise

Bools = npt.NDArray[np.bool_]
# Factors are kept within this, in logarithms: beyond it is a fault or a launch, which no history explains.
MOST = 3.0
# Errors of the expectation, a mean of few weeks, by those of one week.
_EXPECTATION = 1.25
# A single step's expectations scatter more than its share of a phase: its floor is that much higher.
_STEP_FLOOR = 2.0


@dataclass(frozen=True)
class Occurrence:
    """An event on a batch: the rows and the steps (from the batch's start, beyond its history too) it covers."""

    event: Event
    rows: Ints
    steps: Ints

    @property
    def announced(self) -> float:
        """The logarithm of the lift that was expected beforehand; 0 if none was."""
        return float(np.log(self.event.expected_lift)) if self.event.expected_lift else 0.0

    @property
    def pool(self) -> str:
        return HOLIDAY if self.event.is_holiday else ANNOUNCED if self.event.expected_lift else EVENT


def occurrences(batch: Batch, calendar: Calendar, start: datetime, first: int, last: int) -> Iterator[Occurrence]:
    """The events on the steps from `first`, which begins at `start`, up to `last`; none where days are no whole number of
    steps."""
    if not has_weeks(batch.step):
        return
    rows = {shard: i for i, shard in enumerate(batch.ids)}
    for event in calendar.between(start, start + batch.step * (last - first)):
        begin = max((event.start - batch.start) // batch.step, first)
        end = min(-((batch.start - event.end) // batch.step), last)
        own = np.array(sorted(rows[s] for s in event.shards if s in rows) if event.shards else range(len(batch)), dtype=np.intp)
        if len(own) and end > begin:
            yield Occurrence(event, own, np.arange(begin, end, dtype=np.intp))


def coverage(batch: Batch, found: Iterable[Occurrence]) -> npt.NDArray[np.int16]:
    """How many events cover each step of the history, shape (series, steps)."""
    count = np.zeros(batch.values.shape, dtype=np.int16)
    for occurrence in found:
        count[np.ix_(occurrence.rows, occurrence.steps)] += 1
    return count


@dataclass(frozen=True)
class Expectation:
    """What the weeks around say of an occurrence's steps. `usual`: the load, shape (series, its steps). `likeness`,
    `likeness_by_step`: the logarithm of the rest day's load by the usual one, shape (series, PHASES) and (series, its
    steps)."""

    usual: Floats
    likeness: Floats
    likeness_by_step: Floats


@dataclass(frozen=True)
class History:
    """The history of a batch with its events. `base`: the values without them. `expectations`, `cells`: for each of `found`."""

    grid: LocalGrid
    base: Floats
    rest_day: int
    noise: Noise
    found: tuple[Occurrence, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    cells: tuple[Cells, ...] = ()

    def expectation(self, occurrence: Occurrence) -> Expectation:
        """What is expected of an occurrence in the history or after it."""
        usual = expected(self.base, self.grid, occurrence.steps)
        rest = expected(self.base, self.grid, occurrence.steps, self.rest_day)
        phase, per_phase = self.grid.phase[occurrence.steps], self.grid.per_day / PHASES
        is_known = np.isfinite(usual) & np.isfinite(rest)
        sums = [_by_phase(np.where(is_known, v, 0.0), is_known, phase, per_phase) for v in (rest, usual)]
        floor = self.noise.floor
        by_step = np.nan_to_num(_log_ratio(rest, usual, _STEP_FLOOR * floor[:, phase] / per_phase))
        return Expectation(usual, _log_ratio(sums[0], sums[1], floor), by_step)

    def deviations(self, pool: str, learnt: Effects) -> Deviations:
        return deviations(self.cells, learnt, pool, len(self.base))

    def by_step(self, occurrence: Occurrence, expectation: Expectation, effect: Effect, by_phase: Floats) -> Floats:
        """An effect by phase, in logarithms, spread over the steps of an occurrence: how the rest day differs is known of
        each."""
        phase = self.grid.phase[occurrence.steps]
        detail = expectation.likeness_by_step - expectation.likeness[:, phase]
        steps: Floats = occurrence.announced + by_phase[:, phase] + effect.mean[0] * detail
        return steps


def read(batch: Batch, calendar: Calendar, horizon: int) -> History:
    """The history of a batch of at least one step, and the local time of `horizon` steps after it."""
    found = tuple(occurrences(batch, calendar, batch.start, 0, batch.steps))
    count = coverage(batch, found)
    base = np.where(count > 0, np.nan, batch.values)
    grid = local_grid(batch.start, batch.step, batch.steps + horizon, calendar.zone)
    history = History(grid, base, calendar.rest_day, noise(base, grid), found)
    expectations = tuple(history.expectation(occurrence) for occurrence in found)
    cells = tuple(_cells(batch.values, count, o, e, history) for o, e in zip(found, expectations, strict=True))
    return replace(history, expectations=expectations, cells=cells)


def _cells(
    values: Floats, count: npt.NDArray[np.int16], occurrence: Occurrence, expectation: Expectation, history: History
) -> Cells:
    """What one occurrence did; NaN on the rows that it does not cover, and for phases of which less than half is known."""
    steps, per_phase = occurrence.steps, history.grid.per_day / PHASES
    phase = history.grid.phase[steps]
    actual = values[:, steps]
    is_known = np.isfinite(expectation.usual) & np.isfinite(actual)
    # Steps of another event say something of both, and are used only where there are no others.
    is_alone = is_known & (count[:, steps] == 1)
    is_used = np.where(is_alone.any(axis=1, keepdims=True), is_alone, is_known)
    sums = [_by_phase(np.where(is_used, v, 0.0), is_used, phase, per_phase) for v in (actual, expectation.usual)]
    observed = _log_ratio(sums[0], sums[1], history.noise.floor) - occurrence.announced
    of_phase = _of_phase(phase)
    known = is_used.astype(np.float64) @ of_phase
    is_covered = np.zeros((len(values), 1), dtype=bool)
    is_covered[occurrence.rows] = True
    observed[~is_covered | (known == 0) | (known < 0.5 * of_phase.sum(axis=0))] = np.nan
    variance = _EXPECTATION * history.noise.variance * per_phase / np.maximum(known, 1.0)
    return Cells(occurrence.pool, occurrence.event.name, observed, expectation.likeness, variance)


def _of_phase(phase: Ints) -> Floats:
    of_phase: Floats = (phase[:, None] == np.arange(PHASES)).astype(np.float64)
    return of_phase


def _by_phase(values: Floats, is_known: Bools, phase: Ints, per_phase: float) -> Floats:
    """Sums by phase as if each had all of a phase's steps of one day, shape (series, PHASES); zero where nothing is known."""
    of_phase = _of_phase(phase)
    count = is_known.astype(np.float64) @ of_phase
    sums: Floats = (values @ of_phase) * per_phase / np.maximum(count, 1.0)
    return sums


def _log_ratio(above: Floats, below: Floats, floor: Floats) -> Floats:
    logs: Floats = np.clip(np.log((above + floor) / (below + floor)), -MOST, MOST)
    return logs
