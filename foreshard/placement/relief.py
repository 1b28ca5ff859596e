"""Compiled parts of the movement bound: the load that sets of nodes cannot shed without copies, and the cheapest copies.

A set of nodes is locked in a shard's load as far as every replica that could answer it is on the set's nodes: no change of
weights takes it off the set, only a copy elsewhere.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from foreshard.placement.cluster import FULL
from foreshard.placement.knapsack import common_divisor, least_fraction, least_whole, rounded_up
from foreshard.placement.loads import add_share, quantile_at

STEPS = 3  # of a set's steps, those with the largest excess; each gives a valid bound


@numba.njit(cache=True, nogil=True)
def locked(node, kind, label, recent, usable):  # type: ignore[no-untyped-def]
    """The set that each shard is locked in, -1 for none, the part of its load that is, and whether all replicas are: (S,) each.

    `label` (N,): the set of each node, -1 for none. All of the load where all replicas are in the set, what only full ones
    answer where just these are. A shard that has no full replica on a `usable` node gets one by repair and is not locked.
    """
    count = node.shape[0]
    into, part, wholly = np.full(count, -1, dtype=np.int64), np.zeros(count), np.zeros(count, dtype=np.bool_)
    for s in range(count):
        every, full = -2, -2
        for k in range(node.shape[1]):
            n = node[s, k]
            if n < 0 or not usable[n]:
                continue
            every = label[n] if every == -2 or every == label[n] else -1
            if kind[s, k] == FULL:
                full = label[n] if full == -2 or full == label[n] else -1
        if full >= 0:
            into[s] = full
            wholly[s] = every == full
            part[s] = 1.0 if wholly[s] else 1.0 - recent[s]
    return into, part, wholly


@numba.njit(cache=True, nogil=True)
def locked_loads(into, part, mean, own_square, common, sets):  # type: ignore[no-untyped-def]
    """Loads that each set is locked in: mean and own_square (sets, T), common (sets, T, F)."""
    steps, factors = mean.shape[1], common.shape[2]
    held, square = np.zeros((sets, steps)), np.zeros((sets, steps))
    shared = np.zeros((sets, steps, factors))
    for s in range(into.shape[0]):
        if into[s] >= 0 and part[s] > 0.0:
            add_share(held, square, shared, into[s], part[s], mean[s], own_square[s], common[s])
    return held, square, shared


@numba.njit(cache=True, nogil=True)
def unsteady(mean, common, z):  # type: ignore[no-untyped-def]
    """Where one more shard may lower a node's quantile, shape (T, F).

    That takes a common part above mean / z, and of both signs; such a factor is left out of a lower estimate.
    """
    steps, factors = mean.shape[1], common.shape[2]
    positive, negative = np.zeros((steps, factors), dtype=np.bool_), np.zeros((steps, factors), dtype=np.bool_)
    beyond = np.zeros(steps, dtype=np.bool_)
    for s in range(mean.shape[0]):
        for t in range(steps):
            square = 0.0
            for f in range(factors):
                square += common[s, t, f] * common[s, t, f]
                positive[t, f] |= common[s, t, f] > 0.0
                negative[t, f] |= common[s, t, f] < 0.0
            beyond[t] |= z * math.sqrt(square) > mean[s, t] * (1.0 - 1e-12)
    mixed = positive & negative
    for t in range(steps):
        if not beyond[t]:
            mixed[t] = False
    return mixed


@numba.njit(cache=True, nogil=True)
def _slopes(items, part, t, mean, own_square, common, loads, square, z):  # type: ignore[no-untyped-def]
    """By how much at most the set's quantile falls when each item's locked part leaves: the slope of a convex function."""
    length = math.sqrt(square)
    relief = np.empty(len(items))
    for i in range(len(items)):
        s, p = items[i], part[items[i]]
        spread = 0.0
        if length > 0.0:
            spread = p * p * own_square[s, t]
            for f in range(common.shape[2]):
                spread += p * common[s, t, f] * loads[f]
            spread /= length
        relief[i] = max(0.0, p * mean[s, t] + z * spread)
    return relief


@numba.njit(cache=True, nogil=True)
def _cheapest(items, relief, whole, hot, reach, need):  # type: ignore[no-untyped-def]
    """Least bytes that take `need` off: a full copy takes all of an item's relief, a hot one `reach` of it."""
    count = len(items)
    parts, prices, least = np.zeros(2 * count), np.zeros(2 * count), np.zeros(count)
    for i in range(count):
        s = items[i]
        least[i] = whole[s]
        parts[i], prices[i] = relief[i], whole[s]
        if reach[s] > 0.0:
            least[i] = min(whole[s], hot[s])
            if hot[s] < reach[s] * whole[s]:
                parts[i], prices[i] = reach[s] * relief[i], hot[s]
                parts[count + i], prices[count + i] = (1.0 - reach[s]) * relief[i], whole[s] - hot[s]
    return max(least_fraction(parts, prices, need), least_whole(relief, least, need))


@numba.njit(cache=True, nogil=True)
def relief_costs(into, part, mean, own_square, common, held, square, shared, excess, z, whole, hot, reach, carried):  # type: ignore[no-untyped-def]
    """Least bytes (sets,) that bring each set's locked load down by its `excess` (sets, T), and the load copied at one step.

    Of each shard: `whole` and `hot`, the bytes of a copy elsewhere; `reach`, the part of its locked load that a hot copy can
    take, 0 where none is of use. The load is of the whole shards `carried` (S,), at the step with the largest excess in all.
    """
    sets, steps = excess.shape
    total = np.zeros(steps)
    for k in range(sets):
        total += np.maximum(excess[k], 0.0)
    worst = int(np.argmax(total))
    bytes_least, load_least = np.zeros(sets), 0.0
    order = np.argsort(into, kind="mergesort")
    start = np.searchsorted(into[order], np.arange(sets + 1))
    for k in range(sets):
        if excess[k].max() <= 0.0:
            continue
        items = order[start[k] : start[k + 1]]
        prices = np.empty(2 * len(items), dtype=np.int64)
        prices[: len(items)] = whole[items]
        prices[len(items) :] = hot[items]
        divisor = common_divisor(prices)
        ranked = np.argsort(-excess[k], kind="mergesort")
        for rank in range(min(STEPS, steps)):
            t = ranked[rank]
            if excess[k, t] <= 0.0:
                break
            spread = max(square[k, t], 0.0)
            for f in range(common.shape[2]):
                spread += shared[k, t, f] * shared[k, t, f]
            relief = _slopes(items, part, t, mean, own_square, common, shared[k, t], spread, z)
            least = _cheapest(items, relief, whole, hot, reach, excess[k, t])
            bytes_least[k] = max(bytes_least[k], rounded_up(least, divisor))
        if excess[k, worst] > 0.0:
            spread = max(square[k, worst], 0.0)
            for f in range(common.shape[2]):
                spread += shared[k, worst, f] * shared[k, worst, f]
            relief = _slopes(items, part, worst, mean, own_square, common, shared[k, worst], spread, z)
            load_least += least_fraction(relief, mean[items, worst] * carried[items], excess[k, worst])
    return bytes_least, load_least, worst


@numba.njit(cache=True, nogil=True)
def set_quantiles(held, square, shared, z):  # type: ignore[no-untyped-def]
    """The load quantile of each set at each step."""
    out = np.zeros(held.shape)
    for k in range(held.shape[0]):
        for t in range(held.shape[1]):
            out[k, t] = quantile_at(held[k, t], square[k, t], shared[k, t], z)
    return out
