"""The way that the Prophet library's optimiser takes to its answer: for forecasts that must be the library's own.

Stan's L-BFGS (five updates, a line search for the strong Wolfe conditions) stops short of the optimum, because |δ| has a kink
at zero that it does not know of; where exactly depends on its path. So this takes the same path: the same start, steps and
conditions, on the products of the design's columns instead of its rows, which makes an iteration cost a microsecond. It stops
where the objective's relative change falls below 2e-9 instead of 2e-12: the last iterations are many and move little.

Source: Nocedal and Wright 2006, "Numerical Optimization", algorithms 3.5, 3.6 and 7.4, with the constants of Stan. What it
ends at is not robust: a change of the data in the ninth digit moves some forecasts by a percent, as it does the library's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foreshard.forecast.batch import Floats
from foreshard.forecast.compiled import reordered

UPDATES, ITERATIONS, STEPS_OF_A_SEARCH = 5, 10_000, 20
_FIRST_STEP, _LEAST_STEP, _NO_INTERVAL = 1e-3, 1e-12, 1e-16
_DESCENT, _CURVATURE = 1e-4, 0.9
_SMALL_CHANGE, _SMALL_SHARE, _SMALL_GAIN, _SMALL_MOVE = 1e-12, 2.2e-9, 2.2e-6, 1e-8
# Running products drift by rounding; they are made anew that often.
_REFRESH = 10


class Problem(NamedTuple):
    """Minimise rows·log σ + |y − Zx|² / 2σ² + Σ precision·x² / 2 + Σ weight·|x| + 2σ² over x and log σ, its last entry.

    `products` are Z'Z, `pull` is Z'y and `squares` y'y."""

    products: Floats
    pull: Floats
    squares: float
    rows: float
    precision: Floats
    weight: Floats


class Line(NamedTuple):
    """A point and a direction, their products, and the squared residuals along it: rest + 2·step·tilt + step²·bend."""

    point: Floats
    direction: Floats
    at_point: Floats
    along: Floats
    rest: float
    tilt: float
    bend: float


@reordered
def follow(problem: Problem, x: Floats) -> bool:
    """Moves `x` from the library's start to about where the library stops; False if that is no finite place."""
    size = len(x)
    gradient, ahead, ahead_gradient = np.empty(size), np.empty(size), np.empty(size)
    direction, before_direction, before_gradient = np.empty(size), np.zeros(size), np.zeros(size)
    moves, changes, scales = np.empty((UPDATES, size)), np.empty((UPDATES, size)), np.empty(UPDATES)
    at_point, along = np.empty(size - 1), np.empty(size - 1)
    rest = _products(problem, x, at_point)
    value = _value(problem, Line(x, x, at_point, at_point, rest, 0.0, 0.0), 0.0, ahead, gradient)
    before, before_step, kept = value, 1.0, 0
    for turn in range(ITERATIONS):
        fresh = turn == 0
        while True:
            if fresh:
                direction[:] = -gradient
            guess = _guess(before_gradient, gradient, before_direction, before_step, value - before)
            first = _FIRST_STEP if fresh else guess
            line = _line(problem, x, direction, at_point, along, rest)
            step, reached = _search(problem, line, first, value, _dot(gradient, direction), ahead, ahead_gradient)
            if step > 0.0 or fresh:
                break
            fresh = True
        if step <= 0.0:
            break
        kept = 0 if fresh else kept
        place = turn % UPDATES
        curvature, roughness = _go(x, gradient, ahead, ahead_gradient, moves[place], changes[place], before_gradient)
        scales[place] = 1.0 / curvature
        before_direction[:], before_step = direction, step
        if fresh:
            before_direction *= curvature / roughness
            before_step *= roughness / curvature
        before, value = value, reached
        rest = _carry(line, step)
        if turn % _REFRESH == 0:
            rest = _products(problem, x, at_point)
        kept = min(kept + 1, UPDATES)
        _turn(gradient, moves, changes, scales, turn, kept, curvature / roughness, direction)
        if _is_settled(before, value, gradient, direction, moves[place]):
            break
    return bool(np.isfinite(value) and np.isfinite(x).all())


@reordered
def _guess(gradient: Floats, gradient_there: Floats, direction: Floats, step: float, change: float) -> float:
    """The first step to try, by how the last one went."""
    return min(1.0, 1.01 * _lowest(_dot(gradient, direction), step, change, _dot(gradient_there, direction)))


