"""What Prophet's fits to one mask of known steps share: for each history, everything that does not depend on the loads.

A history is the steps before some end. Its trend's changepoints and its time scale are those of its known steps, as in the
library, so that each history has ramps of its own; but a ramp's products with any column are differences of two running
sums, so one pass over the steps serves all histories, and each costs only what the elimination itself does: the columns with
a normal prior (constant, slope, seasons, regressors) are taken out by a Cholesky factor, which leaves the ramps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import Floats
from foreshard.forecast.compiled import compiled
from foreshard.forecast.prophet_design import CONSTANT, REGRESSOR, SEASON, TIME

CHANGEPOINTS, CHANGEPOINT_RANGE = 25, 0.8
# Prophet weighs the normal priors by σ², of at most 0.25 and mostly below 0.01. They are so wide that only columns of which
# the history says nothing feel them, and those end at zero with any weight: so one weight does for all series, which lets
# them share the factor.
_RIDGE = 1e-6
# Keeps ramps that no step tells apart from making the remaining system singular.
_JITTER = 1e-9
# Below this share of its square sum a column does not vary.
_CONSTANT_SHARE = 1e-10


class Histories(NamedTuple):
    """One row a history. `lower`: Cholesky factor of the columns' products; `cross`: the ramps' products with the columns,
    that factor taken off; `gram`: what is left of the ramps' products with each other. A column is used as
    (column − shift) · factor, and not at all where its factor is 0. `knots` are steps; `ramps` says how many. `known` counts
    steps, `bounds` are the first and the last of them, and `slope` is one over their span in the time column's unit."""

    lower: Floats
    cross: Floats
    gram: Floats
    shift: Floats
    factor: Floats
    knots: npt.NDArray[np.int64]
    ramps: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int64]
    slope: Floats


class Sums(NamedTuple):
    """Running sums over the known steps before each step: of the columns, and of the columns times the time."""

    plain: Floats
    timed: Floats
    positions: npt.NDArray[np.int64]


def empty_histories(count: int, columns: int) -> Histories:
    return Histories(
        np.zeros((count, columns, columns)),
        np.zeros((count, CHANGEPOINTS, columns)),
        np.zeros((count, CHANGEPOINTS, CHANGEPOINTS)),
        np.zeros((count, columns)),
        np.zeros((count, columns)),
        np.zeros((count, CHANGEPOINTS), np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros((count, 2), np.int64),
        np.zeros(count),
    )


@compiled
def eliminate(
    columns: Floats,
    kind: npt.NDArray[np.int64],
    precision: Floats,
    least: Floats,
    known: npt.NDArray[np.bool_],
    ends: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.bool_],
    fewest: int,
    made: Histories,
) -> None:
    """Fills `made` for the histories before each of `ends` (ascending). One that is not wanted, or has less than `fewest`
    known steps, gets slope 0: nothing is fitted to it."""
    sums = _running(columns, known, ends[-1])
    products = np.zeros((columns.shape[1], columns.shape[1]))
    done, count = 0, 0
    for h in range(len(ends)):
        for t in range(done, ends[h]):
            if known[t]:
                count += 1
                for i in range(columns.shape[1]):
                    for j in range(i + 1):
                        products[i, j] += columns[t, i] * columns[t, j]
        done = ends[h]
        made.known[h], made.ramps[h], made.slope[h] = count, 0, 0.0
        if wanted[h] and count >= fewest:
            _scale(h, columns, kind, least, products, sums, made)
            _factor(h, precision, products, made)
            _place_ramps(h, ends[h], columns, sums, made)


@compiled
def _running(columns: Floats, known: npt.NDArray[np.bool_], steps: int) -> Sums:
    width = columns.shape[1]
    plain, timed = np.zeros((steps + 1, width)), np.zeros((steps + 1, width))
    positions = np.empty(steps, np.int64)
    count = 0
    for t in range(steps):
        weight = 1.0 if known[t] else 0.0
        time = weight * columns[t, TIME]
        for i in range(width):
            plain[t + 1, i] = plain[t, i] + weight * columns[t, i]
            timed[t + 1, i] = timed[t, i] + time * columns[t, i]
        if known[t]:
            positions[count] = t
            count += 1
    return Sums(plain, timed, positions)


