"""Holidays and events around any family: the history without what they did to it, and the factor and wider band of those to
come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import Batch, Floats
from foreshard.forecast.calendar import Calendar, Event
from foreshard.forecast.effects import ANNOUNCED, EVENT, HOLIDAY, Cells, Deviations, Effects, deviations, estimate
from foreshard.forecast.weekly import PHASES, Ints, LocalGrid, Noise, expected, has_weeks, local_grid, noise

Bools = npt.NDArray[np.bool_]
# Factors are kept within this, in logarithms: beyond it is a fault or a launch, which no history explains.
_MOST = 3.0
_WIDEST = 4.0
# What is left of a load below this share of it says too little of what would have been without the event.
_TOO_LITTLE = np.log(0.3)
# Errors of the expectation, a mean of few weeks, by those of one week.
_EXPECTATION = 1.25


def learn(sample: Batch, calendar: Calendar) -> Effects:
    """The effects of the calendar's events on a sample of the fleet, in its history: a few hundred numbers per name."""
    return estimate(_read(sample, calendar, 0).cells) if covered(sample, calendar).any() else Effects()


def covered(batch: Batch, calendar: Calendar) -> Bools:
    """Where events are in the history, shape (series, steps)."""
    return _coverage(batch, _occurrences(batch, calendar, batch.start, 0, batch.steps)) > 0


def cleaned(batch: Batch, calendar: Calendar, learnt: Effects) -> Batch:
    """The batch with its events' effects divided out of the history, for families that know of none; NaN where they left too
    little."""
    if not covered(batch, calendar).any():
        return batch
    seen = _read(batch, calendar, 0)
    logs = np.zeros(batch.values.shape)
    for pool in dict.fromkeys(cell.pool for cell in seen.cells):
        own = seen.deviations(pool, learnt)
        chosen = [i for i, cell in enumerate(seen.cells) if cell.pool == pool]
        for place, i in enumerate(chosen):
            occurrence, cell = seen.occurrences[i], seen.cells[i]
            mean, _ = learnt.of(pool, cell.name).log_factor(cell.likeness)
            effect = occurrence.announced + mean + own.on(place)
            logs[np.ix_(occurrence.rows, occurrence.steps)] += effect[
                np.ix_(occurrence.rows, seen.grid.phase[occurrence.steps])
            ]
    values = batch.values / np.exp(np.clip(logs, -_MOST, _MOST))
    values[logs < _TOO_LITTLE] = np.nan
    return replace(batch, values=values)


def lift(batch: Batch, horizon: int, calendar: Calendar, learnt: Effects) -> tuple[Floats, Floats]:
    """What events do to the next `horizon` steps: (factor, widening), both of shape (series, horizon) and 1 where there is
    none.

    `batch` is the history as it was, not `cleaned`. The mean and the quantiles of a forecast that knows of no events are
    multiplied by `factor`, and the quantiles' distances from the mean by `widening` too.
    """
    factor, widening = np.ones((len(batch), horizon)), np.ones((len(batch), horizon))
    ahead = list(_occurrences(batch, calendar, batch.origin, batch.steps, batch.steps + horizon))
    if not ahead or not batch.steps:
        return factor, widening
    seen = _read(batch, calendar, horizon)
    logs, variances = np.zeros((len(batch), horizon)), np.zeros((len(batch), horizon))
    for occurrence in ahead:
        event, rows = occurrence.event, occurrence.rows
        _, likeness = seen.expectation(occurrence)
        mean, variance = learnt.of(_pool(event), event.name).log_factor(likeness)
        own, own_variance = seen.deviations(_pool(event), learnt).own(event.name)
        at = np.ix_(rows, occurrence.steps - batch.steps)
        of = np.ix_(rows, seen.grid.phase[occurrence.steps])
        logs[at] += (occurrence.announced + mean + own)[of]
        variances[at] += (variance + own_variance)[of]
    factor = np.exp(np.clip(logs, -_MOST, _MOST))
    widening = np.minimum(np.sqrt(1.0 + variances / seen.noise.relative[:, None] ** 2), _WIDEST)
    return factor, widening


@dataclass(frozen=True)
class _Occurrence:
    """An event on a batch: the rows and the steps (from the batch's start, beyond its history too) it covers."""

    event: Event
    rows: Ints
    steps: Ints

    @property
    def announced(self) -> float:
        return float(np.log(self.event.expected_lift)) if self.event.expected_lift else 0.0


def _pool(event: Event) -> str:
    return HOLIDAY if event.is_holiday else ANNOUNCED if event.expected_lift else EVENT