@reordered
def _go(
    x: Floats, gradient: Floats, ahead: Floats, ahead_gradient: Floats, move: Floats, change: Floats, before_gradient: Floats
) -> tuple[float, float]:
    """Moves the point ahead and keeps what changed; returns move·change and change·change."""
    curvature, roughness = 0.0, 0.0
    for i in range(len(x)):
        move[i], change[i] = ahead[i] - x[i], ahead_gradient[i] - gradient[i]
        curvature += move[i] * change[i]
        roughness += change[i] * change[i]
        before_gradient[i], x[i], gradient[i] = gradient[i], ahead[i], ahead_gradient[i]
    return curvature, roughness


@reordered
def _is_settled(before: float, value: float, gradient: Floats, direction: Floats, move: Floats) -> bool:
    change, size = abs(before - value), max(abs(value), 1.0)
    if change < _SMALL_CHANGE or change < _SMALL_SHARE * max(abs(before), size):
        return True
    return -_dot(gradient, direction) < _SMALL_GAIN * size or _dot(move, move) < _SMALL_MOVE**2


@reordered
def _dot(a: Floats, b: Floats) -> float:
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@reordered
def _multiply(products: Floats, x: Floats, out: Floats) -> None:
    """By columns, which are rows too, as `products` is symmetric: four at once, so that `out` is seldom read and written."""
    size = len(out)
    out[:] = 0.0
    for j in range(0, size - 3, 4):
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        for i in range(size):
            out[i] += a * products[j, i] + b * products[j + 1, i] + c * products[j + 2, i] + d * products[j + 3, i]
    for j in range(size - size % 4, size):
        for i in range(size):
            out[i] += x[j] * products[j, i]


@reordered
def _products(problem: Problem, x: Floats, at_point: Floats) -> float:
    """Fills the products at a point; returns the squared residuals there."""
    _multiply(problem.products, x, at_point)
    squares = problem.squares
    for i in range(len(at_point)):
        squares += x[i] * (at_point[i] - 2.0 * problem.pull[i])
    return squares


@reordered
def _line(problem: Problem, x: Floats, direction: Floats, at_point: Floats, along: Floats, rest: float) -> Line:
    _multiply(problem.products, direction, along)
    tilt, bend = 0.0, 0.0
    for i in range(len(along)):
        tilt += direction[i] * (at_point[i] - problem.pull[i])
        bend += direction[i] * along[i]
    return Line(x, direction, at_point, along, rest, tilt, bend)


@reordered
def _carry(line: Line, step: float) -> float:
    """Moves the products at the point along with it; returns the squared residuals there."""
    for i in range(len(line.along)):
        line.at_point[i] += step * line.along[i]
    return line.rest + step * (2.0 * line.tilt + step * line.bend)


@reordered
def _value(problem: Problem, line: Line, step: float, x: Floats, gradient: Floats) -> float:
    """The objective at a step along the line; fills the point and the gradient there."""
    last = len(x) - 1
    x[last] = line.point[last] + step * line.direction[last]
    variance = np.exp(2.0 * x[last])
    squares = line.rest + step * (2.0 * line.tilt + step * line.bend)
    value = problem.rows * x[last] + squares / (2.0 * variance) + 2.0 * variance
    gradient[last] = problem.rows - squares / variance + 4.0 * variance
    share = 1.0 / variance
    for i in range(last):
        here = line.point[i] + step * line.direction[i]
        x[i] = here
        # The library's gradient of |δ| at zero is zero.
        sign = (1.0 if here > 0.0 else 0.0) - (1.0 if here < 0.0 else 0.0)
        value += problem.weight[i] * abs(here) + 0.5 * problem.precision[i] * here * here
        pulled = line.at_point[i] + step * line.along[i] - problem.pull[i]
        gradient[i] = pulled * share + problem.weight[i] * sign + problem.precision[i] * here
    return float(value)


