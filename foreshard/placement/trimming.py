"""Makes what was moved off one node as small as it can be: a last replica mostly takes off more than was left to take."""

from __future__ import annotations

import numba
import numpy as np

from foreshard.model import Goal
from foreshard.placement.movement import GOALS
from foreshard.placement.placing import ROOM
from foreshard.placement.shifting import is_above, movable, move, share_of
from foreshard.placement.working import fits, highest_with, load_at

BALANCE = GOALS.index(Goal.BALANCE)
_ROUNDS = 8  # exchanges tried per node
_LEAST = 1e-3  # of the replica's bytes that an exchange must save


@numba.njit(cache=True, nogil=True)
def give_back(f, d, n, units, aim, budget):  # type: ignore[no-untyped-def]
    """Takes moves off node n back that turn out not to be needed, the smallest first; returns how many.

    The last replica that leaves takes off more than is left to take, which may be as much as one that left before.
    """
    places = d.node.shape[1]
    left = np.zeros(units.shape[0])
    for i in range(units.shape[0]):
        s, k = units[i] // places, units[i] % places
        if d.origin[s, k] == n and d.node[s, k] >= 0 and d.node[s, k] != n:
            left[i] = 1.0 + f.size[s, d.kind[s, k]]
    given = 0
    for i in np.argsort(left, kind="mergesort"):
        if left[i] > 0.0:
            s, k = units[i] // places, units[i] % places
            share = share_of(f, d, s, k)
            if highest_with(f, d, n, share, s, aim) <= ROOM and fits(f, d, s, n, d.kind[s, k]):
                move(f, d, s, k, n, BALANCE, share, budget)
                given += 1
    return given


@numba.njit(cache=True, nogil=True)
def exchange(f, d, n, units, aim, budget):  # type: ignore[no-untyped-def]
    """Takes a move off node n back for one of a smaller replica, for as long as that is enough; the most bytes saved first.

    Time O(rounds × (replicas moved × replicas left + T × F)).
    """
    places = d.node.shape[1]
    sizes, loads, shares = np.zeros(units.shape[0]), np.zeros(units.shape[0]), np.zeros(units.shape[0])
    for _ in range(_ROUNDS):
        t = _tightest(f, d, n, aim)
        slack = aim[t] * ROOM - load_at(f, d, n, t)
        if slack <= 0.0:
            return
        for i in range(units.shape[0]):
            s, k = units[i] // places, units[i] % places
            if d.node[s, k] >= 0:
                shares[i] = share_of(f, d, s, k)
                sizes[i], loads[i] = f.size[s, d.kind[s, k]], shares[i] * f.mean[s, t]
        away, here = _best_pair(f, d, n, units, sizes, loads, slack)
        if away < 0 or not _exchanged(f, d, n, units[away], units[here], shares[away], shares[here], aim, budget):
            return


@numba.njit(cache=True, nogil=True)
def _tightest(f, d, n, aim):  # type: ignore[no-untyped-def]
    """The step at which the node is nearest to what it is to stay under."""
    best, least = 0, np.inf
    for t in range(aim.shape[0]):
        room = aim[t] - load_at(f, d, n, t)
        if room < least:
            best, least = t, room
    return best


@numba.njit(cache=True, nogil=True)
def _best_pair(f, d, n, units, sizes, loads, slack):  # type: ignore[no-untyped-def]
    """A replica that left and a smaller one still there whose loads differ by no more than the slack; -1 for none."""
    places = d.node.shape[1]
    best_away, best_here, best_saved = -1, -1, 0.0
    for i in range(units.shape[0]):
        s, k = units[i] // places, units[i] % places
        if d.origin[s, k] != n or d.node[s, k] < 0 or d.node[s, k] == n:
            continue
        for j in range(units.shape[0]):
            saved = sizes[i] - sizes[j]
            if saved <= best_saved or saved <= _LEAST * sizes[i] or loads[i] - loads[j] > slack:
                continue
            other = units[j] // places
            if d.origin[other, units[j] % places] == n and movable(f, d, other, units[j] % places, n):
                best_away, best_here, best_saved = i, j, saved
    return best_away, best_here


@numba.njit(cache=True, nogil=True)
def _exchanged(f, d, n, away, here, share_away, share_here, aim, budget):  # type: ignore[no-untyped-def]
    """Carries the exchange out if every constraint and ceiling holds after it; whether it did."""
    places = d.node.shape[1]
    s, k, other, place = away // places, away % places, here // places, here % places
    target = d.node[s, k]
    if not fits(f, d, s, n, d.kind[s, k]):
        return False
    move(f, d, s, k, n, BALANCE, share_away, budget)
    if (
        fits(f, d, other, target, d.kind[other, place])
        and highest_with(f, d, target, share_here, other, f.ceiling[target]) <= ROOM
    ):
        move(f, d, other, place, target, BALANCE, share_here, budget)
        if not is_above(f, d, n, aim):
            return True
        move(f, d, other, place, n, BALANCE, share_here, budget)
    move(f, d, s, k, target, BALANCE, share_away, budget)
    return False
