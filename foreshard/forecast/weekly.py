"""What a robust weekly profile expects: the load at the same local time of the weeks around, without what events did to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.forecast.batch import DAY, Floats

Ints = npt.NDArray[np.intp]
# The local day is split into this many phases: night, morning, afternoon, evening.
PHASES = 4
WEEKS_AROUND = 4
# The variance of the logarithm of a phase's load where there is too little history to tell.
_UNKNOWN = 0.25


@dataclass(frozen=True)
class LocalGrid:
    """The local time of steps, each an array of shape (steps,): `weekday` (Monday is 0), `phase` of the day, `day` (a number
    that grows) and `shift`, the zone's offset from UTC in steps. `per_day`: steps a day."""

    weekday: Ints
    phase: Ints
    day: Ints
    shift: Ints
    per_day: int

    def __len__(self) -> int:
        return len(self.shift)


def has_weeks(step: timedelta) -> bool:
    """Whether the same time of another day is on the grid too."""
    return timedelta(0) < step <= DAY and DAY % step == timedelta(0)


def local_grid(start: datetime, step: timedelta, count: int, zone: str) -> LocalGrid:
    """The local time in `zone` of `count` steps from `start` (UTC)."""
    times = pd.date_range(start.astimezone(UTC), periods=count, freq=pd.Timedelta(step))
    local = times.tz_convert(zone).tz_localize(None)
    offset = (local - times.tz_localize(None)) / pd.Timedelta(step)
    of_day = (local - local.normalize()) / pd.Timedelta(DAY)
    number = (local.normalize() - pd.Timestamp(0)) // pd.Timedelta(DAY)
    return LocalGrid(
        np.asarray(local.weekday, dtype=np.intp),
        np.minimum((np.asarray(of_day) * PHASES).astype(np.intp), PHASES - 1),
        np.asarray(number, dtype=np.intp),
        np.rint(np.asarray(offset)).astype(np.intp),
        int(DAY / step),
    )


def same_time(grid: LocalGrid, steps: Ints, days: Ints) -> Ints:
    """The steps at the same local time `days` days after `steps`, shape of both broadcast; some may lie outside the grid."""
    moved = steps + days * grid.per_day
    # Where clocks were changed in between, the same local time is an hour off.
    inside = np.clip(moved, 0, len(grid) - 1)
    local: Ints = moved - (grid.shift[inside] - grid.shift[steps])
    return local


def expected(values: Floats, grid: LocalGrid, steps: Ints, weekday: int | None = None) -> Floats:
    """The load expected at `steps` from the weeks around them, or what it would be were they that `weekday`; NaN where no week
    says.

    `values`: shape (series, steps known), NaN where events are. `steps` may lie after them. Returns (series, len(steps)): the
    mean of the weeks without their highest and lowest quarters.
    """
    weeks = 7 * np.arange(-WEEKS_AROUND, WEEKS_AROUND + 1, dtype=np.intp)[:, None]
    days = weeks if weekday is None else weeks - (grid.weekday[steps] - weekday) % 7
    found = same_time(grid, steps, days)
    is_known = (found >= 0) & (found < values.shape[1]) & (found != steps)
    used = is_known.any(axis=1)
    if not used.any():
        return np.full((len(values), len(steps)), np.nan)
    found, is_known = found[used], is_known[used]
    samples = values[:, np.where(is_known, found, 0)]
    samples[:, ~is_known] = np.nan
    return trimmed_mean(samples)


def trimmed_mean(samples: Floats) -> Floats:
    """The mean over axis 1 without the highest and the lowest quarter, of three without both; NaN are left out, and NaN where
    nothing is left."""
    ordered = np.sort(samples, axis=1)  # NaN last
    count = np.isfinite(ordered).sum(axis=1, keepdims=True)
    cut = np.where(count == 3, 1, count // 4)
    place = np.arange(ordered.shape[1]).reshape(1, -1, *[1] * (ordered.ndim - 2))
    is_kept = (place >= cut) & (place < count - cut)
    kept = is_kept.sum(axis=1)
    total = np.where(is_kept, ordered, 0.0).sum(axis=1)
    mean: Floats = np.divide(total, kept, out=np.full(total.shape, np.nan), where=kept > 0)
    return mean


@dataclass(frozen=True)
class Noise:
    """How series scatter from week to week. `floor`, `variance`: shape (series, phases): what is added to the load of a phase
    before its logarithm is taken, and the variance of that logarithm. `relative`: shape (series,): one step's deviation by its
    level."""

    floor: Floats
    variance: Floats
    relative: Floats


def noise(values: Floats, grid: LocalGrid) -> Noise:
    """The scatter of the last eight weeks of `values` (series, steps; NaN where events are) from week to week, or from day to
    day while there are not two weeks."""
    recent = min(values.shape[1], 2 * WEEKS_AROUND * 7 * grid.per_day)
    first = values.shape[1] - recent
    values, day, phase = values[:, first:], grid.day[first : first + recent], grid.phase[first : first + recent]
    lag = 7 if recent >= 14 * grid.per_day else 1
    sums = _sums(values, day - day[0], phase)
    level = _mean(sums, axis=1)
    scatter = _mean(np.abs(sums[:, lag:] - sums[:, :-lag]), axis=1) * np.sqrt(np.pi) / 2
    floor = 0.5 * scatter + 0.01 * level + 1e-9
    logs = np.log(sums + floor[:, None, :])
    changes = np.abs(logs[:, lag:] - logs[:, :-lag])
    variance = (_mean(changes, axis=1) * np.sqrt(np.pi) / 2) ** 2
    variance[np.isfinite(changes).sum(axis=1) < 2] = _UNKNOWN
    steps = lag * grid.per_day
    deviation = _mean(np.abs(values[:, steps:] - values[:, :-steps]), axis=1) * np.sqrt(np.pi) / 2
    return Noise(floor, np.maximum(variance, 1e-4), np.clip(deviation / (_mean(values, axis=1) + 1e-9), 0.03, 3.0))


def _sums(values: Floats, day: Ints, phase: Ints) -> Floats:
    """The load of each phase of each day, shape (series, days, phases); NaN where any of its steps is."""
    # Clocks put back at midnight would begin a day twice.
    cell = np.maximum.accumulate(day * PHASES + phase)
    firsts = np.flatnonzero(np.diff(cell, prepend=cell[0] - 1))
    sizes = np.diff(firsts, append=len(cell))
    sums = np.full((len(values), (int(day.max()) + 1) * PHASES), np.nan)
    # The days at the ends may be cut.
    is_whole = sizes >= np.median(sizes)
    sums[:, cell[firsts[is_whole]]] = np.add.reduceat(values, firsts, axis=1)[:, is_whole]
    return sums.reshape(len(values), -1, PHASES)


def _mean(values: Floats, axis: int) -> Floats:
    is_known = np.isfinite(values)
    count = is_known.sum(axis=axis)
    mean: Floats = np.where(is_known, values, 0.0).sum(axis=axis) / np.maximum(count, 1)
    return mean
