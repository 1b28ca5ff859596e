"""Batches of drawn loads: cycles of a day and a week, a trend that turns, and scatter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from foreshard.forecast.batch import Batch, Floats

START = datetime(2024, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def loads(series: int, steps: int = 504, seed: int = 0) -> Floats:
    """Hourly, positive, shape (series, steps)."""
    draw = np.random.default_rng(seed)
    hours = np.arange(steps)
    level = draw.lognormal(3.0, 1.5, (series, 1))
    daily = draw.uniform(0.1, 0.6, (series, 1)) * np.sin(2 * np.pi * (hours / 24 + draw.random((series, 1))))
    weekly = draw.uniform(0.0, 0.3, (series, 1)) * np.sin(2 * np.pi * (hours / 168 + draw.random((series, 1))))
    turn = draw.integers(steps // 5, 4 * steps // 5, (series, 1))
    trend = draw.normal(0.0, 0.3, (series, 1)) * hours / steps
    trend = trend + draw.normal(0.0, 1.0, (series, 1)) * np.maximum(hours - turn, 0) / steps
    scatter = draw.uniform(0.02, 0.2, (series, 1)) * draw.normal(size=(series, steps))
    made: Floats = level * np.maximum(1.5 + daily + weekly + trend + scatter, 0.01)
    return made


def batch(values: Floats, **regressors: Floats) -> Batch:
    return Batch(tuple(f"s{i}" for i in range(len(values))), START, HOUR, values, regressors)
