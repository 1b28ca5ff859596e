"""What trees are told of each series, origin and step ahead: values of the same time before, recent levels, the calendar, and
what kind of series it is. All loads are in units of the series' own scale, so that one model serves every series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from foreshard.forecast import combination, lags, spar
from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction
from foreshard.forecast.lags import Lags
from foreshard.forecast.naive import LAST_VALUE, PROFILE, SEASONAL_NAIVE
from foreshard.forecast.spar import Coefficients, Spar

Singles = npt.NDArray[np.float32]

# How much the mean of the last hours is above the one so many days before.
_CHANGES = ((1, 1), (3, 1), (24, 1), (1, 7), (3, 7), (6, 7), (24, 7))
_NEIGHBOURS = (-2, -1, 1, 2)  # hours
_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    """Of a batch at each origin, the last at the end of the history; loads in units of `scale`, shape (series, 1, 1).

    `bases`: name → a forecast that trees correct, (series, origins, horizon). `loads`: what is compared with the base, and
    `other`: the rest, both (series, origins, horizon, features). `actual`: the windows, NaN where they cannot be judged.
    """

    scale: Floats
    bases: Mapping[str, Floats]
    loads: Singles
    other: Singles
    actual: Floats

    def rows(self, base: str, origins: npt.NDArray[np.intp]) -> Singles:
        """The features of some origins beside one base, shape (series, origins, horizon, features). No base is told of the
        others, so that their trees err apart and gain from being combined."""
        against = self.bases[base][:, origins, :, None].astype(np.float32)
        return np.concatenate([self.loads[:, origins] - against, against, self.other[:, origins]], axis=3)

    def target(self, base: str, origins: npt.NDArray[np.intp]) -> Floats:
        """How far the windows were above the base, shape (series, origins, horizon)."""
        above: Floats = self.actual[:, origins] - self.bases[base][:, origins]
        return above


def known(batch: Batch, backtest: Backtest, learnt: Coefficients) -> Known:
    """`learnt`: what SPAR learnt of the fleet. The blend at a window has not seen it."""
    found = lags.lags_of(batch, backtest)
    scale = spar.scale_of(found.values, found.day)
    found = Lags(found.values / scale[:, None], found.day, found.origins, found.horizon)
    unit = scale[:, None, None]
    blended = combination.blend(batch, backtest, _members(batch, backtest, learnt))
    blend = np.concatenate([blended.fitted, blended.mean[:, None]], axis=1) / unit
    shape = blend.shape
    other = [found.spread(change) for change in _changes(found)]
    other += [blended.spread / unit, *_calendar(batch, found, shape)]
    other += [np.broadcast_to(kind[:, None, None], shape) for kind in _kinds(found)]
    actual = np.where(lags.known_windows(batch, backtest), backtest.windows(found.values), np.nan)
    bases = {"blend": blend, "yesterday": found.days_before(1)}
    return Known(unit, bases, _stacked(_loads(found), shape), _stacked(other, shape), actual)


def _members(batch: Batch, backtest: Backtest, learnt: Coefficients) -> dict[str, Prediction]:
    """What the blend is of: the families that need no extra."""
    members = dict(Spar().predict(batch, backtest, learnt))
    for naive in (SEASONAL_NAIVE, PROFILE, LAST_VALUE):
        members.update(naive.predict(batch, backtest, None))
    return members


def _stacked(columns: list[Floats], shape: tuple[int, ...]) -> Singles:
    stacked = np.empty((*shape, len(columns)), dtype=np.float32)
    for number, column in enumerate(columns):
        stacked[..., number] = column
    return stacked


def _loads(found: Lags) -> list[Floats]:
    """Days and weeks before, their neighbours, and the last hours' mean; last the mean of the history."""
    hour, day = max(found.day // 24, 1), found.day
    week, yesterday = found.last_week, found.days_before(1)
    columns = [week, *found.earlier_weeks, yesterday, found.daily_mean]
    columns += [found.days_before(count, instead=week) for count in (2, 3)]
    columns += [found.days_before(count, instead=found.daily_mean) for count in (4, 5, 6)]
    for hours in _NEIGHBOURS:
        shift = min(hours * hour, day)  # later than a day before would not be known yet
        columns += [found.days_before(1, shift, yesterday), found.weeks_before(1, shift, week)]
    columns += [found.spread(found.level(span)) for span in (hour, 3 * hour, day)]
    return [*columns, np.broadcast_to(found.values.mean(axis=1)[:, None, None], week.shape)]


def _changes(found: Lags) -> list[Floats]:
    hour = max(found.day // 24, 1)
    return [found.change(found.day if hours == 24 else hours * hour, found.day * days) for hours, days in _CHANGES]


def _calendar(batch: Batch, found: Lags, shape: tuple[int, ...]) -> list[Floats]:
    """The step ahead, and the time of the day and the day of the week (UTC) of the time forecast."""
    ahead = np.arange(found.horizon)
    at = (batch.start - _MONDAY) / batch.step + found.origins[:, None] + ahead
    hour = np.floor(at % found.day * (24 / found.day))
    weekday = np.floor(at / found.day) % 7
    return [np.broadcast_to(column, shape) for column in (ahead.astype(np.float64), hour, weekday)]


def _kinds(found: Lags) -> list[Floats]:
    """The level and the scatter of each series, and how alike it is to itself a day, a week and a step before."""
    level, spread = np.abs(found.values).mean(axis=1), found.values.std(axis=1)
    alike = [_alike(found.values, apart) for apart in (found.day, found.week, 1)]
    return [np.log1p(level), spread / np.maximum(level, 1e-9), *alike]


def _alike(values: Floats, apart: int) -> Floats:
    """The correlation with the same series `apart` steps before; 0 where the history is too short; shape (series,)."""
    if values.shape[1] < 2 * apart:
        return np.zeros(len(values))
    later, earlier = values[:, apart:], values[:, :-apart]
    later, earlier = later - later.mean(axis=1, keepdims=True), earlier - earlier.mean(axis=1, keepdims=True)
    size = np.sqrt((later**2).sum(axis=1) * (earlier**2).sum(axis=1))
    alike: Floats = (later * earlier).sum(axis=1) / np.maximum(size, 1e-9)
    return alike
