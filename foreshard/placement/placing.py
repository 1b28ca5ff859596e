"""Changes to single replicas of a draft, and the node that a replica goes to: the highest-ranked one that has room.

Ranking with room is consistent hashing with bounded loads (Mirrokni et al. 2018) over weighted rendezvous hashing.
"""

from __future__ import annotations

import numba
import numpy as np

from foreshard.placement.cluster import FULL, HOT
from foreshard.placement.working import apart, charge, fits, highest_with, leave, occupy, place_of
from foreshard.ranking import score

ROOM = 1.0 + 1e-9  # of the ceiling; sums differ in the last bits
# What is left of the movement budget, and whether something did not fit it.
MOVES, BYTES, BLOCKED = 0, 1, 2


@numba.njit(cache=True, nogil=True)
def affordable(budget, size):  # type: ignore[no-untyped-def]
    if budget[MOVES] >= 1 and (size <= 0 or budget[BYTES] >= size):
        return True
    budget[BLOCKED] = 1
    return False


@numba.njit(cache=True, nogil=True)
def pay(budget, size):  # type: ignore[no-untyped-def]
    budget[MOVES] -= 1
    budget[BYTES] -= size


@numba.njit(cache=True, nogil=True)
def share_if_added(f, d, s, n, kind, without):  # type: ignore[no-untyped-def]
    """The share of its shard's load that a new replica would get with weights in proportion to capacity."""
    every, full = f.capacity[n], f.capacity[n] if kind == FULL else 0.0
    for k in range(d.node.shape[1]):
        other = d.node[s, k]
        if other >= 0 and other != without and f.live[other]:
            every += f.capacity[other]
            if d.kind[s, k] == FULL:
                full += f.capacity[other]
    share = f.recent[s] * f.capacity[n] / every
    if kind == FULL:
        share += (1.0 - f.recent[s]) * f.capacity[n] / full
    return share


@numba.njit(cache=True, nogil=True)
def choose(f, d, s, kind, share, without):  # type: ignore[no-untyped-def]
    """The node for a replica, or -1 if none may take one. `share` below 0: by capacity. `without` holds one that leaves.

    In this order: room in a zone of its own; a zone of its own within the target; room; any. The highest-ranked where there is
    room, else the one that ends least loaded. Time O(N × T × F).
    """
    best, best_class, best_load, best_score = -1, 9, 0.0, 0.0
    for n in range(f.capacity.shape[0]):
        if not fits(f, d, s, n, kind):
            continue
        part = share if share >= 0.0 else share_if_added(f, d, s, n, kind, without)
        load = highest_with(f, d, n, part, s, f.ceiling[n])
        room, alone = load <= ROOM, apart(f, d, s, n, without)
        if room:
            rank_class = 0 if alone else 2
            load = 0.0
        else:
            within = alone and highest_with(f, d, n, part, s, np.full(f.mean.shape[1], f.target[n])) <= ROOM
            rank_class = 1 if within else 3
        if rank_class > best_class or (rank_class == best_class and load > best_load):
            continue
        preference = score(f.shard_ids[s], f.hashes[n], f.capacity[n])
        if rank_class < best_class or load < best_load or preference > best_score:
            best, best_class, best_load, best_score = n, rank_class, load, preference
    return best


@numba.njit(cache=True, nogil=True)
def even_weights(f, d, s):  # type: ignore[no-untyped-def]
    """Weights in proportion to capacity; loads are not charged here."""
    total = 0.0
    for k in range(d.node.shape[1]):
        if d.node[s, k] >= 0 and f.live[d.node[s, k]]:
            total += f.capacity[d.node[s, k]]
    for k in range(d.node.shape[1]):
        here = d.node[s, k]
        d.weight[s, k] = f.capacity[here] / total if here >= 0 and f.live[here] else 0.0


@numba.njit(cache=True, nogil=True)
def kind_before(f, s, n):  # type: ignore[no-untyped-def]
    """What the node holds of the shard in the layout at hand: it is never made less, only dropped."""
    if f.live[n]:
        for k in range(f.held_node.shape[1]):
            if f.held_node[s, k] == n:
                return f.held_kind[s, k]
    return 0


@numba.njit(cache=True, nogil=True)
def add(f, d, s, n, kind, goal, step, gain):  # type: ignore[no-untyped-def]
    """A new replica in a free place; the shard's weights become those of capacity."""
    kind = max(kind, kind_before(f, s, n))
    charge(f, d, s, -1.0)
    k = place_of(d, s, -1)
    d.node[s, k], d.kind[s, k], d.origin[s, k] = n, kind, -1
    d.goal[s, k], d.step[s, k], d.gain[s, k] = goal, step, gain
    even_weights(f, d, s)
    occupy(f, d, s, n, kind, 1.0)
    charge(f, d, s, 1.0)


@numba.njit(cache=True, nogil=True)
def relocate(f, d, s, k, n, kind, goal, step, gain):  # type: ignore[no-untyped-def]
    """Moves a replica with its weight. The first goal given for leaving the original node stays."""
    before = d.node[s, k]
    kind_there = max(kind, kind_before(f, s, n))
    charge(f, d, s, -1.0)
    occupy(f, d, s, before, d.kind[s, k], -1.0)
    if d.origin[s, k] == before:
        leave(f, d, s, before, d.kind[s, k], 1.0)
    d.node[s, k], d.kind[s, k] = n, kind_there
    if d.origin[s, k] == n:
        leave(f, d, s, n, kind_there, -1.0)
        d.goal[s, k], d.step[s, k], d.gain[s, k] = -1, -1, 0.0
    elif d.goal[s, k] < 0:
        d.goal[s, k], d.step[s, k], d.gain[s, k] = goal, step, gain
    occupy(f, d, s, n, kind_there, 1.0)
    charge(f, d, s, 1.0)


@numba.njit(cache=True, nogil=True)
def widen(f, d, s, k, goal):  # type: ignore[no-untyped-def]
    """A hot replica becomes full."""
    charge(f, d, s, -1.0)
    occupy(f, d, s, d.node[s, k], HOT, -1.0)
    d.kind[s, k] = FULL
    if d.goal[s, k] < 0:
        d.goal[s, k], d.gain[s, k] = goal, 1.0
    occupy(f, d, s, d.node[s, k], FULL, 1.0)
    charge(f, d, s, 1.0)


@numba.njit(cache=True, nogil=True)
def drop(f, d, s, k):  # type: ignore[no-untyped-def]
    charge(f, d, s, -1.0)
    here = d.node[s, k]
    occupy(f, d, s, here, d.kind[s, k], -1.0)
    if d.origin[s, k] == here:
        leave(f, d, s, here, d.kind[s, k], 1.0)
    d.node[s, k], d.kind[s, k], d.weight[s, k], d.origin[s, k] = -1, 0, 0.0, -1
    d.goal[s, k], d.step[s, k], d.gain[s, k] = -1, -1, 0.0
    charge(f, d, s, 1.0)


@numba.njit(cache=True, nogil=True)
def dropped_back(f, d, s):  # type: ignore[no-untyped-def]
    """Where no weight is left, the shard's replicas share by capacity."""
    total = 0.0
    for k in range(d.node.shape[1]):
        total += d.weight[s, k]
    if total <= 0.0:
        even_weights(f, d, s)
