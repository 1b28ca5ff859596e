"""Moves that relieve nodes above their ceiling with the fewest bytes, and that fill nodes which joined.

From the node furthest above, the replica that takes most off for its bytes goes to the highest-ranked node that has room.
Nothing moves between nodes that are not above their ceiling, except to a node that is to be filled.
"""

from __future__ import annotations

import numba
import numpy as np

from foreshard.model import Goal
from foreshard.placement.loads import share_row
from foreshard.placement.movement import GOALS
from foreshard.placement.placing import MOVES, ROOM, affordable, pay, relocate
from foreshard.placement.working import apart, fits, highest_with, load_at, load_with
from foreshard.ranking import score

BALANCE, FILL = GOALS.index(Goal.BALANCE), GOALS.index(Goal.FILL)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _by_node(d, nodes):  # type: ignore[no-untyped-def]
    """The draft's replicas as positions s × K + k sorted by node: (starts (N + 1,), positions)."""
    shards, places = d.node.shape
    counts = np.zeros(nodes + 1, dtype=np.int64)
    for s in range(shards):
        for k in range(places):
            if d.node[s, k] >= 0:
                counts[d.node[s, k] + 1] += 1
    starts = np.cumsum(counts)
    at = starts[:-1].copy()
    units = np.empty(starts[-1], dtype=np.int64)
    for s in range(shards):
        for k in range(places):
            n = d.node[s, k]
            if n >= 0:
                units[at[n]] = s * places + k
                at[n] += 1
    return starts, units


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _share(f, d, s, k):  # type: ignore[no-untyped-def]
    row = np.zeros(d.node.shape[1])
    share_row(d.node[s], d.kind[s], d.weight[s], f.live, f.recent[s], row)
    return row[k]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def excess(f, d, n, above):  # type: ignore[no-untyped-def]
    """Σ over steps of the load above `above`, shape (T,)."""
    total = 0.0
    for t in range(f.mean.shape[1]):
        total += max(0.0, load_at(f, d, n, t) - above[t])
    return total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _excess_with(f, d, n, share, s, above):  # type: ignore[no-untyped-def]
    total = 0.0
    for t in range(f.mean.shape[1]):
        total += max(0.0, load_with(f, d, n, t, share, s) - above[t])
    return total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def is_over(f, d, n):  # type: ignore[no-untyped-def]
    for t in range(f.mean.shape[1]):
        if load_at(f, d, n, t) > f.ceiling[n, t] * ROOM:
            return True
    return False


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _movable(f, d, s, k, n):  # type: ignore[no-untyped-def]
    return d.node[s, k] == n and not (f.pinned.shape[0] and f.pinned[s, n])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _price(f, d, s, k):  # type: ignore[no-untyped-def]
    """Bytes that moving the replica adds to the plan: none if it is copied to where it is by this plan."""
    return f.size[s, d.kind[s, k]] if d.origin[s, k] == d.node[s, k] else 0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _move(f, d, s, k, n, goal, share, budget):  # type: ignore[no-untyped-def]
    """Moves the replica and pays for it; going back to where it came from is paid back."""
    step, gain = _worst_step(f, d, d.node[s, k], s, share)
    size = f.size[s, d.kind[s, k]]
    if d.origin[s, k] == d.node[s, k]:
        pay(budget, size)
    elif d.origin[s, k] == n:
        pay(budget, -size)
        budget[MOVES] += 2
    relocate(f, d, s, k, n, d.kind[s, k], goal, step, gain)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _target(f, d, s, k, share, takers, overload_now):  # type: ignore[no-untyped-def]
    """The highest-ranked taker with room; else the one that ends least above its ceiling, if that lowers the overload."""
    source = d.node[s, k]
    lonely = apart(f, d, s, source, source)
    best, best_score, fallback, least = -1, -1.0, -1, overload_now
    for i in range(takers.shape[0]):
        n = takers[i]
        if n == source or not fits(f, d, s, n, d.kind[s, k]) or (lonely and not apart(f, d, s, n, source)):
            continue
        if highest_with(f, d, n, share, s, f.ceiling[n]) <= ROOM:
            preference = score(f.shard_ids[s], f.hashes[n], f.capacity[n])
            if preference > best_score:
                best, best_score = n, preference
        elif best < 0:
            added = _excess_with(f, d, n, share, s, f.ceiling[n]) - excess(f, d, n, f.ceiling[n])
            if added < least:
                fallback, least = n, added
    return best if best >= 0 else fallback


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _ranked_by_relief(f, d, n, units, aim, tried):  # type: ignore[no-untyped-def]
    """The replica of node n that takes most excess off for its bytes, ties by more relief; its relief and its share."""
    now = excess(f, d, n, aim)
    best, best_relief, best_ratio, best_share = -1, 0.0, 0.0, 0.0
    places = d.node.shape[1]
    for i in range(units.shape[0]):
        s, k = units[i] // places, units[i] % places
        if tried[i] or not _movable(f, d, s, k, n):
            continue
        share = _share(f, d, s, k)
        if share <= 0.0:
            continue
        relief = now - _excess_with(f, d, n, -share, s, aim)
        if relief <= 1e-12 * now:
            continue
        ratio = relief / (_price(f, d, s, k) + 1.0)
        tie = abs(ratio - best_ratio) <= 1e-6 * best_ratio
        if (tie and relief > best_relief) or (not tie and ratio > best_ratio):
            best, best_relief, best_ratio, best_share = i, relief, ratio, share
    return best, best_relief, best_share


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def relieve(f, d, takers, settle_by, budget):  # type: ignore[no-untyped-def]
    """Takes load off every node above its ceiling until it is `settle_by` below, or nothing helps. Returns moves.

    Nodes furthest above come first. Time O(moves × (replicas of the node + takers) × T × F).
    """
    nodes = f.capacity.shape[0]
    starts, units = _by_node(d, nodes)
    height = np.zeros(nodes)
    for n in range(nodes):
        if f.live[n] and is_over(f, d, n):
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
    tried = np.zeros(units.shape[0], dtype=np.bool_)
    places = d.node.shape[1]
    aim = f.ceiling[n] * (1.0 - settle_by)
    moved = 0
    while _is_over_by(f, d, n, aim):
        i, relief, share = _ranked_by_relief(f, d, n, units, aim, tried)
        if i < 0:
            break
        tried[i] = True
        s, k = units[i] // places, units[i] % places
        if d.origin[s, k] == n and not affordable(budget, f.size[s, d.kind[s, k]]):
            continue
        target = _target(f, d, s, k, share, takers, relief * (1.0 - 1e-6))
        if target >= 0:
            _move(f, d, s, k, target, BALANCE, share, budget)
            moved += 1
    return moved


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _is_over_by(f, d, n, aim):  # type: ignore[no-untyped-def]
    for t in range(f.mean.shape[1]):
        if load_at(f, d, n, t) > aim[t] * ROOM:
            return True
    return False


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _worst_step(f, d, n, s, share):  # type: ignore[no-untyped-def]
    """The first step at which the node is above its ceiling, else its highest; and the load the shard carries on it then."""
    worst, highest = 0, -1.0
    for t in range(f.mean.shape[1]):
        load = load_at(f, d, n, t)
        if load > f.ceiling[n, t] * ROOM:
            return t, share * f.mean[s, t]
        if load > highest:
            worst, highest = t, load
    return worst, share * f.mean[s, worst]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def fill(f, d, n, floor, fair, budget):  # type: ignore[no-untyped-def]
    """Moves replicas to node n until some step reaches `floor` (T,): first of shards that rank it above where they are.

    Within these the most loaded sources come first. None of these is brought below its floor, and by shards that do not rank
    the node above it none below its fair share, in proportion to `fair` (T,) of node n. Returns moves.
    Time O(replicas × T × F).
    """
    nodes = f.capacity.shape[0]
    starts, units = _by_node(d, nodes)
    filled = 0
    for prefers in (True, False):
        sources = _by_height(f, d, nodes)
        for i in range(nodes):
            source = sources[i]
            if source == n or not f.accepts[source]:
                continue
            least = (floor if prefers else fair) * (f.capacity[source] / f.capacity[n])
            filled += _fill_from(f, d, n, source, units[starts[source] : starts[source + 1]], floor, least, budget, prefers)
            if _reaches(f, d, n, floor):
                return filled
    return filled


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _by_height(f, d, nodes):  # type: ignore[no-untyped-def]
    height = np.zeros(nodes)
    for n in range(nodes):
        for t in range(f.mean.shape[1]):
            height[n] = max(height[n], load_at(f, d, n, t) / f.capacity[n])
    return np.argsort(-height, kind="mergesort")


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _reaches(f, d, n, floor):  # type: ignore[no-untyped-def]
    for t in range(f.mean.shape[1]):
        if floor[t] > 0.0 and load_at(f, d, n, t) >= floor[t]:
            return True
    return floor.max() <= 0.0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill_from(f, d, n, source, units, floor, least, budget, prefers):  # type: ignore[no-untyped-def]
    places, moved = d.node.shape[1], 0
    for i in range(units.shape[0]):
        s, k = units[i] // places, units[i] % places
        if not _movable(f, d, s, k, source) or not fits(f, d, s, n, d.kind[s, k]):
            continue
        mine = score(f.shard_ids[s], f.hashes[n], f.capacity[n])
        if (mine > score(f.shard_ids[s], f.hashes[source], f.capacity[source])) != prefers:
            continue
        if apart(f, d, s, source, source) and not apart(f, d, s, n, source):
            continue
        share = _share(f, d, s, k)
        if share <= 0.0 or highest_with(f, d, n, share, s, f.ceiling[n]) > ROOM:
            continue
        if _falls_below(f, d, source, s, share, least):
            continue
        if d.origin[s, k] == source and not affordable(budget, f.size[s, d.kind[s, k]]):
            continue
        _move(f, d, s, k, n, FILL, share, budget)
        moved += 1
        if _reaches(f, d, n, floor):
            break
    return moved


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _falls_below(f, d, n, s, share, floor):  # type: ignore[no-untyped-def]
    for t in range(f.mean.shape[1]):
        if f.mean[s, t] > 0.0 and load_with(f, d, n, t, -share, s) < floor[t]:
            return True
    return False
