"""Holidays and events around any family: the history without what they did to it, and the factor and wider band of those
to come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foreshard.forecast.batch import Batch, Floats
from foreshard.forecast.calendar import Calendar
from foreshard.forecast.effects import Effects, estimate
from foreshard.forecast.event_history import MOST, Bools, coverage, occurrences, read

_WIDEST = 4.0
# What is left of a load below this share of it says too little of what would have been without the event.
_TOO_LITTLE = np.log(0.3)


def learn(sample: Batch, calendar: Calendar) -> Effects:
    """The effects of the calendar's events on a sample of the fleet, in its history: a few dozen numbers per name."""
    return estimate(read(sample, calendar, 0).cells) if covered(sample, calendar).any() else Effects()


def covered(batch: Batch, calendar: Calendar) -> Bools:
    """Where events are in the history, shape (series, steps)."""
    return coverage(batch, occurrences(batch, calendar, batch.start, 0, batch.steps)) > 0


def cleaned(batch: Batch, calendar: Calendar, learnt: Effects) -> Batch:
    """The batch with its events' effects divided out of the history, for families that know of none; NaN where they left too
    little."""
    if not covered(batch, calendar).any():
        return batch
    seen = read(batch, calendar, 0)
    logs = np.zeros(batch.values.shape)
    for pool in dict.fromkeys(cell.pool for cell in seen.cells):
        own = seen.deviations(pool, learnt)
        for place, i in enumerate(i for i, cell in enumerate(seen.cells) if cell.pool == pool):
            occurrence, expectation, cell = seen.found[i], seen.expectations[i], seen.cells[i]
            effect = learnt.of(pool, cell.name)
            by_phase = effect.log_factor(cell.likeness)[0] + own.on(place)
            by_step = seen.by_step(occurrence, expectation, effect, by_phase)
            logs[np.ix_(occurrence.rows, occurrence.steps)] += by_step[occurrence.rows]
    values = batch.values / np.exp(np.clip(logs, -MOST, MOST))
    values[logs < _TOO_LITTLE] = np.nan
    return replace(batch, values=values)


def lift(batch: Batch, horizon: int, calendar: Calendar, learnt: Effects) -> tuple[Floats, Floats]:
    """What events do to the next `horizon` steps: (factor, widening), both of shape (series, horizon) and 1 where there is
    none.

    `batch` is the history as it was, not `cleaned`. The mean and the quantiles of a forecast that knows of no events are
    multiplied by `factor`, and the quantiles' distances from the mean by `widening` too.
    """
    factor, widening = np.ones((len(batch), horizon)), np.ones((len(batch), horizon))
    ahead = list(occurrences(batch, calendar, batch.origin, batch.steps, batch.steps + horizon))
    if not ahead or not batch.steps:
        return factor, widening
    seen = read(batch, calendar, horizon)
    logs, variances = np.zeros((len(batch), horizon)), np.zeros((len(batch), horizon))
    for occurrence in ahead:
        expectation = seen.expectation(occurrence)
        effect = learnt.of(occurrence.pool, occurrence.event.name)
        mean, variance = effect.log_factor(expectation.likeness)
        own, own_variance = seen.deviations(occurrence.pool, learnt).own(occurrence.event.name)
        at = np.ix_(occurrence.rows, occurrence.steps - batch.steps)
        logs[at] += seen.by_step(occurrence, expectation, effect, mean + own)[occurrence.rows]
        variances[at] += (variance + own_variance)[np.ix_(occurrence.rows, seen.grid.phase[occurrence.steps])]
    factor = np.exp(np.clip(logs, -MOST, MOST))
    widening = np.minimum(np.sqrt(1.0 + variances / seen.noise.relative[:, None] ** 2), _WIDEST)
    return factor, widening
