"""The engine of this project as contestants: all its cheap families together, with LightGBM, and each family alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.forecast_metrics import LEVELS
from benchmarks.forecast_rivals import Contestant, Forecast, cpu_seconds, measured
from foreshard.forecast import batch as batches
from foreshard.forecast import engine
from foreshard.forecast.batch import Batch, Floats

NAME = "foreshard"
WITH_LIGHTGBM = "foreshard + LightGBM"
SAMPLE = 2000
ONE_BY_ONE = ("prophet", "statsforecast")  # families that fit a series at a time


def contestants(extras: tuple[str, ...], most: int, alone: bool) -> list[Contestant]:
    """`extras`: costly families that can be imported; with `alone` each family is a contestant of its own too."""
    defaults = engine.Options(horizon=24).families
    found = [_contestant(NAME, None)]
    if "lightgbm" in extras:
        found.append(_contestant(WITH_LIGHTGBM, tuple(dict.fromkeys((*defaults, "lightgbm")))))
    if alone:
        names = dict.fromkeys((*defaults, *extras))
        found += [_contestant(f"{name} alone", (name,), most if name in ONE_BY_ONE else None) for name in names]
    return found


def _contestant(name: str, families: tuple[str, ...] | None, most: int | None = None) -> Contestant:
    def run(batch: Batch, horizon: int, country: str, budget: float) -> Forecast:
        options: Any = engine.Options(horizon=horizon, country=country)
        if families is not None:
            options = replace(options, families=families)
        part = batch if most is None else batch.take(range(min(most, len(batch))))
        found = Forecast.empty(len(batch), horizon)
        with measured(found):
            began = cpu_seconds()
            fleet = engine.learn(part.take(range(min(SAMPLE, len(part)))), options)
            found.learning = cpu_seconds() - began
            result = engine.forecast(part, fleet, options)
        found.tried = len(part)
        found.mean[: len(part)] = result.mean
        found.quantiles[:, : len(part)] = _levels(result.quantiles)
        return found

    return Contestant(name, run, is_rival=False, most=most)


def _levels(quantiles: Floats) -> Floats:
    return quantiles[[batches.LEVELS.index(level) for level in LEVELS]].astype(np.float64)
