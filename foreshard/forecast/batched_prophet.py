"""Prophet's own model for all series on one grid at once: the optimum that the library seeks, thousands of times cheaper.

The model: a piecewise-linear trend with 25 possible changepoints in the first 80 % of the history under a Laplace prior of
scale 0.05, Fourier seasonalities for the day, the week and (from two years on) the year, and regressors, holidays among
them, under a normal prior of scale 10, all additive; loads scaled by their largest absolute value, time to 0 … 1, the noise
estimated jointly. This is the library at its defaults with `growth="linear"`, seasonalities by its `auto` rule.

How: what series of one mask share (the products of the design's columns, their factorisation, the ramps that are left) is
computed once for each history; a series then needs its own products with the columns, a lasso in 25 unknowns solved exactly
by an active set, and the noise by a fixed point in closed form. The windows of the backtest are histories of their own, each
with its own scaling and changepoints, all from one pass over the steps.

Unknown steps are left out as the library does, changepoints and time scale being those of the known ones: series with the
same unknown steps share the work as others do, and one with a mask of its own, or regressors of its own, costs some three
times as much. There is no imputation.

Where it differs from the library: it finds the optimum where L-BFGS stops short of it (unless asked to stop there too, see
library_path); a regressor that was constant in a history is left out instead of sharing the level with the constant; the
normal priors are weighed alike for all series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import DAY, Backtest, Batch, Floats, Prediction
from foreshard.forecast.prophet_design import Columns, columns_of
from foreshard.forecast.prophet_elimination import CHANGEPOINTS, empty_histories
from foreshard.forecast.prophet_rows import Fits, fit_rows

# Less says nothing of a day's course, and on coarse grids nothing of a trend.
LEAST_DAYS, LEAST_STEPS = 2, 10


@dataclass(frozen=True)
class BatchedProphet:
    """The family. `refit_every`: every how many windows of the backtest it is fitted anew; the windows between are forecast
    by the fit before them, which costs less and makes them look somewhat worse than they would be. `as_library`: the
    forecast (not the windows) is that of where the library's optimiser stops, for which it follows the library's path; it
    costs a tenth of a millisecond more, is no better, and does not hold to more than three digits or so between processors."""

    refit_every: int = 1
    as_library: bool = False
    name: str = "batched_prophet"
    is_cheap: bool = True

    def learn(self, sample: Batch, backtest: Backtest) -> None:
        """Nothing: each series is fitted alone."""

    def predict(self, batch: Batch, backtest: Backtest, learnt: Any = None) -> Mapping[str, Prediction]:
        """NaN for a series (or a window's history) with less than two days of known steps, or less than ten.

        Time: about 0.02 ms a series of 504 steps and 6 µs a window; with a mask or regressors of its own 0.06 ms and 15 µs.
        The first call in a new installation compiles for half a minute.
        """
        ends = np.array([*backtest.starts, batch.steps], dtype=np.int64)
        refitted = np.zeros(len(ends), dtype=np.bool_)
        refitted[: -1 : max(self.refit_every, 1)] = True
        refitted[-1] = True
        forecast = _fit(batch, columns_of(batch, backtest.horizon), backtest.horizon, ends, refitted, self.as_library).forecast
        return {self.name: Prediction.of(forecast)}


@dataclass(frozen=True)
class Parameters:
    """Prophet's parameters for each series, in its scaling (loads over their largest absolute value, time from 0 to 1).

    `trend`: k and m, shape (series, 2). `deltas`: changes of the slope, (series, 25), zero beyond the changepoints that the
    history has. `effects`: of the seasons' terms and the regressors, (series, terms). `noise`: σ, (series,).
    """

    trend: Floats
    deltas: Floats
    effects: Floats
    noise: Floats


def fit(batch: Batch, as_library: bool = False) -> Parameters:
    """The parameters that the forecast of each series is made from; NaN where it has too short a history."""
    ends = np.array([batch.steps], dtype=np.int64)
    fits = _fit(batch, columns_of(batch, 0), 0, ends, np.ones(1, dtype=np.bool_), as_library)
    return Parameters(fits.effects[:, [1, 0]], fits.deltas, fits.effects[:, 2:], fits.noise)


def _fit(
    batch: Batch,
    columns: Columns,
    horizon: int,
    ends: npt.NDArray[np.int64],
    refitted: npt.NDArray[np.bool_],
    as_library: bool,
) -> Fits:
    width = len(columns.kind)
    fits = Fits(
        np.full((len(batch), len(ends), horizon), np.nan),
        np.full((len(batch), width), np.nan),
        np.full((len(batch), CHANGEPOINTS), np.nan),
        np.full(len(batch), np.nan),
    )
    if batch.steps == 0 or len(batch) == 0:
        return fits
    known = np.ascontiguousarray(np.isfinite(batch.values))
    loads = np.where(known, batch.values, 0.0)
    # Sums of squares must neither overflow nor vanish; each history is scaled by its own largest load afterwards.
    largest = np.abs(loads).max(axis=1)
    unit = np.where(largest > 0.0, largest, 1.0)[:, None]
    group = _masks(known)
    fewest = max(int(np.ceil(LEAST_DAYS * (DAY / batch.step))), LEAST_STEPS)
    histories = empty_histories(len(ends), width)
    order = np.argsort(group, kind="stable").astype(np.int64)
    fit_rows(
        np.ascontiguousarray(loads / unit), known, order, group, columns, ends, refitted, fewest, as_library, histories, fits
    )
    fits.forecast[...] *= unit[:, :, None]
    return fits


def _masks(known: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """A number for each series: the same for those with the same known steps."""
    numbers = np.unique(np.packbits(known, axis=1), axis=0, return_inverse=True)[1]
    return numbers.reshape(-1).astype(np.int64)
