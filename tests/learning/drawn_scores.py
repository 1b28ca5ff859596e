"""Scores as forecast_score has them: drawn loads, forecasts every few hours that know their spread or not, and the naive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from foreshard.forecast.batch import LEVELS, Floats
from foreshard.learning.evaluation import QUANTILES

START = datetime(2026, 3, 2, tzinfo=UTC)
# z of each level, of normal errors.
PLACES = dict(zip(LEVELS, (-1.6449, -1.2816, 0.0, 1.2816, 1.6449, 2.3263), strict=True))
MODELS = ("0.61 spar+0.39 weekly_mean", "0.55 weekly_mean+0.45 spar", "spar", "fallback: less than 2 days of history")


def loads(days: int, shards: int, seed: int, spread: float = 0.1) -> tuple[Floats, Floats]:
    """(expected, actual), each of shape (shards, hours); shard 0 is silent."""
    draw = np.random.default_rng(seed)
    hours = np.arange(24 * days)
    level = draw.uniform(5, 50, (shards, 1)) * (np.arange(shards)[:, None] > 0)
    expected = level * (1 + 0.5 * np.sin(2 * np.pi * (hours + draw.integers(0, 24, (shards, 1))) / 24))
    return expected, np.maximum(expected + spread * level * draw.standard_normal(expected.shape), 0.0)


def drawn_scores(days: int = 10, shards: int = 6, seed: int = 1, declared: float = 0.1, every: int = 6) -> pd.DataFrame:
    """Forecasts of 24 hours from every `every`-th hour on; errors are 10 % of the level, quantiles say `declared`."""
    expected, actual = loads(days, shards, seed)
    level = expected.mean(axis=1)
    rows = []
    for origin in range(0, 24 * days - 24 + 1, every):
        for shard in range(shards):
            for step in range(24):
                hour = origin + step
                at = START + timedelta(hours=hour)
                mean = expected[shard, hour]
                row = {"shard_id": shard, "interval_start": at, "origin": START + timedelta(hours=origin)}
                row |= {
                    "model": MODELS[shard % len(MODELS)],
                    "horizon_steps": step + 1,
                    "actual": actual[shard, hour],
                    "mean": mean,
                }
                row |= {
                    name: max(mean + declared * level[shard] * PLACES[q], 0.0)
                    for name, q in zip(QUANTILES, LEVELS, strict=True)
                }
                row |= {"naive": actual[shard, hour - 24] if hour >= 24 else None, "day": at.date()}
                rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.assign(shard_id=frame.shard_id.astype("int32"), horizon_steps=frame.horizon_steps.astype("int32"))
