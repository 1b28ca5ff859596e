"""A fleet's forecast: families of models, combined by their backtests, with calibrated quantiles.

`learn` takes what all series share from a sample of the fleet; `forecast` applies it to any batch. So a million series in
batches on many machines, and all of them at once in one process, give the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xxhash

from foreshard.forecast import calibration, combination
from foreshard.forecast.batch import Backtest, Batch, Family, Floats, Prediction, backtest_of
from foreshard.forecast.calibration import Calibration
from foreshard.forecast.combination import Blend
from foreshard.forecast.lags import LEAST_DAYS, steps_a_day
from foreshard.forecast.naive import Naive
from foreshard.forecast.spar import Spar

# More series do not change what a fleet has in common.
SAMPLED_SERIES = 2_000
FAMILIES: Mapping[str, Family] = {family.name: family for family in (Naive(), Spar())}
# Working arrays of a chunk stay within some MB, so that they fit the processor's cache.
_CHUNK_VALUES = 120_000


@dataclass(frozen=True)
class Options:
    """`horizon` in steps; `windows`: how many backtest windows at most; `families` by name."""

    horizon: int
    windows: int = 14
    country: str = ""
    seed: int = 0
    families: tuple[str, ...] = ("naive", "spar")


@dataclass(frozen=True)
class Fleet:
    """What all series of a fleet share; small and picklable. `learnt`: family → what it learnt."""

    learnt: Mapping[str, Any]
    calibration: Calibration


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
    return _learnt(sample, options)[0]


def forecast(batch: Batch, fleet: Fleet, options: Options) -> Forecasts:
    """The forecast of each series of a batch. A row depends on that row and on `fleet` alone."""
    return _forecasts(_blends(batch, fleet.learnt, options), fleet)


def forecast_all(batch: Batch, options: Options) -> Forecasts:
    """The forecast of a whole fleet in one process: the same as `learn` from its sample and `forecast`."""
    sample = sampled(batch.ids)
    fleet, blends = _learnt(batch.take(sample), options)
    if len(sample) < len(batch):
        return forecast(batch, fleet, options)
    made = _forecasts(blends, fleet)
    return _reordered(made, np.argsort(np.asarray(sample)))


def _backtest(batch: Batch, options: Options) -> Backtest:
    return backtest_of(batch, options.horizon, options.windows, LEAST_DAYS * steps_a_day(batch))


def _learnt(sample: Batch, options: Options) -> tuple[Fleet, list[Blend]]:
    backtest = _backtest(sample, options)
    learnt = {name: FAMILIES[name].learn(sample, backtest) for name in options.families}
    blends = _blends(sample, learnt, options)
    return Fleet(learnt, calibration.learn(_joined(blends))), blends


def _blends(batch: Batch, learnt: Mapping[str, Any], options: Options) -> list[Blend]:
    """Chunk by chunk, so that the working arrays stay small."""
    backtest = _backtest(batch, options)
    size = max(_CHUNK_VALUES // ((len(backtest.starts) + 1) * backtest.horizon), 1)
    chunks = [batch.take(range(first, min(first + size, len(batch)))) for first in range(0, len(batch), size)]
    return [combination.blend(chunk, backtest, _members(chunk, backtest, learnt, options)) for chunk in chunks]


def _members(batch: Batch, backtest: Backtest, learnt: Mapping[str, Any], options: Options) -> dict[str, Prediction]:
    found: dict[str, Prediction] = {}
    for name in options.families:
        found.update(FAMILIES[name].predict(batch, backtest, learnt[name]))
    return found


def _joined(blends: list[Blend]) -> Blend:
    def put(name: str, axis: int = 0) -> Floats:
        return np.concatenate([getattr(one, name) for one in blends], axis=axis)

    return Blend(blends[0].names, put("mean"), put("fitted"), put("errors"), put("weights", 1), put("spread"))


def _forecasts(blends: list[Blend], fleet: Fleet) -> Forecasts:
    parts = [calibration.quantiles(one, fleet.calibration) for one in blends]
    whole = _joined(blends)
    none = ("",) * len(whole.mean)
    return Forecasts(tuple(whole.described()), whole.mean, np.concatenate(parts, axis=1), whole.errors, none)


def _reordered(made: Forecasts, order: Any) -> Forecasts:
    return replace(
        made,
        model=tuple(made.model[i] for i in order),
        mean=made.mean[order],
        quantiles=made.quantiles[:, order],
        errors=made.errors[order],
        fallback_reason=tuple(made.fallback_reason[i] for i in order),
    )