@compiled
def _scale(
    h: int, columns: Floats, kind: npt.NDArray[np.int64], least: Floats, products: Floats, sums: Sums, made: Histories
) -> None:
    """How each column enters this history: time from 0 to 1, regressors standardised, what it cannot tell left out."""
    count = made.known[h]
    first, last = sums.positions[0], sums.positions[count - 1]
    made.bounds[h, 0], made.bounds[h, 1] = first, last
    made.slope[h] = 1.0 / (columns[last, TIME] - columns[first, TIME])
    for i in range(columns.shape[1]):
        shift, factor = 0.0, 1.0
        mean = products[i, CONSTANT] / count
        deviation = products[i, i] / count - mean * mean
        if kind[i] == TIME:
            shift, factor = columns[first, TIME], made.slope[h]
        elif kind[i] == SEASON:
            factor = 1.0 if last - first >= least[i] else 0.0
        elif kind[i] > SEASON and deviation <= _CONSTANT_SHARE * products[i, i] / count:
            # The library would share the level between such a column and the constant: a guess that a change then exposes.
            factor = 0.0
        elif kind[i] == REGRESSOR:
            shift, factor = mean, 1.0 / np.sqrt(deviation * count / (count - 1))
        made.shift[h, i], made.factor[h, i] = shift, factor


@compiled
def _factor(h: int, precision: Floats, products: Floats, made: Histories) -> None:
    """The Cholesky factor of the scaled columns' products with their priors."""
    lower, shift, factor = made.lower[h], made.shift[h], made.factor[h]
    for i in range(len(precision)):
        for j in range(i + 1):
            value = (
                products[i, j] - shift[i] * products[j, 0] - shift[j] * products[i, 0] + shift[i] * shift[j] * products[0, 0]
            )
            value *= factor[i] * factor[j]
            if i == j:
                value += _RIDGE * precision[i]
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            lower[i, j] = value / lower[j, j] if j < i else np.sqrt(max(value, _RIDGE * precision[i]))


@compiled
def _place_ramps(h: int, end: int, columns: Floats, sums: Sums, made: Histories) -> None:
    """Changepoints evenly over the first part of the known steps, and their ramps' products."""
    considered = int(np.floor(made.known[h] * CHANGEPOINT_RANGE))
    ramps = max(min(CHANGEPOINTS, considered - 1), 0)
    made.ramps[h] = ramps
    shift, factor, lower = made.shift[h], made.factor[h], made.lower[h]
    for j in range(ramps):
        knot = sums.positions[int(np.rint((j + 1) * ((considered - 1) / ramps)))]
        made.knots[h, j] = knot
        row, from_knot = made.cross[h, j], columns[knot, TIME]
        constant = _ramp(sums, 0, end, knot, from_knot)
        for i in range(columns.shape[1]):
            product = (_ramp(sums, i, end, knot, from_knot) - shift[i] * constant) * factor[i] * made.slope[h]
            for k in range(i):
                product -= lower[i, k] * row[k]
            row[i] = product / lower[i, i]
        for other in range(j + 1):
            # The time column's own ramp is that of squares; with the earlier knot taken off it is the product of the two.
            square = _ramp(sums, TIME, end, knot, from_knot)
            product = (square - columns[made.knots[h, other], TIME] * constant) * made.slope[h] * made.slope[h]
            if other == j:
                product *= 1.0 + _JITTER
            for k in range(columns.shape[1]):
                product -= row[k] * made.cross[h, other, k]
            made.gram[h, j, other] = product
            made.gram[h, other, j] = product


@compiled
def _ramp(sums: Sums, column: int, end: int, knot: int, from_knot: float) -> float:
    """Σ (time − the knot's time) · column over the known steps from the knot to the end."""
    timed = sums.timed[end, column] - sums.timed[knot, column]
    return float(timed - from_knot * (sums.plain[end, column] - sums.plain[knot, column]))


@compiled
def restore(h: int, precision: Floats, made: Histories, products: Floats) -> None:
    """Fills the products of all columns with each other as they were before the elimination: columns first, then ramps."""
    width, ramps = len(precision), made.ramps[h]
    lower = made.lower[h]
    for i in range(width):
        for j in range(i + 1):
            value = 0.0
            for k in range(j + 1):
                value += lower[i, k] * lower[j, k]
            value -= _RIDGE * precision[i] if i == j else 0.0
            products[i, j], products[j, i] = value, value
    for j in range(ramps):
        row = made.cross[h, j]
        for i in range(width):
            value = 0.0
            for k in range(i + 1):
                value += lower[i, k] * row[k]
            products[width + j, i], products[i, width + j] = value, value
        for other in range(j + 1):
            value = made.gram[h, j, other]
            for k in range(width):
                value += row[k] * made.cross[h, other, k]
            products[width + j, width + other], products[width + other, width + j] = value, value
