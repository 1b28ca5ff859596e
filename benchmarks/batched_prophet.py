"""Prophet for all series at once beside the library itself: how far apart their forecasts are, and what a series costs.

`python -m benchmarks.batched_prophet [--series 40] [--m4 F]` draws series (or takes the last 504 intervals of those in a
Parquet file of unique_id, ds, y), has a sample forecast 24 steps ahead by the library too, and prints how far apart they are
as a share of the series' largest absolute value, CPU milliseconds a series, and whose optimum is better. The library runs at
its defaults with daily and weekly seasonality on, without its uncertainty samples (which would cost it more).

Two rows are ours: the optimum, which is the family's default, and the forecast from where the library's optimiser stops.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshard.forecast.batch import Backtest, Batch, Floats, backtest_of
from foreshard.forecast.batched_prophet import BatchedProphet, Parameters, fit

CONTEXT, HORIZON, WINDOWS, LEAST_HISTORY = 504, 24, 14, 168
# As many rows as a fleet's batches have; a file's series are repeated up to that for the timing.
TIMED = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m4", "--file", dest="file", help="a Parquet file of unique_id, ds, y on one grid")
    parser.add_argument("--series", type=int, default=40, help="how many the library forecasts; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="a file for the figures, as JSON")
    arguments = parser.parse_args()
    batch = read(Path(arguments.file)) if arguments.file else draw(arguments.seed)
    figures = compare(batch, arguments.series, arguments.seed)
    show(figures)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(figures, indent=2), "utf-8")
    return 0


def draw(seed: int) -> Batch:
    """Loads with cycles of a day and a week, trends that turn, steps of the level, and scatter that remembers."""
    random = np.random.default_rng(seed)
    hours = np.arange(CONTEXT)

    def each(low: float, high: float) -> Floats:
        return random.uniform(low, high, (TIMED, 1))

    waves = sum(
        each(0.0, 0.5 / order) * np.sin(2 * np.pi * (order * hours / period + each(0, 1)))
        for period in (24, 168)
        for order in (1, 2, 3)
    )
    turns = each(-0.6, 0.6) * np.maximum(hours - each(50, 450), 0) / CONTEXT + each(-0.4, 0.4) * hours / CONTEXT
    steps = each(-0.3, 0.3) * (hours > each(0, 2 * CONTEXT))
    scatter = random.normal(size=(TIMED, CONTEXT)) * each(0.01, 0.15)
    memory = each(0.0, 0.8)
    for hour in range(1, CONTEXT):
        scatter[:, hour] += memory[:, 0] * scatter[:, hour - 1]
    values = random.lognormal(3, 2, (TIMED, 1)) * np.maximum(1.5 + waves + turns + steps + scatter, 0.0)
    return Batch(tuple(map(str, range(TIMED))), datetime(2024, 3, 4, tzinfo=UTC), timedelta(hours=1), values)


def read(path: Path) -> Batch:
    """The last intervals of the file's series; those that lack some have NaN there."""
    rows = pd.read_parquet(path, columns=["unique_id", "ds", "y"])
    table = rows.pivot_table(index="unique_id", columns="ds", values="y", observed=True)
    step = pd.Series(table.columns).diff().min().to_pytimedelta()
    times = pd.date_range(end=table.columns[-1], periods=CONTEXT, freq=step)
    values = table.reindex(columns=times).to_numpy(dtype=np.float64)
    ids = tuple(map(str, table.index))
    return Batch(ids, times[0].to_pydatetime(), step, values)


def compare(batch: Batch, sample: int, seed: int) -> dict[str, Any]:
    """Figures of one run: `apart_*` as shares of the largest absolute value, `ms*` CPU milliseconds a series, `as_good` the
    share of series whose optimum is the library's or a better one, `gain_*` by how much."""
    usable = np.flatnonzero(np.isfinite(batch.values).any(axis=1))
    rows = np.random.default_rng(seed).permutation(usable)[: sample or len(usable)]
    chosen = batch.take(rows)
    theirs, optima, library_ms = _library(chosen)
    windows = backtest_of(batch, HORIZON, WINDOWS, LEAST_HISTORY)
    figures: dict[str, Any] = {"series": len(chosen), "ms_library": library_ms}
    for name, as_library in (("optimum", False), ("as_library", True)):
        family = BatchedProphet(as_library=as_library)
        figures[name] = _ours(family, batch, chosen, windows, theirs)
        figures[name]["times_faster"] = library_ms / figures[name]["ms"]
        parameters = fit(chosen, as_library)
        gained = [reached - _objective(model, parameters, i) for i, (model, reached) in enumerate(optima)]
        figures[name]["as_good"] = float(np.mean(np.array(gained) >= -1e-3))
        figures[name]["gain_median"], figures[name]["gain_least"] = float(np.median(gained)), float(min(gained))
    return figures


