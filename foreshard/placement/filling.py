"""Fills nodes that joined or are empty with their share, from other nodes."""

from __future__ import annotations

import numba
import numpy as np

from foreshard.model import Goal
from foreshard.placement.movement import GOALS
from foreshard.placement.placing import ROOM, affordable
from foreshard.placement.shifting import by_node, movable, move, share_of
from foreshard.placement.working import apart, fits, highest_with, load_at, load_with
from foreshard.ranking import score

FILL = GOALS.index(Goal.FILL)


@numba.njit(cache=True, nogil=True)
def fill(f, d, n, fresh, floor, fair, budget):  # type: ignore[no-untyped-def]
    """Moves replicas to node n until some step reaches `floor` (T,): first of shards that rank it above where they are.

    They come from nodes that are not `fresh` (N,) themselves, the most loaded first. None of these is brought below its floor,
    and by shards that do not rank the node above it none below its fair share, in proportion to `fair` (T,) of node n. Returns
    moves. Time O(replicas × T × F).
    """
    nodes = f.capacity.shape[0]
    starts, units = by_node(d, nodes)
    filled = 0
    for prefers in (True, False):
        sources = _by_height(f, d, nodes)
        for i in range(nodes):
            source = sources[i]
            if fresh[source] or not f.accepts[source]:
                continue
            least = (floor if prefers else fair) * (f.capacity[source] / f.capacity[n])
            filled += _fill_from(f, d, n, source, units[starts[source] : starts[source + 1]], floor, least, budget, prefers)
            if _reaches(f, d, n, floor):
                return filled
    return filled


@numba.njit(cache=True, nogil=True)
def _by_height(f, d, nodes):  # type: ignore[no-untyped-def]
    height = np.zeros(nodes)
    for n in range(nodes):
        for t in range(f.mean.shape[1]):
            height[n] = max(height[n], load_at(f, d, n, t) / f.capacity[n])
    return np.argsort(-height, kind="mergesort")


@numba.njit(cache=True, nogil=True)
def _reaches(f, d, n, floor):  # type: ignore[no-untyped-def]
    for t in range(f.mean.shape[1]):
        if floor[t] > 0.0 and load_at(f, d, n, t) >= floor[t]:
            return True
    return floor.max() <= 0.0


@numba.njit(cache=True, nogil=True)
def _fill_from(f, d, n, source, units, floor, least, budget, prefers):  # type: ignore[no-untyped-def]
    places, moved = d.node.shape[1], 0
    for i in range(units.shape[0]):
        s, k = units[i] // places, units[i] % places
        if not movable(f, d, s, k, source) or not fits(f, d, s, n, d.kind[s, k]):
            continue
        mine = score(f.shard_ids[s], f.hashes[n], f.capacity[n])
        if (mine > score(f.shard_ids[s], f.hashes[source], f.capacity[source])) != prefers:
            continue
        if apart(f, d, s, source, source) and not apart(f, d, s, n, source):
            continue
        share = share_of(f, d, s, k)
        if share <= 0.0 or f.mean[s].max() <= 0.0 or highest_with(f, d, n, share, s, f.ceiling[n]) > ROOM:
            continue
        if _falls_below(f, d, source, s, share, least):
            continue
        if d.origin[s, k] == source and not affordable(budget, f.size[s, d.kind[s, k]]):
            continue
        move(f, d, s, k, n, FILL, share, budget)
        moved += 1
        if _reaches(f, d, n, floor):
            break
    return moved


@numba.njit(cache=True, nogil=True)
def _falls_below(f, d, n, s, share, floor):  # type: ignore[no-untyped-def]
    for t in range(f.mean.shape[1]):
        if f.mean[s, t] > 0.0 and load_with(f, d, n, t, -share, s) < floor[t]:
            return True
    return False
