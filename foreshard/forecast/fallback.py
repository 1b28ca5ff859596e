"""Forecasts of the series that no family can forecast: new shards from donors, dead and constant ones from what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreshard.forecast.batch import DAY, LEVELS, NORMAL, Batch, Floats
from foreshard.forecast.hygiene import CONSTANT, DEAD, NEW, SPARSE
from foreshard.forecast.weekly import Ints, has_weeks, trimmed_mean

# How many days of a new shard are used, and how many of the newest for its level.
_OWN_DAYS = 6
_LEVEL_DAYS = 2
# The histories, in days, for which donors' errors are kept apart: the fewer days, the wider.
_LENGTHS = (0.25, 1.0, 3.0, 6.0)
# A dead shard may be used again: what its highest quantiles keep of its former load.
_ASLEEP = 0.01
_NORMAL = np.array(NORMAL)


@dataclass(frozen=True)
class Donors:
    """What shards with a history lend to new ones.

    `profile`: their load by step of the week (from Monday 00:00 UTC), its mean 1, shape (steps of a week,). `change`: their
    daily change, the mean difference from the day before, by their level. `quantiles`: of the errors a forecast from donors
    made on them after so many days (_LENGTHS), by their own daily change, shape (lengths, levels). `errors`: the same errors,
    ascending, shape (lengths, 199): their quantiles at 0.005, 0.01, … 0.995.
    """

    profile: Floats
    change: float
    quantiles: Floats
    errors: Floats


def learn(sample: Batch, horizon: int) -> Donors:
    """The donors of a fleet, from cleaned series that families can forecast. Of too few or too short ones little is lent: a
    flat week and normal errors."""
    day = _day(sample)
    week = 7 * day
    flat = Donors(np.ones(week), 0.25, np.tile(_NORMAL * 1.5, (len(_LENGTHS), 1)), np.zeros((len(_LENGTHS), 199)))
    slots = _slots(sample, 0, sample.steps)
    if not len(sample) or sample.steps < week + (_OWN_DAYS + 1) * day + horizon:
        return flat
    profile = _weekly_profile(sample.values, slots, week)
    level = _mean(sample.values)
    change = _mean(np.abs(sample.values[:, day:] - sample.values[:, :-day])) / np.maximum(level, 1e-300)
    usual = float(np.median(change[level > 0])) if (level > 0).any() else flat.change
    lent = Donors(profile, usual, flat.quantiles, flat.errors)
    grid = np.linspace(0.005, 0.995, flat.errors.shape[1])
    errors, quantiles = np.empty_like(flat.errors), np.empty_like(flat.quantiles)
    for i, days in enumerate(_LENGTHS):
        tried = [
            _tried(sample, slots, sample.steps - horizon - back * day, max(int(days * day), 1), horizon, lent)
            for back in range(7)
        ]
        known = np.concatenate([t[np.isfinite(t)] for t in tried])
        errors[i] = np.quantile(known, grid) if len(known) else np.quantile(_NORMAL, grid)
        quantiles[i] = np.quantile(known, LEVELS) if len(known) else flat.quantiles[i]
    return Donors(profile, usual, quantiles, errors)


def forecast(batch: Batch, reasons: Sequence[str], horizon: int, donors: Donors) -> tuple[Floats, Floats]:
    """(mean, quantiles) of the next `horizon` steps of a cleaned batch, shapes (series, horizon) and (levels, series,
    horizon); NaN for the series without a reason."""
    mean = np.full((len(batch), horizon), np.nan)
    quantiles = np.full((len(LEVELS), len(batch), horizon), np.nan)
    named = np.array(reasons, dtype=object)
    known = named != ""
    mean[known], quantiles[:, known] = 0.0, 0.0
    dead = named == DEAD
    former = _mean(batch.values[dead])
    for i, level in enumerate(LEVELS):
        if level >= 0.95:
            quantiles[i, dead] = (_ASLEEP * former)[:, None]
    same = named == CONSTANT
    mean[same] = _mean(batch.values[same])[:, None]
    quantiles[:, same] = mean[same]
    new = np.flatnonzero((named == NEW) | (named == SPARSE))
    if len(new):
        mean[new], quantiles[:, new] = _from_donors(batch.take(new), horizon, donors)
    return mean, quantiles


def _from_donors(batch: Batch, horizon: int, donors: Donors) -> tuple[Floats, Floats]:
    day = _day(batch)
    slots = _slots(batch, 0, batch.steps + horizon)
    mean, scale = _lent(batch.values, slots, horizon, day, donors)
    days = np.isfinite(batch.values[:, -_OWN_DAYS * day :]).sum(axis=1) / day
    length = np.maximum(np.searchsorted(_LENGTHS, days + 1e-9, side="right") - 1, 0)
    quantiles = mean + donors.quantiles[length].T[:, :, None] * scale
    return mean, np.maximum(np.maximum.accumulate(quantiles, axis=0), 0.0)


def _lent(values: Floats, slots: Ints, horizon: int, day: int, donors: Donors) -> tuple[Floats, Floats]:
    """Own level × donors' week, bent to the own days as far as there are any: (mean, scale of its errors), shape (series,
    horizon).

    `slots`: the step of the week of each step of the history and of the horizon.
    """
    steps = values.shape[1]
    is_known = np.isfinite(values)
    # The newest known days tell the level, however long ago they were.
    newest = is_known & (np.cumsum(is_known[:, ::-1], axis=1)[:, ::-1] <= _LEVEL_DAYS * day)
    usual, ahead = donors.profile[slots[:steps]], donors.profile[slots[steps : steps + horizon]]
    level = np.where(newest, values, 0.0).sum(axis=1) / np.maximum((newest * usual).sum(axis=1), 1e-12)
    recent = min(steps, _OWN_DAYS * day)
    values, is_known, usual = values[:, steps - recent :], is_known[:, steps - recent :], usual[steps - recent :]
    own = np.where(is_known, values, 0.0)
    hour = (np.arange(recent + horizon) - recent) % day
    of_hour = np.zeros((recent, day))
    of_hour[np.arange(recent), hour[:recent]] = 1.0
    one_day = donors.profile.reshape(-1, day).mean(axis=0)[(slots[steps] + np.arange(day)) % day]
    prior = level[:, None] * one_day + 1e-12
    bend = (own @ of_hour + prior) / ((is_known * usual * level[:, None]) @ of_hour + prior)
    mean = level[:, None] * ahead * bend[:, hour[recent:]]
    change = np.abs(values[:, day:] - values[:, :-day])
    count = np.isfinite(change).sum(axis=1)
    total = np.where(np.isfinite(change), change, 0.0).sum(axis=1) + day * donors.change * level
    scale = (total / (count + day))[:, None] * np.sqrt(mean / np.maximum(level, 1e-12)[:, None])
    return mean, scale


def _tried(sample: Batch, slots: Ints, origin: int, length: int, horizon: int, lent: Donors) -> Floats:
    """The errors of forecasts from donors at `origin` as if the sample had begun `length` steps before it, by their scale."""
    day = _day(sample)
    known = sample.values[:, origin - length : origin]
    mean, scale = _lent(known, slots[origin - length : origin + horizon], horizon, day, lent)
    errors: Floats = sample.values[:, origin : origin + horizon] - mean
    return np.divide(errors, scale, out=np.full_like(errors, np.nan), where=scale > 0)


def _slots(batch: Batch, first: int, last: int) -> Ints:
    """The step of the week, from Monday 00:00 UTC, of the steps from `first` to `last`."""
    monday = batch.start.replace(hour=0, minute=0, second=0, microsecond=0) - batch.start.weekday() * DAY
    return np.asarray(((batch.start - monday) // batch.step + np.arange(first, last)) % (7 * _day(batch)), dtype=np.intp)


def _weekly_profile(values: Floats, slots: Ints, week: int) -> Floats:
    """The mean week of series of at least a week, each scaled to a mean of 1, shape (week,)."""
    weeks = values.shape[1] // week
    newest = values[:, values.shape[1] - weeks * week :]
    own = trimmed_mean(newest.reshape(len(values), weeks, week))
    level = _mean(own)
    scaled = own[level > 0] / level[level > 0, None]
    mean = trimmed_mean(scaled[None, :, :])[0] if len(scaled) else np.ones(week)
    mean = np.where(np.isfinite(mean), mean, 1.0)
    profile = np.ones(week)
    profile[slots[values.shape[1] - week :]] = mean
    return np.asarray(np.maximum(profile / profile.mean(), 1e-3), dtype=np.float64)


def _day(batch: Batch) -> int:
    """Steps a day; 1 where days are no whole number of steps and say nothing."""
    return int(DAY / batch.step) if has_weeks(batch.step) else 1


def _mean(values: Floats) -> Floats:
    """Of each row, without NaN; 0 for a row of NaN."""
    is_known = np.isfinite(values)
    mean: Floats = np.where(is_known, values, 0.0).sum(axis=1) / np.maximum(is_known.sum(axis=1), 1)
    return mean
