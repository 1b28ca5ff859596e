"""Least squares with a Laplace prior on some coefficients and the noise estimated with them: a maximum a posteriori fit.

What is minimised over δ and σ, for R(δ) = rest − 2 pull·δ + δ'·gram·δ (the squared residuals, all other coefficients being
already eliminated), is that of Prophet's Stan program: rows·log σ + R(δ) / 2σ² + |δ|₁ / scale + 2σ².

For a given σ this is a lasso with penalty σ² / scale. It is solved by an active set: exact, and with a handful of
changepoints in play one step costs well under a microsecond, where coordinate descent needs thousands of sweeps, because
neighbouring ramps are almost parallel. Between two changes of the set, R is quadratic in the penalty, so that the penalty
that agrees with its own σ has a closed form: two or three rounds settle it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import Floats
from foreshard.forecast.compiled import compiled

# The normal prior on σ has scale 0.5, as in Prophet's Stan program; its term in the objective is this times σ².
NOISE_WEIGHT = 2.0
# Rounds between penalty and noise; after the first ones by the plain fixed point, which cannot swing to and fro.
_CLOSED_ROUNDS, _ROUNDS = 8, 60
_AGREED = 1e-7


class Active(NamedTuple):
    """The coefficients that are not zero: which (in order of their factorisation), their signs, and the factor's rows."""

    members: npt.NDArray[np.int64]
    signs: Floats
    inside: npt.NDArray[np.bool_]
    lower: Floats
    target: Floats
    size: npt.NDArray[np.int64]


@compiled
def noise_of(squares: float, rows: int) -> float:
    """The σ² that is best for a sum of squared residuals."""
    return float(2.0 * squares / (rows + np.sqrt(rows * rows + 8.0 * NOISE_WEIGHT * squares)))


@compiled
def fit(gram: Floats, pull: Floats, rest: float, rows: int, scale: float, delta: Floats) -> float:
    """Fills `delta`, from which it starts, and returns σ². `gram` must be positive definite.

    From a start of zeros the penalty comes down from above.
    """
    active = Active(
        np.empty(len(pull), np.int64),
        np.empty(len(pull)),
        np.zeros(len(pull), np.bool_),
        np.empty((len(pull), len(pull))),
        np.empty(len(pull)),
        np.zeros(1, np.int64),
    )
    for j in range(len(pull)):
        if delta[j] != 0.0:
            _add(gram, active, j, np.sign(delta[j]))
    squares = _squares(gram, pull, rest, delta)
    penalty = noise_of(squares, rows) / scale
    for turn in range(_ROUNDS):
        minimise(gram, pull, penalty, delta, active)
        squares = _squares(gram, pull, rest, delta)
        found = noise_of(squares, rows) / scale
        if turn < _CLOSED_ROUNDS:
            found = _agreeing(active, penalty, squares, rows, scale, found)
        settled = abs(found - penalty) <= _AGREED * penalty
        penalty = found
        if settled:
            break
    return float(penalty * scale)


@compiled
def _squares(gram: Floats, pull: Floats, rest: float, delta: Floats) -> float:
    """The squared residuals, kept off zero: below that they are rounding."""
    total = rest
    for j in range(len(pull)):
        if delta[j] != 0.0:
            inner = -2.0 * pull[j]
            for i in range(len(pull)):
                inner += gram[j, i] * delta[i]
            total += delta[j] * inner
    return max(total, 1e-9 * rest)


@compiled
def _agreeing(active: Active, penalty: float, squares: float, rows: int, scale: float, otherwise: float) -> float:
    """The penalty whose own fit has the noise that makes that penalty, as long as the active set stays; else `otherwise`."""
    size = active.size[0]
    for i in range(size):
        active.target[i] = active.signs[i]
    _solve(active)
    growth = 0.0
    for i in range(size):
        growth += active.signs[i] * active.target[i]
    floor = squares - penalty * penalty * growth
    # Both sides of 4σ⁴ + rows·σ² = R, with σ² = penalty·scale and R = floor + growth·penalty².
    square = 2.0 * NOISE_WEIGHT * scale * scale - growth
    linear = rows * scale
    inner = linear * linear + 4.0 * square * floor
    if floor <= 0.0 or inner < 0.0:
        return otherwise
    return float(2.0 * floor / (linear + np.sqrt(inner)))


