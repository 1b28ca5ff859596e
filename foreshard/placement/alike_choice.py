"""Which of a node's shards go where, when only their numbers are settled: those that rank the target highest."""

from __future__ import annotations

import numba
import numpy as np

from foreshard.ranking import score


@numba.njit(cache=True, nogil=True)
def choose(node, ids, hashes, capacity, source, target, amount):  # type: ignore[no-untyped-def]
    """The shards that move and the pair of nodes by which each does; pairs name (source, target, amount), sorted by source.

    `node` (S,): where each shard is; each pair gets its amount. Of a source's shards and targets the highest scores are taken
    first. Time O(Σ shards × targets of each source, and their sorting).
    """
    by_node = np.argsort(node, kind="mergesort")
    ordered = node[by_node]
    total = int(amount.sum())
    shard, arc = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    count, first = 0, 0
    while first < len(source):
        last = first
        while last < len(source) and source[last] == source[first]:
            last += 1
        low = np.searchsorted(ordered, source[first])
        high = np.searchsorted(ordered, source[first] + 1)
        arcs = last - first
        value = np.empty((high - low) * arcs)
        for i in range(high - low):
            for j in range(arcs):
                n = target[first + j]
                value[i * arcs + j] = -score(ids[by_node[low + i]], hashes[n], capacity[n])
        gone, left = np.zeros(high - low, dtype=np.bool_), amount[first:last].copy()
        rest = left.sum()
        for place in np.argsort(value, kind="mergesort"):
            i, j = place // arcs, place % arcs
            if rest == 0:
                break
            if not gone[i] and left[j] > 0:
                gone[i] = True
                left[j] -= 1
                rest -= 1
                shard[count], arc[count] = by_node[low + i], first + j
                count += 1
        first = last
    return shard[:count], arc[:count]
