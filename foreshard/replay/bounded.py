"""Shards on nodes by consistent hashing with bounded loads alone.

A shard goes to the nodes that it ranks highest among those that stay within `bounded_load` × the mean load of the nodes.
Source: Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads, SODA 2018, with the ranking of rendezvous
hashing in place of the circle. All replicas here are full ones of equal weight, so each node's load is the sum of its
replicas' parts.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from foreshard.placement.cluster import FULL, NONE, Bools, Holdings
from foreshard.replay.pool import Pool
from foreshard.replay.trace import Floats, Ints

# A shard gets one more replica when each would carry more than this share of what a node is meant to.
_LARGEST_PART = 0.5


def ranked_within_bounds(pool: Pool, nodes: Bools, rates: Floats) -> Holdings:
    """Every shard at the highest-ranked of `nodes` (N,) with room, for expected loads `rates` (S,); what is held plays no part.

    Needs at least `replicas` nodes. Time O(S × N).
    """
    defaults = pool.defaults
    most = min(defaults.max_replicas, int(nodes.sum()))
    wanted = np.ceil(rates / (_LARGEST_PART * pool.usable)).astype(np.int64).clip(min(defaults.replicas, most), most)
    bound = defaults.bounded_load * float(rates.sum()) / float(nodes.sum())
    node = np.full((len(rates), defaults.max_replicas), -1, dtype=np.int32)
    _fill(pool.preference, nodes, rates / wanted, wanted, bound, node)
    used = node >= 0
    return Holdings(node, np.where(used, FULL, NONE).astype(np.int8), np.where(used, 1.0 / wanted[:, None], 0.0))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # called from Python
def _fill(
    preference: npt.NDArray[np.int32],
    accepts: Bools,
    part: Floats,
    wanted: Ints,
    bound: float,
    node: npt.NDArray[np.int32],
) -> None:
    """In the order of shards; where no node has room, on the least loaded."""
    load = np.zeros(len(accepts))
    count = np.zeros(len(part), dtype=np.int64)
    for s in range(len(part)):
        while count[s] < wanted[s]:
            chosen = -1
            for n in preference[s]:
                free = accepts[n] and not (node[s, : count[s]] == n).any()
                if free and load[n] + part[s] <= bound:
                    chosen = n
                    break
                if free and (chosen < 0 or load[n] < load[chosen]):
                    chosen = n
            node[s, count[s]] = chosen
            count[s] += 1
            load[chosen] += part[s]
