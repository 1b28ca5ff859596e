"""A fleet's forecast: families of models, combined by their backtests, with calibrated quantiles.

`learn` takes what all series share from a sample of the fleet; `forecast` applies it to any batch. So a million series in
batches on many machines, and all of them at once in one process, give the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from foreshard.errors import ForeshardError
from foreshard.forecast import adaptive, calibration, costlier, events, fallback, hygiene
from foreshard.forecast.batch import LEVELS, Backtest, Batch, Floats, Prediction, backtest_of
from foreshard.forecast.calendar import Calendar, Event, calendar_of, read_events
from foreshard.forecast.calibration import Calibration
from foreshard.forecast.combination import Blend
from foreshard.forecast.effects import Effects
from foreshard.forecast.fallback import Donors
from foreshard.forecast.families import DEFAULT, FAMILIES
from foreshard.forecast.hygiene import Bools, Cleaned
from foreshard.forecast.lags import LEAST_DAYS, steps_a_day

# More series do not change what a fleet has in common.
SAMPLED_SERIES = 2_000
# Working arrays of a chunk stay within some MB, so that they fit the processor's cache.
_CHUNK_VALUES = 120_000


@dataclass(frozen=True)
class Options:
    """`horizon` in steps; `windows`: how many backtest windows at most; `families` by name, of which the costlier ones join the
    series of `tried` (ids; None for all) where they pay; `country`, `zone` and `events` make the calendar; `levels_used`: where
    the curve of quantiles is read for each of LEVELS, as `adaptive` learnt it from forecasts that came true."""

    horizon: int
    windows: int = 14
    country: str = ""
    seed: int = 0
    families: tuple[str, ...] = DEFAULT
    zone: str = "UTC"
    events: tuple[Event, ...] = ()
    levels_used: tuple[float, ...] = LEVELS
    tried: frozenset[str] | None = None

    @property
    def is_costly(self) -> bool:
        """Whether costlier families are to join cheap ones."""
        return {FAMILIES[name].is_cheap for name in self.families} == {True, False}


def options_of(
    horizon: int,
    families: tuple[str, ...] = (),
    country: str = "",
    zone: str = "UTC",
    events: Path | None = None,
    seed: int = 0,
) -> Options:
    """Options as settings and commands give them: `families` empty for all that are cheap, `events` a CSV file.

    Raises ForeshardError for families that there are not and events that cannot be read.
    """
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise ForeshardError(f"unknown models {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    named = read_events(events, zone) if events else ()
    return Options(horizon, country=country, seed=seed, families=families or DEFAULT, zone=zone, events=named)


@dataclass(frozen=True)
class Fleet:
    """What all series of a fleet share; small and picklable. `learnt`: family → what it learnt; `outages`: the steps at which
    the whole fleet was out, shape (steps,)."""

    learnt: Mapping[str, Any]
    calibration: Calibration
    outages: Bools
    effects: Effects
    donors: Donors


@dataclass(frozen=True)
class Forecasts:
    """Per series: `model` says what was combined; `mean` (series, horizon); `quantiles` (levels, series, horizon); `errors`
    (actual − mean) of the backtest (series, windows, horizon), NaN where unknown; `fallback_reason`, empty if none."""

    model: tuple[str, ...]
    mean: Floats
    quantiles: Floats
    errors: Floats
    fallback_reason: tuple[str, ...]


def sampled(ids: tuple[str, ...]) -> list[int]:
    """The places of the at most SAMPLED_SERIES ids with the smallest hash, in that order."""
    order = sorted(range(len(ids)), key=lambda i: (xxhash.xxh64_intdigest(ids[i].encode()), ids[i]))
    return order[:SAMPLED_SERIES]


def learn(sample: Batch, options: Options) -> Fleet:
    """What the fleet has in common, from a sample of it."""
    return _learnt(sample.take(sampled(sample.ids)), options)[0]


def forecast(batch: Batch, fleet: Fleet, options: Options) -> Forecasts:
    """The forecast of each series of a batch. A row depends on that row and on `fleet` alone; no content of the values raises:
    a series that the families cannot forecast has a simpler forecast and the reason for it."""
    calendar = _calendar(batch, options)
    cleaned = hygiene.clean(batch, fleet.outages, _spared(batch, calendar))
    rows = [i for i, reason in enumerate(cleaned.reasons) if not reason]
    history = _fitted_history(cleaned, rows, calendar, fleet.effects)
    return _finished(cleaned, rows, _blends(history, fleet.learnt, options), fleet, calendar, options)


def forecast_all(batch: Batch, options: Options) -> Forecasts:
    """The forecast of a whole fleet in one process: the same as `learn` from its sample and `forecast`."""
    sample = sampled(batch.ids)
    fleet, cleaned, rows, blends = _learnt(batch.take(sample), options)
    if len(sample) < len(batch) or options.is_costly:
        return forecast(batch, fleet, options)
    made = _finished(cleaned, rows, blends, fleet, _calendar(batch, options), options)
    return _reordered(made, np.argsort(np.asarray(sample)))


def _learnt(sample: Batch, options: Options) -> tuple[Fleet, Cleaned, list[int], list[Blend]]:
    calendar = _calendar(sample, options)
    spared = _spared(sample, calendar)
    outages = hygiene.fleet_outages(sample, spared)
    cleaned = hygiene.clean(sample, outages, spared)
    rows = [i for i, reason in enumerate(cleaned.reasons) if not reason]
    healthy = cleaned.batch.take(rows)
    effects = events.learn(healthy, calendar) if spared is not None else Effects()
    history = _fitted_history(cleaned, rows, calendar, effects)
    backtest = _backtest(history, options)
    learnt = {name: FAMILIES[name].learn(history, backtest) for name in options.families}
    # What is learnt for all is learnt from the members that all have.
    blends = _blends(history, learnt, replace(options, tried=frozenset()))
    fleet = Fleet(learnt, calibration.learn(_joined(blends)), outages, effects, fallback.learn(history, options.horizon))
    return fleet, cleaned, rows, blends


def _calendar(batch: Batch, options: Options) -> Calendar:
    end = batch.origin + batch.step * options.horizon
    return _calendar_of(batch.start, end, options.country, options.zone, options.events)


@lru_cache(maxsize=8)
def _calendar_of(start: datetime, end: datetime, country: str, zone: str, named: tuple[Event, ...]) -> Calendar:
    return calendar_of(start, end, country, zone, named)


def _spared(batch: Batch, calendar: Calendar) -> Bools | None:
    """Where events explain what would look like an outage; None without any."""
    return events.covered(batch, calendar) if calendar.events else None


def _fitted_history(cleaned: Cleaned, rows: list[int], calendar: Calendar, effects: Effects) -> Batch:
    """What the families see of the series that they can forecast."""
    healthy = cleaned.batch.take(rows)
    return events.cleaned(healthy, calendar, effects) if calendar.events else healthy


def _backtest(batch: Batch, options: Options) -> Backtest:
    return backtest_of(batch, options.horizon, options.windows, LEAST_DAYS * steps_a_day(batch))


def _blends(batch: Batch, learnt: Mapping[str, Any], options: Options) -> list[Blend]:
    """The blends, chunk by chunk, so that the working arrays stay small."""
    backtest = _backtest(batch, options)
    size = max(_CHUNK_VALUES // ((len(backtest.starts) + 1) * backtest.horizon), 1)
    chunks = [batch.take(range(first, min(first + size, len(batch)))) for first in range(0, max(len(batch), 1), size)]
    return [_blend(chunk, backtest, learnt, options) for chunk in chunks]


def _blend(batch: Batch, backtest: Backtest, learnt: Mapping[str, Any], options: Options) -> Blend:
    cheap = [name for name in options.families if FAMILIES[name].is_cheap]
    members: dict[str, Prediction] = {}
    # Alone, a costlier family has nobody to join.
    for name in cheap or options.families:
        members.update(FAMILIES[name].predict(batch, backtest, learnt[name]))
    rest = {name: learnt[name] for name in options.families if cheap and name not in cheap}
    rows = [i for i, name in enumerate(batch.ids) if options.tried is None or name in options.tried] if rest else []
    return costlier.joined(batch, backtest, members, rest, rows)


def _joined(blends: list[Blend]) -> Blend:
    def put(name: str, axis: int = 0) -> Floats:
        return np.concatenate([getattr(one, name) for one in blends], axis=axis)

    return Blend(blends[0].names, put("mean"), put("fitted"), put("errors"), put("weights", 1), put("spread"))


def _finished(
    cleaned: Cleaned, rows: list[int], blends: list[Blend], fleet: Fleet, calendar: Calendar, options: Options
) -> Forecasts:
    """The blends' quantiles, the fallbacks of the other series, and what events do to all of them."""
    batch, whole = cleaned.batch, _joined(blends)
    mean, quantiles = fallback.forecast(batch, cleaned.reasons, options.horizon, fleet.donors)
    mean[rows] = whole.mean
    quantiles[:, rows] = np.concatenate([calibration.quantiles(one, fleet.calibration) for one in blends], axis=1)
    quantiles = adaptive.adapted(quantiles, options.levels_used)
    errors = np.full((len(batch), *whole.errors.shape[1:]), np.nan)
    errors[rows] = whole.errors
    if calendar.between(batch.origin, batch.origin + batch.step * options.horizon):
        factor, widening = events.lift(batch, options.horizon, calendar, fleet.effects)
        quantiles = np.maximum(factor * (mean + widening * (quantiles - mean)), 0.0)
        mean = mean * factor
    models = [f"fallback: {reason}" for reason in cleaned.reasons]
    for row, described in zip(rows, whole.described(), strict=True):
        models[row] = described
    return Forecasts(tuple(models), mean, quantiles, errors, cleaned.reasons)


def _reordered(made: Forecasts, order: Any) -> Forecasts:
    return replace(
        made,
        model=tuple(made.model[i] for i in order),
        mean=made.mean[order],
        quantiles=made.quantiles[:, order],
        errors=made.errors[order],
        fallback_reason=tuple(made.fallback_reason[i] for i in order),
    )
