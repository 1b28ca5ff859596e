"""Prophet for whole batches beside the library: how far its forecasts lie from the library's, and how much faster it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.forecast_data import DataSet
from benchmarks.forecast_rivals import cpu_seconds, silence_prophet
from foreshard.forecast.batch import Backtest, Batch, Floats
from foreshard.forecast.batched_prophet import BatchedProphet


def compare(data: DataSet, most: int) -> dict[str, Any]:
    """Both on the first `most` series of a set at each origin, without intervals and backtests.

    `median`, `p90`: of the distances at all steps to come, as shares of the series' largest absolute value. `ms`, `library_ms`:
    CPU time a series, the batched one's over the whole batch.
    """
    silence_prophet()
    distances, ours, series, library = [], 0.0, 0, 0.0
    family = BatchedProphet()
    for number, (batch, _) in enumerate(data.tasks()):
        part = batch.take(np.flatnonzero(data.counted(batch)))
        nothing_to_try = Backtest((), data.horizon)
        if number == 0:  # compilation and imports are not a series' cost
            family.predict(part, nothing_to_try)
            _library(part.take([0]), data.horizon)
        began = cpu_seconds()
        batched = family.predict(part, nothing_to_try)[family.name].mean
        ours, series = ours + cpu_seconds() - began, series + len(part)
        few = part.take(range(min(most, len(part))))
        began = cpu_seconds()
        said = _library(few, data.horizon)
        library += cpu_seconds() - began
        distances.append(np.abs(batched[: len(few)] - said) / np.abs(few.values).max(axis=1, keepdims=True))
    every = np.concatenate(distances)
    return {
        "set": data.name,
        "forecasts": len(every),
        "median": float(np.median(every)),
        "p90": float(np.quantile(every, 0.9)),
        "ms": 1000.0 * ours / series,
        "library_ms": 1000.0 * library / len(every),
    }


def _library(batch: Batch, horizon: int) -> Floats:
    from prophet import Prophet

    times = pd.date_range(batch.start.replace(tzinfo=None), periods=batch.steps + horizon, freq=batch.step)
    said = np.empty((len(batch), horizon))
    for row in range(len(batch)):
        model = Prophet(uncertainty_samples=0)
        model.fit(pd.DataFrame({"ds": times[: batch.steps], "y": batch.values[row]}), seed=row)
        said[row] = model.predict(pd.DataFrame({"ds": times[batch.steps :]}))["yhat"].to_numpy()
    return said
