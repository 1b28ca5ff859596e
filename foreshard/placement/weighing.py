"""Weights of the replicas, set so that the highest utilisation of any node at any step is as low as the replicas allow.

Changing weights moves no bytes, so this comes before, and instead of, any move that it makes unnecessary. Shards of one
replica have weight 1 and are passed over.
"""

from __future__ import annotations

import numba
import numpy as np

from foreshard.placement.loads import quantile_at
from foreshard.placement.working import charge, load_at

LOWEST = 0.02
ROUNDS = 150
PATIENCE = 25  # rounds without a better peak after which the search for weights ends
_WORK = 1_000_000_000  # loads touched at most: rounds are fewer for very many replicas


@numba.njit(cache=True, nogil=True)
def weigh(f, d, meant):  # type: ignore[no-untyped-def]
    """Sets weights of at least 0.02 that sum to 1 per shard, and charges loads anew; `meant` (N,): load meant for each node.

    They depend on where the replicas are and on the loads, not on the weights before: planning again gives the same ones.
    Multiplicative weight updates after Arora, Hazan and Kale 2012: each round prices every node and step by how near it is to
    the peak and shifts each shard towards its cheaper replicas; the best round wins. Then pairs of nodes are evened out, from
    the most utilised one on. Time O(150 × replicas × steps × factors), fewer rounds for very many replicas.
    """
    several = _several(f, d)
    if several.shape[0] == 0:
        return
    for i in range(several.shape[0]):
        _by_capacity(f, d, several[i])
    rounds = min(ROUNDS, max(4, _WORK // (several.shape[0] * d.node.shape[1] * f.mean.shape[1] * (2 + f.common.shape[2]))))
    base = _base(f, d, several)
    best, best_peak, best_turn = d.weight[several].copy(), np.inf, 0
    for turn in range(rounds):
        _reload(f, d, several, base)
        used = _used(f, d, meant)
        peak = used.max()
        if peak < best_peak * (1 - 1e-4):
            best, best_peak, best_turn = d.weight[several].copy(), peak, turn
        if peak <= 0.0 or turn - best_turn > PATIENCE:
            break
        _shift_prices(f, d, several, used / peak, meant, 1.0 + turn / 10)
    d.weight[several] = best
    _reload(f, d, several, base)
    _even_out(f, d, several, meant)
    for i in range(several.shape[0]):
        _round_weights(f, d, several[i])
    _reload(f, d, several, base)


@numba.njit(cache=True, nogil=True)
def normalise(d):  # type: ignore[no-untyped-def]
    """Brings the weights of each shard to sum 1; shares of load stay."""
    for s in range(d.weight.shape[0]):
        total = d.weight[s].sum()
        if total > 0.0 and abs(total - 1.0) > 1e-9:
            d.weight[s] /= total


@numba.njit(cache=True, nogil=True)
def _several(f, d):  # type: ignore[no-untyped-def]
    found = np.zeros(d.node.shape[0], dtype=np.bool_)
    for s in range(d.node.shape[0]):
        count = 0
        for k in range(d.node.shape[1]):
            if d.node[s, k] >= 0 and f.live[d.node[s, k]]:
                count += 1
        found[s] = count > 1
    return np.flatnonzero(found)


@numba.njit(cache=True, nogil=True)
def _by_capacity(f, d, s):  # type: ignore[no-untyped-def]
    for k in range(d.node.shape[1]):
        n = d.node[s, k]
        d.weight[s, k] = f.capacity[n] if n >= 0 and f.live[n] else 0.0
    _normalise(d, s)


@numba.njit(cache=True, nogil=True)
def _normalise(d, s):  # type: ignore[no-untyped-def]
    """Brings the weights to sum 1 with none below the lowest."""
    total, held = 0.0, 0
    for k in range(d.node.shape[1]):
        if d.weight[s, k] > 0.0:
            total += d.weight[s, k]
            held += 1
    lowest = min(LOWEST, 0.5 / held)
    for k in range(d.node.shape[1]):
        if d.weight[s, k] > 0.0:
            d.weight[s, k] = lowest + (1.0 - lowest * held) * d.weight[s, k] / total


@numba.njit(cache=True, nogil=True)
def _base(f, d, several):  # type: ignore[no-untyped-def]
    """The loads of the shards of one replica."""
    d.mean[:], d.own_square[:], d.common[:] = 0.0, 0.0, 0.0
    at = 0
    for s in range(d.node.shape[0]):
        if at < several.shape[0] and several[at] == s:
            at += 1
        else:
            charge(f, d, s, 1.0)
    return d.mean.copy(), d.own_square.copy(), d.common.copy()


@numba.njit(cache=True, nogil=True)
def _reload(f, d, several, base):  # type: ignore[no-untyped-def]
    d.mean[:], d.own_square[:], d.common[:] = base[0], base[1], base[2]
    for i in range(several.shape[0]):
        charge(f, d, several[i], 1.0)


@numba.njit(cache=True, nogil=True)
def _used(f, d, meant):  # type: ignore[no-untyped-def]
    used = np.empty(d.mean.shape)
    for n in range(used.shape[0]):
        for t in range(used.shape[1]):
            used[n, t] = quantile_at(d.mean[n, t], d.own_square[n, t], d.common[n, t], f.z) / meant[n]
    return used


@numba.njit(cache=True, nogil=True)
def _shift_prices(f, d, several, relative, meant, damping):  # type: ignore[no-untyped-def]
    """Divides each weight by 1 + its price, scaled so that a shard's dearest replica has price 1 / damping."""
    per_load = relative.copy()
    for _ in range(5):
        per_load = per_load * per_load  # the 32nd power, by products alone: exp differs between machines in the last bit
    for n in range(per_load.shape[0]):
        per_load[n] /= meant[n]
    price = np.zeros(d.node.shape[1])
    for i in range(several.shape[0]):
        s, dearest = several[i], 0.0
        for k in range(price.shape[0]):
            price[k] = 0.0
            if d.weight[s, k] > 0.0:
                for t in range(f.mean.shape[1]):
                    price[k] += per_load[d.node[s, k], t] * f.mean[s, t]
                dearest = max(dearest, price[k])
        if dearest > 0.0:
            for k in range(price.shape[0]):
                if d.weight[s, k] > 0.0:
                    d.weight[s, k] /= 1.0 + price[k] / dearest / damping
            _normalise(d, s)


@numba.njit(cache=True, nogil=True)
def _height(f, d, n, meant):  # type: ignore[no-untyped-def]
    worst = 0.0
    for t in range(f.mean.shape[1]):
        worst = max(worst, load_at(f, d, n, t) / meant[n])
    return worst


@numba.njit(cache=True, nogil=True)
def _even_out(f, d, several, meant):  # type: ignore[no-untyped-def]
    """Shifts weight from the most utilised node to the lowest one that shares a shard with it, for as long as that helps."""
    nodes = meant.shape[0]
    height = np.zeros(nodes)
    for n in range(nodes):
        height[n] = _height(f, d, n, meant)
    starts, units = _shards_by_node(d, several, nodes)
    stuck = np.zeros(nodes, dtype=np.bool_)
    for _ in range(20 * nodes):
        top = -1
        for n in range(nodes):
            if not stuck[n] and (top < 0 or height[n] > height[top]):
                top = n
        if top < 0 or height[top] < height.max() * (1.0 - 1e-9):
            break
        stuck[top] = not _lower(f, d, top, units[starts[top] : starts[top + 1]], height, meant)


@numba.njit(cache=True, nogil=True)
def _shards_by_node(d, several, nodes):  # type: ignore[no-untyped-def]
    """The replicas of shards with several, as positions in `several` × K + k, by node."""
    places = d.node.shape[1]
    counts = np.zeros(nodes + 1, dtype=np.int64)
    for i in range(several.shape[0]):
        for k in range(places):
            if d.weight[several[i], k] > 0.0:
                counts[d.node[several[i], k] + 1] += 1
    starts = np.cumsum(counts)
    at = starts[:-1].copy()
    units = np.empty(starts[-1], dtype=np.int64)
    for i in range(several.shape[0]):
        for k in range(places):
            n = d.node[several[i], k]
            if d.weight[several[i], k] > 0.0:
                units[at[n]] = several[i] * places + k
                at[n] += 1
    return starts, units


@numba.njit(cache=True, nogil=True)
def _lower(f, d, top, units, height, meant):  # type: ignore[no-untyped-def]
    """Evens the node out with the lowest node that shares one of its shards; whether that lowered it noticeably."""
    places, before = d.node.shape[1], height[top]
    unit, other = _lowest_sharer(d, units, height)
    if unit < 0 or height[d.node[unit // places, other]] >= before * (1.0 - 1e-6):
        return False
    s, k = unit // places, unit % places
    low, high = 0.0, d.weight[s, k] - min(LOWEST, 0.5 / places)
    whole, whole_other = d.weight[s, k], d.weight[s, other]
    for _ in range(14):
        middle = 0.5 * (low + high)
        _shift(f, d, s, k, other, whole - middle, whole_other + middle)
        if _height(f, d, d.node[s, other], meant) < _height(f, d, top, meant):
            low = middle
        else:
            high = middle
    _shift(f, d, s, k, other, whole - low, whole_other + low)
    for place in range(places):
        if d.weight[s, place] > 0.0:
            height[d.node[s, place]] = _height(f, d, d.node[s, place], meant)
    return height[top] < before * (1.0 - 1e-6)


@numba.njit(cache=True, nogil=True)
def _lowest_sharer(d, units, height):  # type: ignore[no-untyped-def]
    """Of the node's replicas with weight to give, the one whose shard has a replica on the lowest node, and its place there."""
    places = d.node.shape[1]
    best, best_other, lowest = -1, -1, np.inf
    for i in range(units.shape[0]):
        s, k = units[i] // places, units[i] % places
        if d.weight[s, k] <= min(LOWEST, 0.5 / places) * 1.0001:
            continue
        for other in range(places):
            if other != k and d.weight[s, other] > 0.0 and height[d.node[s, other]] < lowest:
                best, best_other, lowest = units[i], other, height[d.node[s, other]]
    return best, best_other


@numba.njit(cache=True, nogil=True)
def _shift(f, d, s, k, other, weight, weight_other):  # type: ignore[no-untyped-def]
    charge(f, d, s, -1.0)
    d.weight[s, k], d.weight[s, other] = weight, weight_other
    charge(f, d, s, 1.0)


@numba.njit(cache=True, nogil=True)
def _round_weights(f, d, s):  # type: ignore[no-untyped-def]
    """Six decimals that sum to 1: the largest takes what rounding leaves."""
    largest, rest = -1, 1_000_000
    for k in range(d.node.shape[1]):
        if d.weight[s, k] > 0.0 and (largest < 0 or d.weight[s, k] > d.weight[s, largest]):
            largest = k
    for k in range(d.node.shape[1]):
        if k != largest and d.weight[s, k] > 0.0:
            parts = max(1, int(np.floor(d.weight[s, k] * 1e6 + 0.5)))
            rest -= parts
            d.weight[s, k] = parts / 1e6
    d.weight[s, largest] = rest / 1e6
