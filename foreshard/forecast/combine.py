"""A shard's forecast: Prophet and the seasonal naive weighed by their backtests, with quantiles from the backtest's errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from foreshard.forecast import prophet_model, seasonal_naive
from foreshard.forecast.series import LEVELS, Floats, Forecast, Series

# Days held out in turn; each costs one more fit of Prophet.
FOLDS = 2


@dataclass(frozen=True)
class Options:
    """What a forecast may use. `models`: any of prophet, seasonal_naive."""

    horizon: int
    country: str = ""
    seed: int = 0
    models: tuple[str, ...] = (prophet_model.NAME, seasonal_naive.NAME)


def forecast(series: Series, options: Options) -> Forecast:
    """The forecast of one series. Never raises for its content: a model that fails is left out, and the reason is named."""
    short = _too_short(series)
    if short:
        return _naive_only(series, options, short)
    try:
        made = _combined(series, options)
        if np.isfinite(made.mean).all() and np.isfinite(made.quantiles).all():
            return made
        return _naive_only(series, options, "the models' forecast is not finite")
    except Exception as error:
        # One bad shard must not stop the fleet; what the library said goes with the fallback.
        return _naive_only(series, options, f"{prophet_model.NAME} failed: {type(error).__name__}: {str(error)[:160]}")


def _too_short(series: Series) -> str:
    if not np.isfinite(series.values).all():
        return "the history has values that are not finite"
    if len(series.values) < series.steps_per(timedelta(days=prophet_model.MINIMUM_DAYS)):
        return f"less than {prophet_model.MINIMUM_DAYS} days of history"
    if float(np.ptp(series.values)) == 0.0:
        return "the history is constant"
    return ""


def _combined(series: Series, options: Options) -> Forecast:
    day = max(series.steps_per(timedelta(days=1)), 1)
    known = [series.before(day * fold) for fold in range(FOLDS, 0, -1)]
    actual = [series.values[len(past.values) : len(past.values) + day] for past in known]
    means, errors = {}, {}
    for name in options.models:
        means[name] = _predict(name, series, options.horizon, options)
        backtest = [_predict(name, past, day, options) for past in known]
        errors[name] = np.concatenate([a - b for a, b in zip(actual, backtest, strict=True)])
    # Inverse square of the backtest error: the best linear weights for independent errors.
    floor = 1e-12 + 1e-3 * float(np.mean(series.values**2))
    raw = {name: 1.0 / (float(np.mean(e**2)) + floor) for name, e in errors.items()}
    weights = {name: w / sum(raw.values()) for name, w in raw.items()}
    mean = np.sum([weights[n] * means[n] for n in options.models], axis=0)
    blended = np.sum([weights[n] * errors[n] for n in options.models], axis=0)
    level = np.concatenate(actual) - blended
    named = "+".join(f"{weights[n]:.2f} {n}" for n in options.models) if len(options.models) > 1 else options.models[0]
    return Forecast(named, mean, _quantiles(mean, blended, level), blended)


def _predict(name: str, series: Series, horizon: int, options: Options) -> Floats:
    if name == prophet_model.NAME:
        return prophet_model.predict(series, horizon, options.country, options.seed)
    return seasonal_naive.predict(series, horizon)


def _quantiles(mean: Floats, errors: Floats, level: Floats) -> Floats:
    """Mean plus the errors' quantiles, both scaled by the square root of the level, as counts scatter; never below zero."""
    if not len(errors):
        return np.tile(mean, (len(LEVELS), 1))
    floor = max(float(np.mean(np.abs(level))) * 0.05, 1e-9)
    scaled = np.sort(errors / np.sqrt(np.maximum(level, floor)))
    # With few errors the extreme quantiles are beyond the sample: (n + 1) · p as in split conformal prediction, and past
    # its ends a normal tail of the same spread.
    spread = float(np.sqrt(np.mean(scaled**2)))
    tails = np.array([_conformal(scaled, p, spread) for p in LEVELS])
    rows = mean[None, :] + tails[:, None] * np.sqrt(np.maximum(mean, floor))[None, :]
    return np.maximum(np.maximum.accumulate(rows, axis=0), 0.0)


_NORMAL = {0.05: -1.645, 0.10: -1.282, 0.50: 0.0, 0.90: 1.282, 0.95: 1.645, 0.99: 2.326}


def _conformal(ordered: Floats, p: float, spread: float) -> float:
    position = p * (len(ordered) + 1) - 1
    if 0 <= position <= len(ordered) - 1:
        return float(np.interp(position, np.arange(len(ordered)), ordered))
    edge = float(ordered[0] if p < 0.5 else ordered[-1])
    tail = _NORMAL[p] * spread
    return min(edge, tail) if p < 0.5 else max(edge, tail)


def _naive_only(series: Series, options: Options, reason: str) -> Forecast:
    clean = Series(series.start, series.step, np.where(np.isfinite(series.values), series.values, 0.0))
    day = max(series.steps_per(timedelta(days=1)), 1)
    mean = seasonal_naive.predict(clean, options.horizon)
    errors = np.zeros(0)
    level = np.zeros(0)
    if len(clean.values) > day:
        past = clean.before(day)
        errors = clean.values[-day:] - seasonal_naive.predict(past, day)
        level = clean.values[-day:] - errors
    return Forecast(seasonal_naive.NAME, mean, _quantiles(mean, errors, level), errors, reason)
