"""Fits Prophet's model to every row of a batch at once, compiled: see batched_prophet for what and why."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foreshard.forecast import laplace, library_path
from foreshard.forecast.batch import Floats
from foreshard.forecast.compiled import compiled
from foreshard.forecast.prophet_design import Columns
from foreshard.forecast.prophet_elimination import CHANGEPOINTS, Histories, eliminate, restore

CHANGEPOINT_SCALE = 0.05
# A history whose columns explain all but this share of its squares is fitted as if this were left: rounding is no noise.
_LEAST_REST = 1e-12
# Below this many known steps the library takes Newton's method, which does reach the optimum.
_LIBRARY_STEPS = 100
# A history explained this well has no noise to speak of, and the library's path no end.
_LIBRARY_REST = 1e-8


class Fits(NamedTuple):
    """Filled by `fit_rows`. `forecast`: shape (series, histories, horizon). Of the last history, in the library's own
    scaling: `effects` (series, columns: constant, slope, seasons, regressors), `deltas` (series, changepoints), `noise` σ."""

    forecast: Floats
    effects: Floats
    deltas: Floats
    noise: Floats


@compiled
def fit_rows(
    loads: Floats,
    known: npt.NDArray[np.bool_],
    order: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    columns: Columns,
    ends: npt.NDArray[np.int64],
    refitted: npt.NDArray[np.bool_],
    fewest: int,
    as_library: bool,
    histories: Histories,
    fits: Fits,
) -> None:
    """Fits each row to the histories before each of `ends` (ascending), and forecasts the steps that follow.

    Rows are taken in `order`; neighbours of one `group` share a mask and hence their eliminations, unless they have columns
    of their own. Where `refitted` is False the fit before it is used on. Loads are 0 where not known.
    `as_library`: the last fit ends where the library's would.
    """
    width = columns.shared.shape[1]
    own = columns.own.shape[2]
    table = np.empty((columns.shared.shape[0], width + own))
    table[:, :width] = columns.shared
    kind = columns.kind.copy()
    size = width + own + CHANGEPOINTS if as_library else 0
    products = np.zeros((size, size))
    current = -1
    for row in order:
        if own > 0:
            table[:, width:] = columns.own[row]
            kind[width:] = columns.own_kind[row]
        if own > 0 or group[row] != current:
            eliminate(table, kind, columns.precision, columns.least, known[row], ends, refitted, fewest, histories)
            current = group[row]
            if as_library:
                restore(len(ends) - 1, columns.precision, histories, products)
        _fit_row(row, loads[row], table, ends, columns.precision, products, histories, fits)


@compiled
def _fit_row(
    row: int,
    loads: Floats,
    table: Floats,
    ends: npt.NDArray[np.int64],
    precision: Floats,
    products: Floats,
    histories: Histories,
    fits: Fits,
) -> None:
    width = table.shape[1]
    plain, timed = _running(loads, table, ends[-1])
    drawn, weights = np.zeros(width), np.full(width, np.nan)
    deltas = np.zeros(CHANGEPOINTS)
    done, largest, squares, ramps = 0, 0.0, 0.0, 0
    for h in range(len(ends)):
        largest, more = _take_in(loads, table, done, ends[h], largest, drawn)
        squares += more
        done = ends[h]
        last = h == len(ends) - 1
        if histories.slope[h] > 0.0:
            # The fit before it is a good start, in time order so that no window's loads touch the fit to its past; the
            # forecast itself starts from zeros, whatever windows there are.
            if last or histories.ramps[h] != ramps:
                deltas[:] = 0.0
            ramps = histories.ramps[h]
            scale = largest if largest > 0.0 else 1.0
            effects, noise = _fit_history(h, ends[h], drawn, plain, timed, squares, scale, table, histories, deltas)
            if last and len(products) > 0 and noise > 0.0:
                pull = _pulls(h, ends[h], drawn, plain, timed, scale, table, histories)
                noise = _as_library(h, loads, pull, squares, scale, precision, products, histories, effects, deltas, noise)
            _unscale(h, effects, deltas, scale, table, histories, weights)
            if last:
                fits.effects[row], fits.noise[row], fits.deltas[row] = effects, noise, deltas
        for t in range(fits.forecast.shape[2]):
            value = 0.0
            for i in range(width):
                value += weights[i] * table[ends[h] + t, i]
            fits.forecast[row, h, t] = value


@compiled
def _running(loads: Floats, table: Floats, steps: int) -> tuple[Floats, Floats]:
    """Sums of the loads, and of the loads times the time, before each step."""
    plain, timed = np.zeros(steps + 1), np.zeros(steps + 1)
    for t in range(steps):
        plain[t + 1] = plain[t] + loads[t]
        timed[t + 1] = timed[t] + loads[t] * table[t, 1]
    return plain, timed


@compiled
def _take_in(loads: Floats, table: Floats, begin: int, end: int, largest: float, drawn: Floats) -> tuple[float, float]:
    """Adds some steps' products with the columns; returns the largest absolute load until now, and the steps' squares."""
    squares = 0.0
    for t in range(begin, end):
        load = loads[t]
        if load != 0.0:
            largest = max(largest, abs(load))
            squares += load * load
            for i in range(len(drawn)):
                drawn[i] += load * table[t, i]
    return largest, squares


@compiled
def _fit_history(
    h: int,
    end: int,
    drawn: Floats,
    plain: Floats,
    timed: Floats,
    squares: float,
    scale: float,
    table: Floats,
    histories: Histories,
    deltas: Floats,
) -> tuple[Floats, float]:
    """The columns' coefficients and the noise, in the library's scaling; fills `deltas`, which it starts from."""
    lower, width, ramps = histories.lower[h], len(drawn), histories.ramps[h]
    raw = _pulls(h, end, drawn, plain, timed, scale, table, histories)
    effects, pull = raw[:width].copy(), raw[width:].copy()
    for i in range(width):
        value = effects[i]
        for k in range(i):
            value -= lower[i, k] * effects[k]
        effects[i] = value / lower[i, i]
    for j in range(ramps):
        for k in range(width):
            pull[j] -= histories.cross[h, j, k] * effects[k]
    whole = squares / (scale * scale)
    rest = max(whole - (effects * effects).sum(), _LEAST_REST * whole)
    variance = 0.0
    if rest > 0.0:
        gram = histories.gram[h, :ramps, :ramps]
        variance = laplace.fit(gram, pull, rest, histories.known[h], CHANGEPOINT_SCALE, deltas[:ramps])
    for j in range(ramps):
        effects -= deltas[j] * histories.cross[h, j]
    _solve_transposed(lower, effects)
    return effects, np.sqrt(variance)


@compiled
def _pulls(
    h: int, end: int, drawn: Floats, plain: Floats, timed: Floats, scale: float, table: Floats, histories: Histories
) -> Floats:
    """The scaled loads' products with the columns and then the ramps, as this history scales them."""
    width = len(drawn)
    made = np.empty(width + histories.ramps[h])
    for i in range(width):
        made[i] = (drawn[i] - histories.shift[h, i] * drawn[0]) * histories.factor[h, i] / scale
    for j in range(histories.ramps[h]):
        knot = histories.knots[h, j]
        sums = (timed[end] - timed[knot]) - table[knot, 1] * (plain[end] - plain[knot])
        made[width + j] = sums * histories.slope[h] / scale
    return made