def _ours(family: BatchedProphet, batch: Batch, chosen: Batch, windows: Backtest, theirs: Floats) -> dict[str, float]:
    """How far apart the forecasts of the sample are, and CPU milliseconds a series of a whole batch."""
    ahead = Backtest((), HORIZON)
    many = batch.take(np.resize(np.arange(len(batch)), TIMED))
    family.predict(chosen.take([0]), windows)  # compiles, or loads what was compiled
    ours = family.predict(chosen, ahead)[family.name].mean
    largest = np.nanmax(np.abs(chosen.values), axis=1)
    apart = np.abs(ours - theirs).mean(axis=1) / np.where(largest > 0, largest, 1.0)
    return {
        "apart_median": float(np.median(apart)),
        "apart_p90": float(np.quantile(apart, 0.9)),
        "apart_largest": float(apart.max()),
        "ms": min(_cpu(lambda: family.predict(many, ahead)) for _ in range(3)) / len(many) * 1e3,
        "ms_with_windows": min(_cpu(lambda: family.predict(many, windows)) for _ in range(3)) / len(many) * 1e3,
    }


def show(figures: dict[str, Any]) -> None:
    print(
        f"{figures['series']} series of {CONTEXT} steps, {HORIZON} ahead; the library at its defaults: "
        f"{figures['ms_library']:.1f} ms of CPU a series\n"
        "apart: mean difference of the forecasts as a share of the series' largest value; gain: in the logarithm of the\n"
        f"posterior density that is maximised; ms: CPU a series, with {WINDOWS} windows of a backtest in brackets\n"
    )
    print(f"{'batched':12}{'apart median':>13}{'p90':>8}{'largest':>9}{'as good':>9}{'gain':>7}{'least':>8}{'ms':>16}  faster")
    for name in ("optimum", "as_library"):
        found = figures[name]
        print(
            f"{name:12}{found['apart_median']:13.3%}{found['apart_p90']:8.3%}{found['apart_largest']:9.3%}"
            f"{found['as_good']:9.0%}{found['gain_median']:7.2f}{found['gain_least']:8.3f}"
            f"{found['ms']:8.3f} ({found['ms_with_windows']:.3f}){found['times_faster']:7,.0f}×"
        )


def _library(batch: Batch) -> tuple[Floats, list[tuple[Any, float]], float]:
    """The library's forecasts, its models with the objective each reached, and CPU milliseconds a series."""
    logging.getLogger("cmdstanpy").disabled = True
    from prophet import Prophet

    times = pd.date_range(batch.start.replace(tzinfo=None), periods=CONTEXT + HORIZON, freq=batch.step)
    said, optima = [], []
    spent = 0.0
    for number, values in enumerate(np.vstack([batch.values[:1], batch.values])):

        def once(values: Floats = values) -> Any:
            model = Prophet(daily_seasonality=True, weekly_seasonality=True, uncertainty_samples=0)
            model.fit(pd.DataFrame({"ds": times[:CONTEXT], "y": values}), seed=0)
            return model, model.predict(pd.DataFrame({"ds": times[CONTEXT:]}))["yhat"].to_numpy()

        found: list[Any] = []
        seconds = _cpu(lambda run=once, into=found: into.append(run()))
        # The first is a rehearsal: it loads the library.
        if number > 0:
            model, forecast = found[0]
            spent += seconds
            said.append(forecast)
            optima.append((model, _objective_of_library(model)))
    return np.array(said), optima, spent / len(batch) * 1e3


def _cpu(work: Callable[[], Any]) -> float:
    """CPU seconds of this process and the children it waited for."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def _objective_of_library(model: Any) -> float:
    found = {name: np.ravel(value) for name, value in model.params.items()}
    trend = np.array([found["k"][0], found["m"][0]])
    return _value(model, trend, found["delta"], found["beta"], float(found["sigma_obs"][0]))


def _objective(model: Any, ours: Parameters, row: int) -> float:
    return _value(model, ours.trend[row], ours.deltas[row], ours.effects[row], float(ours.noise[row]))


def _value(model: Any, trend: Floats, deltas: Floats, effects: Floats, noise: float) -> float:
    """What the library minimises, by its own design: minus the logarithm of the posterior density."""
    history = model.history
    t, y = history["t"].to_numpy(), history["y_scaled"].to_numpy()
    terms = model.make_all_seasonality_features(history)[0].to_numpy()
    ramps = np.maximum(t[:, None] - model.changepoints_t, 0.0)
    squares = ((y - trend[0] * t - trend[1] - ramps @ deltas[: ramps.shape[1]] - terms @ effects) ** 2).sum()
    noise = max(noise, 1e-12)
    priors = (trend**2).sum() / 50 + np.abs(deltas).sum() / 0.05 + (effects**2).sum() / 200 + 2 * noise**2
    return float(len(y) * np.log(noise) + squares / (2 * noise**2) + priors)


if __name__ == "__main__":
    sys.exit(main())
