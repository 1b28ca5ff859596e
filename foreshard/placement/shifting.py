"""What moving single replicas between nodes is made of."""

from __future__ import annotations

import numba
import numpy as np

from foreshard.placement.loads import share_row
from foreshard.placement.placing import MOVES, ROOM, pay, relocate
from foreshard.placement.working import load_at, load_with


@numba.njit(cache=True, nogil=True)
def by_node(d, nodes):  # type: ignore[no-untyped-def]
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


@numba.njit(cache=True, nogil=True)
def share_of(f, d, s, k):  # type: ignore[no-untyped-def]
    row = np.zeros(d.node.shape[1])
    share_row(d.node[s], d.kind[s], d.weight[s], f.live, f.recent[s], row)
    return row[k]


@numba.njit(cache=True, nogil=True)
def excess(f, d, n, above):  # type: ignore[no-untyped-def]
    """Σ over steps of the load above `above`, shape (T,)."""
    total = 0.0
    for t in range(f.mean.shape[1]):
        total += max(0.0, load_at(f, d, n, t) - above[t])
    return total


@numba.njit(cache=True, nogil=True)
def excess_with(f, d, n, share, s, above):  # type: ignore[no-untyped-def]
    total = 0.0
    for t in range(f.mean.shape[1]):
        total += max(0.0, load_with(f, d, n, t, share, s) - above[t])
    return total


@numba.njit(cache=True, nogil=True)
def is_above(f, d, n, aim):  # type: ignore[no-untyped-def]
    for t in range(f.mean.shape[1]):
        if load_at(f, d, n, t) > aim[t] * ROOM:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def movable(f, d, s, k, n):  # type: ignore[no-untyped-def]
    return d.node[s, k] == n and not f.delicate[s] and not (f.pinned.shape[0] and f.pinned[s, n])


@numba.njit(cache=True, nogil=True)
def worst_step(f, d, n, s, share):  # type: ignore[no-untyped-def]
    """The first step at which the node is above its ceiling, else its highest; and the load the shard carries on it then."""
    worst, highest = 0, -1.0
    for t in range(f.mean.shape[1]):
        load = load_at(f, d, n, t)
        if load > f.ceiling[n, t] * ROOM:
            return t, share * f.mean[s, t]
        if load > highest:
            worst, highest = t, load
    return worst, share * f.mean[s, worst]


@numba.njit(cache=True, nogil=True)
def move(f, d, s, k, n, goal, share, budget):  # type: ignore[no-untyped-def]
    """Moves the replica and pays for it; going back to where it came from is paid back."""
    step, gain = worst_step(f, d, d.node[s, k], s, share)
    size = f.size[s, d.kind[s, k]]
    if d.origin[s, k] == d.node[s, k]:
        pay(budget, size)
    elif d.origin[s, k] == n:
        pay(budget, -size)
        budget[MOVES] += 2
    relocate(f, d, s, k, n, d.kind[s, k], goal, step, gain)