@compiled
def _as_library(
    h: int,
    loads: Floats,
    pull: Floats,
    squares: float,
    scale: float,
    precision: Floats,
    products: Floats,
    histories: Histories,
    effects: Floats,
    deltas: Floats,
    noise: float,
) -> float:
    """Moves the coefficients from the optimum to where the library would have stopped, if it would; returns its noise."""
    known, width, whole = histories.known[h], len(effects), squares / (scale * scale)
    if known < _LIBRARY_STEPS or known * noise * noise <= _LIBRARY_REST * whole:
        return noise
    size = len(pull)
    x, all_precision, weight = np.zeros(size + 1), np.zeros(size), np.zeros(size)
    all_precision[:width] = precision
    weight[width:] = 1.0 / CHANGEPOINT_SCALE
    # The library starts with a line through the first and the last load, and a noise of 1.
    x[0] = loads[histories.bounds[h, 0]] / scale
    x[1] = loads[histories.bounds[h, 1]] / scale - x[0]
    within = np.ascontiguousarray(products[:size, :size])
    if not library_path.follow(library_path.Problem(within, pull, whole, float(known), all_precision, weight), x):
        return noise
    effects[:] = x[:width]
    deltas[: size - width] = x[width:size]
    return float(np.exp(x[size]))


@compiled
def _solve_transposed(lower: Floats, right: Floats) -> None:
    for i in range(len(right) - 1, -1, -1):
        value = right[i]
        for k in range(i + 1, len(right)):
            value -= lower[k, i] * right[k]
        right[i] = value / lower[i, i]


@compiled
def _unscale(
    h: int, effects: Floats, deltas: Floats, scale: float, table: Floats, histories: Histories, weights: Floats
) -> None:
    """The weights of the columns as they stand in the table, for steps after the last changepoint."""
    constant = 0.0
    for i in range(len(effects)):
        weights[i] = effects[i] * histories.factor[h, i] * scale
        constant -= weights[i] * histories.shift[h, i]
    for j in range(histories.ramps[h]):
        slope = deltas[j] * histories.slope[h] * scale
        weights[1] += slope
        constant -= slope * table[histories.knots[h, j], 1]
    weights[0] += constant