@compiled
def minimise(gram: Floats, pull: Floats, penalty: float, delta: Floats, active: Active) -> None:
    """The lasso ½δ'·gram·δ − pull·δ + penalty·|δ|₁ by an active set, from the `delta` and set given; each step lowers it."""
    count = len(pull)
    newest = -1
    for _ in range(6 * count + 20):
        for i in range(active.size[0]):
            active.target[i] = pull[active.members[i]] - penalty * active.signs[i]
        _solve(active)
        gone = _move(delta, active)
        if gone >= 0:
            # What leaves in the very step in which it came would come and go for ever: that is rounding.
            spurious = active.members[gone] == newest
            _drop(gram, active, gone)
            if spurious:
                break
            newest = -1
            continue
        newest, sign = _furthest(gram, pull, penalty, delta, active)
        if newest < 0:
            break
        _add(gram, active, newest, sign)


@compiled
def _move(delta: Floats, active: Active) -> int:
    """Goes to the target, or only as far as the first member reaches zero; returns its place, or -1."""
    share, gone = 1.0, -1
    for i in range(active.size[0]):
        if active.target[i] * active.signs[i] <= 0.0:
            here = delta[active.members[i]]
            until = here / (here - active.target[i]) if here != active.target[i] else 0.0
            if gone < 0 or until < share:
                share, gone = until, i
    for i in range(active.size[0]):
        j = active.members[i]
        delta[j] += share * (active.target[i] - delta[j])
    if gone >= 0:
        delta[active.members[gone]] = 0.0
    return gone


@compiled
def _furthest(gram: Floats, pull: Floats, penalty: float, delta: Floats, active: Active) -> tuple[int, float]:
    """The zero coefficient that is drawn most beyond the penalty, and to which side; -1 if none is."""
    slope = pull.copy()
    for i in range(active.size[0]):
        j = active.members[i]
        for other in range(len(pull)):
            slope[other] -= gram[j, other] * delta[j]
    best, found = penalty * (1.0 + 1e-9), -1
    for j in range(len(pull)):
        if not active.inside[j] and abs(slope[j]) > best:
            best, found = abs(slope[j]), j
    return found, (np.sign(slope[found]) if found >= 0 else 0.0)


@compiled
def _add(gram: Floats, active: Active, j: int, sign: float) -> None:
    size = active.size[0]
    active.members[size], active.signs[size], active.inside[j] = j, sign, True
    active.size[0] = size + 1
    _factor(gram, active, size)


@compiled
def _drop(gram: Floats, active: Active, place: int) -> None:
    active.inside[active.members[place]] = False
    active.size[0] -= 1
    for i in range(place, active.size[0]):
        active.members[i], active.signs[i] = active.members[i + 1], active.signs[i + 1]
    _factor(gram, active, place)


@compiled
def _factor(gram: Floats, active: Active, begin: int) -> None:
    """The rows of the Cholesky factor from `begin` on; those before are right already."""
    lower = active.lower
    for i in range(begin, active.size[0]):
        row = active.members[i]
        for j in range(i + 1):
            value = gram[row, active.members[j]]
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            lower[i, j] = value / lower[j, j] if j < i else np.sqrt(max(value, 1e-12 * gram[row, row]))


@compiled
def _solve(active: Active) -> None:
    """Replaces `target` by the solution of the factorised system."""
    lower, target, size = active.lower, active.target, active.size[0]
    for i in range(size):
        value = target[i]
        for k in range(i):
            value -= lower[i, k] * target[k]
        target[i] = value / lower[i, i]
    for i in range(size - 1, -1, -1):
        value = target[i]
        for k in range(i + 1, size):
            value -= lower[k, i] * target[k]
        target[i] = value / lower[i, i]
