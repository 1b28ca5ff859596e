"""What no policy can do better than: the node counts of one who knows the load, by an exact dynamic program.

The pool is taken as one fluid that always spreads evenly: a node serves as soon as it has booted and one copy could be
verified, and leaves at once. The load is cut into layers of what one node is meant to carry; layer k is served while at least
k nodes run. A path of counts is a path of on and off for each layer, and both its node-seconds (booting included) and its
overload are sums over layers, so the cheapest path of each layer by itself is together the cheapest path of counts, over every
sequence of counts there is.

With `share` 1 and a price p, no replay has less of both node-hours and overload, and none less of node-hours + p × overload:
whatever a policy did with its nodes is one of the paths, and real layouts are less even. Moves and bytes are the least that
spreading evenly over the new count takes, which a policy that spreads unevenly can undercut.
"""

from __future__ import annotations

import numba
import numpy as np

from foreshard.replay.load import Load
from foreshard.replay.outcome import Movement, Outcome, Tally
from foreshard.replay.pool import Pool
from foreshard.replay.trace import Floats, Ints

# An hour of one node's work above what it is meant to carry costs as much as so many node-hours: in effect, forbidden.
FORBIDDEN = 1_000.0


def oracle(load: Load, pool: Pool, *, share: float | None = None, price: float = FORBIDDEN) -> Outcome:
    """The figures of the cheapest path of node counts through the test.

    `share`: the part of its capacity to which a node may be used, the pool's target by default, as for all policies. `price`:
    node-hours for an hour in which the load of one node at that share is above what the nodes carry. Time O(steps × nodes).
    """
    path = counts(load, pool, share=share, price=price)
    step, replicas = pool.defaults.step_seconds, pool.defaults.replicas * len(pool.shard_ids)
    each = load.interval_seconds // step
    lead = lead_steps(pool)
    changes = np.flatnonzero(np.diff(path)) + 1
    tally = Tally(len(load.test), load.interval_seconds, pool.defaults)
    booting = _booting(path, lead)
    volume = pool.defaults.replicas * float(pool.bytes_full.sum())
    moved, moves = np.zeros(path.size), 0
    for at in changes.tolist():
        part = 1.0 - min(path[at - 1], path[at]) / max(path[at - 1], path[at])
        moved[at] = part * volume
        moves += int(np.ceil(part * replicas))
    begins = np.unique(np.concatenate([np.arange(0, path.size, each), changes, np.flatnonzero(np.diff(booting)) + 1]))
    for at, until in zip(begins.tolist(), [*begins[1:].tolist(), path.size], strict=True):
        interval, count = at // each, int(path[at])
        total = float(load.test[interval].sum())
        paid = count + int(booting[at])
        tally.add(interval, np.full(count, total / count), np.full(count, pool.capacity), paid, until - at, float(moved[at]))
    return tally.outcome(Movement(moves, changes.size))


def counts(load: Load, pool: Pool, *, share: float | None = None, price: float = FORBIDDEN) -> Ints:
    """The nodes that serve in each step of the test on the cheapest path, shape (steps,); at least `replicas`."""
    usable = pool.capacity * (pool.defaults.target if share is None else share)
    totals = np.repeat(load.test.sum(axis=1), load.interval_seconds // pool.defaults.step_seconds)
    layers = max(pool.defaults.replicas, min(pool.nodes, int(np.ceil(totals.max() / usable))))
    path = np.full(totals.size, pool.defaults.replicas, dtype=np.int64)
    for layer in range(pool.defaults.replicas, layers):
        path += _layer(np.clip(totals / usable - layer, 0.0, 1.0), lead_steps(pool), price)
    return path


def lead_steps(pool: Pool) -> int:
    """Whole steps from a node's start until it can serve, rounded down, as a bound must be."""
    return (pool.defaults.boot_seconds + pool.defaults.verify_seconds) // pool.defaults.step_seconds


def _booting(path: Ints, lead: int) -> Ints:
    """How many nodes are paid for without serving yet, in each step."""
    grows = np.maximum(np.diff(path, prepend=path[0]), 0)
    ahead = np.concatenate([np.cumsum(grows), np.full(lead, grows.sum())])
    found: Ints = ahead[lead:] - np.cumsum(grows)
    return found


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # called from Python
def _layer(demand: Floats, lead: int, price: float) -> Ints:
    """When the node of one layer serves (1) or not (0), cheapest; `demand`: the part of its load in each step.

    A node costs 1 a step from `lead` steps before it serves. Whether it serves in the first step is free to choose.
    """
    steps = len(demand)
    came = np.zeros((steps, 2), dtype=np.int8)
    off, on = demand[0] * price, 1.0
    for t in range(1, steps):
        starts = off + lead if t >= lead else np.inf
        came[t, 1] = on <= starts
        came[t, 0] = on < off
        off, on = min(off, on) + demand[t] * price, min(on, starts) + 1.0
    served = np.zeros(steps, dtype=np.int64)
    state = 1 if on < off else 0
    for t in range(steps - 1, -1, -1):
        served[t] = state
        state = came[t, state]
    return served
