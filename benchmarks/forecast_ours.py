"""The engine of this project as contestants: as it comes, with LightGBM, and each family alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.forecast_metrics import LEVELS
from benchmarks.forecast_rivals import Contestant, Forecast, measured
from foreshard.forecast import batch as batches
from foreshard.forecast import engine
from foreshard.forecast.batch import Batch

NAME = "foreshard"
WITH_LIGHTGBM = "foreshard + LightGBM"
ONE_BY_ONE = ("prophet", "statsforecast")  # families that fit a series at a time, and each window of the backtest


def contestants(most: int, alone: bool) -> list[Contestant]:
    """With `alone` each family is a contestant of its own too."""
    defaults = engine.Options(horizon=24).families
    found = [_contestant(NAME, defaults)]
    if "lightgbm" in engine.FAMILIES:
        found.append(_contestant(WITH_LIGHTGBM, tuple(dict.fromkeys((*defaults, "lightgbm")))))
    if alone:
        # A window of the backtest costs as much as the forecast: a few series show what such a family is worth.
        found += [_contestant(f"{n} alone", (n,), max(most // 6, 1) if n in ONE_BY_ONE else None) for n in engine.FAMILIES]
    return found


def _contestant(name: str, families: tuple[str, ...], most: int | None = None) -> Contestant:
    """What the fleet shares is learnt from the batch itself (its 2,000 series with the smallest hash); the time counts."""

    def run(batch: Batch, horizon: int, country: str, budget: float) -> Forecast:
        options = replace(engine.Options(horizon=horizon, country=country), families=families)
        part = batch if most is None else batch.take(range(min(most, len(batch))))
        found = Forecast.empty(len(batch), horizon)
        with measured(found):
            result = engine.forecast_all(part, options)
        found.tried = len(part)
        found.mean[: len(part)] = result.mean
        levels = [batches.LEVELS.index(level) for level in LEVELS]
        found.quantiles[:, : len(part)] = result.quantiles[levels].astype(np.float64)
        return found

    return Contestant(name, run, is_rival=False, most=most)
