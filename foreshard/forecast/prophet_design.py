"""Prophet's design for a grid of times: what a load may consist of, as columns, before any series is looked at.

Source: Taylor and Letham 2018, "Forecasting at Scale", and the library (1.5): Fourier terms of time since 1970 in days, orders
4, 3 and 10 for the day, the week and the year, a season only where the history is long enough for the library's `auto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import DAY, Batch, Floats

CONSTANT, TIME, SEASON, INDICATOR, REGRESSOR = range(5)
# Period in days, order, and the days that the history must span; in the library's order.
SEASONS = ((365.25, 10, 730.0), (7.0, 3, 14.0), (1.0, 4, 2.0))
TREND_SCALE, EFFECT_SCALE = 5.0, 10.0


class Columns(NamedTuple):
    """Columns of the steps and the horizon, of all series (`shared`) and of each (`own`, shape (series, steps + horizon, own)).

    The shared ones are the constant, the time (the step over the number of steps) and the Fourier terms, then the
    regressors. `kind`, `precision` (of the normal prior) and `least` (steps that the history must span) are one a column,
    shared ones first; `own_kind` says for each series whether its own columns are indicators or to be standardised.
    """

    shared: Floats
    own: Floats
    kind: npt.NDArray[np.int64]
    own_kind: npt.NDArray[np.int64]
    precision: Floats
    least: Floats


def columns_of(batch: Batch, horizon: int) -> Columns:
    """The columns for the batch's grid and its regressors.

    A regressor that is not known at every step of the history and the horizon is left out (for the series that lack it).
    """
    length = batch.steps + horizon
    shared: list[Floats] = [np.ones(length), np.arange(length) / max(batch.steps, 1)]
    kinds, least = [CONSTANT, TIME], [0.0, 0.0]
    for period, order, days in SEASONS:
        span = days * (DAY / batch.step)
        # The library puts no season on a grid as coarse as its period (and knows a year by its span alone).
        if batch.steps > span and (period > 7.0 or batch.step / DAY < period):
            shared += _fourier(batch, length, period, order)
            kinds += [SEASON] * (2 * order)
            least += [span] * (2 * order)
    common, own, own_kind = _regressors(batch.regressors, len(batch), length)
    shared += [column for column, _ in common]
    kinds += [kind for _, kind in common] + [REGRESSOR] * own.shape[2]
    least += [0.0] * (len(common) + own.shape[2])
    kind = np.array(kinds, dtype=np.int64)
    scale = np.where(kind <= TIME, TREND_SCALE, EFFECT_SCALE)
    return Columns(np.column_stack(shared), own, kind, own_kind, 1.0 / scale**2, np.array(least))


def _fourier(batch: Batch, length: int, period: float, order: int) -> list[Floats]:
    start = batch.start if batch.start.tzinfo else batch.start.replace(tzinfo=UTC)
    days = (start - datetime(1970, 1, 1, tzinfo=UTC)) / DAY + np.arange(length) * (batch.step / DAY)
    angles = [2.0 * np.pi * (i + 1) / period * days for i in range(order)]
    return [wave(angle) for angle in angles for wave in (np.sin, np.cos)]


def _regressors(
    given: Mapping[str, Floats], series: int, length: int
) -> tuple[list[tuple[Floats, int]], Floats, npt.NDArray[np.int64]]:
    """Shared columns with their kinds, the series' own columns, and the kinds of those."""
    shared, own = [], []
    for _, values in sorted(given.items()):
        whole = np.asarray(values, dtype=np.float64)[..., :length]
        if whole.shape[-1] < length:
            continue
        column, kind = _prepared(np.atleast_2d(whole))
        if whole.ndim == 2:
            own.append((column, kind))
        elif np.isfinite(whole).all():
            shared.append((column[0], int(kind[0])))
    if not own:
        return shared, np.zeros((series, 0, 0)), np.zeros((series, 0), dtype=np.int64)
    stacked = np.ascontiguousarray(np.stack([column for column, _ in own], axis=2))
    return shared, stacked, np.stack([kind for _, kind in own], axis=1)


def _prepared(rows: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Rows of indicators (0 and 1) as they are, other rows centred and scaled, unknown ones as zeros; and their kinds.

    The fit standardises over each history anew: this only keeps large numbers from drowning their own variation.
    """
    filled = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
    indicator = np.isin(filled, (0.0, 1.0)).all(axis=1, keepdims=True)
    largest = np.abs(filled).max(axis=1, keepdims=True)
    scaled = filled / np.where(largest > 0.0, largest, 1.0)
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    standard = centred / np.where(spread > 0.0, spread, 1.0)
    kind = np.where(indicator, INDICATOR, REGRESSOR).astype(np.int64)[:, 0]
    return np.where(indicator, filled, standard), kind