def _occurrences(batch: Batch, calendar: Calendar, start: datetime, first: int, last: int) -> Iterator[_Occurrence]:
    """The events on the steps from `first`, which begins at `start`, up to `last`."""
    if not has_weeks(batch.step):
        return
    rows = {shard: i for i, shard in enumerate(batch.ids)}
    for event in calendar.between(start, start + batch.step * (last - first)):
        begin = max((event.start - batch.start) // batch.step, first)
        end = min(-((batch.start - event.end) // batch.step), last)
        own = np.array(sorted(rows[s] for s in event.shards if s in rows) if event.shards else range(len(batch)), dtype=np.intp)
        if len(own) and end > begin:
            yield _Occurrence(event, own, np.arange(begin, end, dtype=np.intp))


def _coverage(batch: Batch, occurrences: Iterator[_Occurrence] | Sequence[_Occurrence]) -> npt.NDArray[np.int16]:
    """How many events cover each step of the history, shape (series, steps)."""
    count = np.zeros(batch.values.shape, dtype=np.int16)
    for occurrence in occurrences:
        count[np.ix_(occurrence.rows, occurrence.steps)] += 1
    return count


@dataclass(frozen=True)
class _History:
    """What the history says of its events. `base`: the values without events. `cells`: what each of `occurrences` did."""

    grid: LocalGrid
    base: Floats
    rest_day: int
    noise: Noise
    occurrences: tuple[_Occurrence, ...]
    cells: tuple[Cells, ...]

    def expectation(self, occurrence: _Occurrence) -> tuple[Floats, Floats]:
        """The load expected at its steps, shape (series, its steps), and how the rest day differs, shape (series, PHASES)."""
        usual = expected(self.base, self.grid, occurrence.steps)
        rest = expected(self.base, self.grid, occurrence.steps, self.rest_day)
        is_known = np.isfinite(usual) & np.isfinite(rest)
        phase = self.grid.phase[occurrence.steps]
        sums = [_by_phase(np.where(is_known, v, 0.0), is_known, phase, self.grid.per_day) for v in (rest, usual)]
        return usual, _ratio(sums[0], sums[1], self.noise.floor)

    def deviations(self, pool: str, learnt: Effects) -> Deviations:
        return deviations(self.cells, learnt, pool, len(self.base))


def _by_phase(values: Floats, is_known: Bools, phase: Ints, per_day: int) -> Floats:
    """Sums by phase as if each had all of a phase's steps of one day, shape (series, PHASES); zero where nothing is known."""
    of_phase = (phase[:, None] == np.arange(PHASES)).astype(np.float64)
    count = is_known.astype(np.float64) @ of_phase
    sums: Floats = (values @ of_phase) * (per_day / PHASES) / np.maximum(count, 1.0)
    return sums


def _ratio(above: Floats, below: Floats, floor: Floats) -> Floats:
    logs: Floats = np.clip(np.log((above + floor) / (below + floor)), -_MOST, _MOST)
    return logs


def _read(batch: Batch, calendar: Calendar, horizon: int) -> _History:
    occurrences = tuple(_occurrences(batch, calendar, batch.start, 0, batch.steps))
    count = _coverage(batch, occurrences)
    base = np.where(count > 0, np.nan, batch.values)
    # Expectations look at the weeks after an event too: their local time must be known.
    grid = local_grid(batch.start, batch.step, batch.steps + horizon, calendar.zone)
    history = _History(grid, base, calendar.rest_day, noise(base, grid), occurrences, ())
    cells = tuple(_cells(batch.values, count, occurrence, history) for occurrence in occurrences)
    return replace(history, cells=cells)


def _cells(values: Floats, count: npt.NDArray[np.int16], occurrence: _Occurrence, history: _History) -> Cells:
    """What one occurrence did; NaN on the rows that it does not cover, and for phases of which less than half is known."""
    steps, per_day = occurrence.steps, history.grid.per_day
    phase = history.grid.phase[steps]
    usual, likeness = history.expectation(occurrence)
    actual = values[:, steps]
    is_known = np.isfinite(usual) & np.isfinite(actual)
    # Steps of another event say something of both, and are used only where there are no others.
    is_alone = is_known & (count[:, steps] == 1)
    is_used = np.where(is_alone.any(axis=1, keepdims=True), is_alone, is_known)
    sums = [_by_phase(np.where(is_used, v, 0.0), is_used, phase, per_day) for v in (actual, usual)]
    observed = _ratio(sums[0], sums[1], history.noise.floor) - occurrence.announced
    of_phase = (phase[:, None] == np.arange(PHASES)).astype(np.float64)
    known = is_used.astype(np.float64) @ of_phase
    is_covered = np.zeros((len(values), 1), dtype=bool)
    is_covered[occurrence.rows] = True
    observed[~is_covered | (known == 0) | (known < 0.5 * of_phase.sum(axis=0))] = np.nan
    variance = _EXPECTATION * history.noise.variance * (per_day / PHASES) / np.maximum(known, 1.0)
    event = occurrence.event
    return Cells(_pool(event), event.name, observed, likeness, variance)