@reordered
def _turn(
    gradient: Floats, moves: Floats, changes: Floats, scales: Floats, turn: int, kept: int, scale: float, direction: Floats
) -> None:
    """The direction downhill by the updates kept, the newest of which is that of `turn`."""
    shares = np.empty(UPDATES)
    for i in range(len(gradient)):
        direction[i] = -gradient[i]
    for back in range(kept):
        k = (turn - back) % UPDATES
        share = 0.0
        for i in range(len(direction)):
            share += moves[k, i] * direction[i]
        share *= scales[k]
        shares[k] = share
        for i in range(len(direction)):
            direction[i] -= share * changes[k, i]
    for i in range(len(direction)):
        direction[i] *= scale
    for back in range(kept - 1, -1, -1):
        k = (turn - back) % UPDATES
        share = 0.0
        for i in range(len(direction)):
            share += changes[k, i] * direction[i]
        share = shares[k] - scales[k] * share
        for i in range(len(direction)):
            direction[i] += share * moves[k, i]


@reordered
def _lowest(slope: float, step: float, change: float, slope_there: float) -> float:
    """Where the cubic with these slopes at 0 and at the step, and this change between, is lowest up to a step of one."""
    cubic = (6.0 * step * (slope + slope_there) - 12.0 * change) / step**3
    square = 6.0 * change / step**2 - (4.0 * slope + 2.0 * slope_there) / step
    root = np.sqrt(square * square - 2.0 * slope * cubic)
    best, lowest = _LEAST_STEP, 0.0
    for candidate in (_LEAST_STEP, 1.0, -(square + root) / cubic, -(square - root) / cubic):
        if _LEAST_STEP <= candidate <= 1.0:
            height = candidate * (candidate * (candidate * cubic / 3.0 + square) / 2.0 + slope)
            if candidate == _LEAST_STEP or height < lowest:
                best, lowest = candidate, height
    return best


@reordered
def _search(
    problem: Problem, line: Line, first: float, before: float, slope: float, x: Floats, gradient: Floats
) -> tuple[float, float]:
    """A step that meets the strong Wolfe conditions, and the objective there; a step of 0 if none is found."""
    low, low_value, low_slope = _LEAST_STEP, before, slope
    step, accepted = first, 0
    for _ in range(2 * STEPS_OF_A_SEARCH):
        value = _value(problem, line, step, x, gradient)
        if not np.isfinite(value):
            step = 0.5 * (low + step)
            continue
        here = _dot(gradient, line.direction)
        if value > before + first * _DESCENT * slope or (accepted > 0 and value >= low_value):
            return _zoom(problem, line, before, slope, (low, low_value, low_slope), (step, value, here), x, gradient)
        if abs(here) <= -_CURVATURE * slope:
            return step, value
        if here >= 0.0:
            return _zoom(problem, line, before, slope, (step, value, here), (low, low_value, low_slope), x, gradient)
        low, low_value, low_slope = step, value, here
        step *= 10.0
        accepted += 1
        if accepted >= STEPS_OF_A_SEARCH:
            break
    return 0.0, before


@reordered
def _zoom(
    problem: Problem,
    line: Line,
    before: float,
    slope: float,
    low: tuple[float, float, float],
    high: tuple[float, float, float],
    x: Floats,
    gradient: Floats,
) -> tuple[float, float]:
    """The search within an interval; its ends are (step, objective, slope)."""
    for turn in range(1, 200):
        if abs(low[0] - high[0]) < _NO_INTERVAL:
            break
        step = 0.5 * (low[0] + high[0]) if turn % 5 == 0 else _between(low, high)
        value = _value(problem, line, step, x, gradient)
        here = _dot(gradient, line.direction)
        if value > before + step * _DESCENT * slope or value >= low[1]:
            high = (step, value, here)
            continue
        if abs(here) <= -_CURVATURE * slope:
            return step, value
        if here * (high[0] - low[0]) >= 0.0:
            high = low
        low = (step, value, here)
    return 0.0, before


@reordered
def _between(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """The lowest point of the cubic through both ends, or the middle where that is too near to an end."""
    middle, width = 0.5 * (low[0] + high[0]), abs(low[0] - high[0])
    inner = low[2] + high[2] - 3.0 * (low[1] - high[1]) / (low[0] - high[0])
    square = inner * inner - low[2] * high[2]
    if square < 0.0:
        return middle
    root = np.sqrt(square) if high[0] > low[0] else -np.sqrt(square)
    step = high[0] - (high[0] - low[0]) * (high[2] + root - inner) / (high[2] - low[2] + 2.0 * root)
    return step if abs(step - middle) <= 0.49 * width else middle
