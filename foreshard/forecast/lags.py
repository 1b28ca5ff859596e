"""What was known at each of several origins about the steps after it: values a day or a week before, and recent levels.

An origin is a step of the history; a forecast from it covers the steps origin … origin + horizon − 1. Beyond a season the
newest season that was known is taken again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import DAY, Backtest, Batch, Floats

# Less than this before an origin says nothing about a day's course.
LEAST_DAYS = 3
_DAYS_AVERAGED = 7


@dataclass(frozen=True)
class Lags:
    """`values`: histories without gaps, shape (series, steps); `day`: steps a day; results are (series, origins, horizon)."""

    values: Floats
    day: int
    origins: npt.NDArray[np.intp]
    horizon: int

    @property
    def week(self) -> int:
        return 7 * self.day

    @cached_property
    def _ahead(self) -> npt.NDArray[np.intp]:
        return np.arange(self.horizon)

    @cached_property
    def _sums(self) -> Floats:
        sums = np.zeros((self.values.shape[0], self.values.shape[1] + 1))
        np.cumsum(self.values, axis=1, out=sums[:, 1:])
        return sums

    def before(self, season: int, count: int, shift: int = 0, instead: Floats | None = None) -> Floats:
        """The value `count` seasons before each step (whole seasons not yet known come on top), `shift` steps later.

        Where the history does not reach, `instead`, or NaN.
        """
        back = season * (self._ahead // season + count)
        index = self.origins[:, None] + self._ahead - back + shift
        # A neighbour that had not come yet is stood in for by the one a season earlier.
        index = np.where(index >= self.origins[:, None], index - season, index)
        found = self.values[:, np.maximum(index, 0)]
        beyond = index < 0
        if beyond.any():
            found[:, beyond] = np.nan if instead is None else instead[:, beyond]
        return found

    def days_before(self, count: int, shift: int = 0, instead: Floats | None = None) -> Floats:
        return self.before(self.day, count, shift, instead)

    def weeks_before(self, count: int, shift: int = 0, instead: Floats | None = None) -> Floats:
        return self.before(self.week, count, shift, instead)

    @cached_property
    def daily_mean(self) -> Floats:
        """The mean over the last days, as many of seven as are known, at the same time of the day."""
        return self._mean_of_seasons(self.day, _DAYS_AVERAGED)

    @cached_property
    def last_week(self) -> Floats:
        """The value a week before; the daily mean while there is no week."""
        return self.weeks_before(1, instead=self.daily_mean)

    @cached_property
    def earlier_weeks(self) -> tuple[Floats, Floats]:
        """The values two and three weeks before, each stood in for by the week after it while the history is too short."""
        second = self.weeks_before(2, instead=self.last_week)
        return second, self.weeks_before(3, instead=second)

    @cached_property
    def weekly_mean(self) -> Floats:
        """The mean of the last three weeks, as many as are known, at the same time of the week."""
        total, count = self.last_week.copy(), np.ones(self.last_week.shape[1:])
        for number in (2, 3):
            known = self._reached(self.week, number)
            total[:, known] += self.weeks_before(number)[:, known]
            count += known
        total /= count
        return total

    def _mean_of_seasons(self, season: int, most: int) -> Floats:
        known = sum(self._reached(season, number).astype(np.float64) for number in range(1, most + 1))
        total = sum(self.before(season, number, instead=self._zeros) for number in range(1, most + 1))
        mean: Floats = total / np.maximum(known, 1)
        return mean

    @cached_property
    def _zeros(self) -> Floats:
        return np.zeros((self.values.shape[0], len(self.origins), self.horizon))

    def _reached(self, season: int, count: int) -> npt.NDArray[np.bool_]:
        reached: npt.NDArray[np.bool_] = self.origins[:, None] + self._ahead >= season * (self._ahead // season + count)
        return reached

    def level(self, span: int) -> Floats:
        """The mean of the last `span` steps before each origin, shape (series, origins)."""
        return self._mean(span, 0)

    def change(self, span: int, season: int) -> Floats:
        """How much that mean is above the one a season before; 0 where the history does not reach; (series, origins)."""
        return np.nan_to_num(self._mean(span, 0) - self._mean(span, season))

    def _mean(self, span: int, shift: int) -> Floats:
        first, end = self.origins - shift - span, self.origins - shift
        mean = (self._sums[:, np.maximum(end, 0)] - self._sums[:, np.maximum(first, 0)]) / span
        mean[:, first < 0] = np.nan
        return mean

    def spread(self, per_origin: Floats) -> Floats:
        """(series, origins) as (series, origins, horizon), the same at every step."""
        return np.broadcast_to(per_origin[:, :, None], (*per_origin.shape, self.horizon))


def steps_a_day(batch: Batch) -> int:
    """At least 1: a series of days or longer steps has a week of seven steps."""
    return max(batch.steps_per(DAY), 1)


def lags_of(batch: Batch, backtest: Backtest) -> Lags:
    """The lags at the origins of the backtest and, last, at the end of the history."""
    origins = np.array([*backtest.starts, batch.steps], dtype=np.intp)
    day = steps_a_day(batch)
    return Lags(filled(batch.values, day), day, origins, backtest.horizon)


def filled(values: Floats, day: int) -> Floats:
    """Gaps stood in for by the same time of the week before, the day before, the next day or the series' mean; 0 if all is
    unknown. A series without gaps is returned as it is."""
    gaps = np.isnan(values)
    if not gaps.any():
        return values
    whole = values.copy()
    steps = values.shape[1]
    for shift in (7 * day, day, -day, -7 * day):
        # From the side that the values come from, so that what was filled fills on.
        for first in range(0, steps, abs(shift)) if shift > 0 else range(steps - 1, -1, shift):
            _fill(whole, first, shift, steps)
    rest = np.isnan(whole)
    if rest.any():
        known = (~gaps).sum(axis=1)
        mean = np.where(gaps, 0.0, values).sum(axis=1) / np.maximum(known, 1)
        whole[rest] = np.broadcast_to(mean[:, None], whole.shape)[rest]
    return whole


def _fill(whole: Floats, first: int, shift: int, steps: int) -> None:
    """One block of |shift| steps from the block before it (or after it, if shift is negative)."""
    low, high = (first, min(first + shift, steps)) if shift > 0 else (max(first + shift + 1, 0), first + 1)
    source_low, source_high = low - shift, high - shift
    cut = max(-source_low, 0)
    low, source_low = low + cut, source_low + cut
    over = max(source_high - steps, 0)
    high, source_high = high - over, source_high - over
    if high > low:
        block, source = whole[:, low:high], whole[:, source_low:source_high]
        np.copyto(block, source, where=np.isnan(block))


def known_windows(batch: Batch, backtest: Backtest) -> npt.NDArray[np.bool_]:
    """Which steps of the windows can be judged: known, and with LEAST_DAYS of the series before the window.

    Shape (series, windows, horizon).
    """
    known = ~np.isnan(batch.values)
    first = np.where(known.any(axis=1), known.argmax(axis=1), batch.steps)
    enough = np.asarray(backtest.starts)[None, :] - first[:, None] >= LEAST_DAYS * steps_a_day(batch)
    judged: npt.NDArray[np.bool_] = ~np.isnan(backtest.windows(batch.values)) & enough[:, :, None]
    return judged
