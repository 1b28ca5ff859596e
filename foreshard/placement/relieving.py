"""Moves that relieve nodes above their ceiling with the fewest bytes.

From the node furthest above, the replica that takes most off for its bytes goes to the highest-ranked node that has room.
Nothing moves between nodes that are not above their ceiling.
"""

from __future__ import annotations

import numba
import numpy as np

from foreshard.model import Goal
from foreshard.placement.movement import GOALS
from foreshard.placement.placing import ROOM, affordable
from foreshard.placement.shifting import by_node, excess, excess_with, is_above, movable, move, share_of
from foreshard.placement.trimming import exchange, give_back
from foreshard.placement.working import apart, fits, highest_with
from foreshard.ranking import score

BALANCE = GOALS.index(Goal.BALANCE)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def relieve(f, d, takers, settle_by, budget):  # type: ignore[no-untyped-def]
    """Takes load off every node above its ceiling until it is `settle_by` below, or nothing helps. Returns moves.

    Nodes furthest above come first. Time O(moves × (replicas of the node + takers) × T × F).
    """
    nodes = f.capacity.shape[0]
    starts, units = by_node(d, nodes)
    height = np.zeros(nodes)
    for n in range(nodes):
        if f.live[n] and is_above(f, d, n, f.ceiling[n]):
            height[n] = excess(f, d, n, f.ceiling[n])
    order = np.argsort(-height, kind="mergesort")
    moved = 0
    for i in range(nodes):
        n = order[i]
        if height[n] <= 0.0:
            break
        moved += _relieve_node(f, d, n, units[starts[n] : starts[n + 1]], takers, settle_by, budget)
    return moved


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _relieve_node(f, d, n, units, takers, settle_by, budget):  # type: ignore[no-untyped-def]
    """First by moves to takers with room; what is left by moves that take more overload off here than they make there."""
    places = d.node.shape[1]
    aim = f.ceiling[n] * (1.0 - settle_by)
    moved = 0
    for last in (False, True):
        tried = np.zeros(units.shape[0], dtype=np.bool_)
        while is_above(f, d, n, aim):
            i, relief, share = _ranked_by_relief(f, d, n, units, aim, tried)
            if i < 0:
                break
            tried[i] = True
            s, k = units[i] // places, units[i] % places
            if d.origin[s, k] == n and not affordable(budget, f.size[s, d.kind[s, k]]):
                continue
            target = _target(f, d, s, k, share, takers, relief * (1.0 - 1e-6) if last else 0.0)
            if target >= 0:
                move(f, d, s, k, target, BALANCE, share, budget)
                moved += 1
    moved -= give_back(f, d, n, units, aim, budget)
    exchange(f, d, n, units, aim, budget)
    return moved


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _ranked_by_relief(f, d, n, units, aim, tried):  # type: ignore[no-untyped-def]
    """The replica of node n that takes most excess off for its bytes, ties by more relief; its relief and its share."""
    now = excess(f, d, n, aim)
    best, best_relief, best_ratio, best_share = -1, 0.0, 0.0, 0.0
    places = d.node.shape[1]
    for i in range(units.shape[0]):
        s, k = units[i] // places, units[i] % places
        if tried[i] or not movable(f, d, s, k, n):
            continue
        share = share_of(f, d, s, k)
        if share <= 0.0:
            continue
        relief = now - excess_with(f, d, n, -share, s, aim)
        if relief <= 1e-12 * now:
            continue
        ratio = relief / (_price(f, d, s, k) + 1.0)
        tie = abs(ratio - best_ratio) <= 1e-6 * best_ratio
        if (tie and relief > best_relief) or (not tie and ratio > best_ratio):
            best, best_relief, best_ratio, best_share = i, relief, ratio, share
    return best, best_relief, best_share


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _price(f, d, s, k):  # type: ignore[no-untyped-def]
    """Bytes that moving the replica adds to the plan: none if it is copied to where it is by this plan."""
    return f.size[s, d.kind[s, k]] if d.origin[s, k] == d.node[s, k] else 0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _target(f, d, s, k, share, takers, relief):  # type: ignore[no-untyped-def]
    """The highest-ranked taker with room, -1 for none; where `relief` is above 0, any whose own overload grows by less.

    Of these the one whose overload grows least.
    """
    source = d.node[s, k]
    lonely = apart(f, d, s, source, source)
    best, best_score, least = -1, -1.0, relief
    for i in range(takers.shape[0]):
        n = takers[i]
        if n == source or not fits(f, d, s, n, d.kind[s, k]) or (lonely and not apart(f, d, s, n, source)):
            continue
        if relief > 0.0:
            added = excess_with(f, d, n, share, s, f.ceiling[n]) - excess(f, d, n, f.ceiling[n])
            if added < least:
                best, least = n, added
        elif highest_with(f, d, n, share, s, f.ceiling[n]) <= ROOM:
            preference = score(f.shard_ids[s], f.hashes[n], f.capacity[n])
            if preference > best_score:
                best, best_score = n, preference
    return best
