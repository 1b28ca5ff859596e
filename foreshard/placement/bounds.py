"""Lower bounds that a plan is measured against: no plan can have a lower peak, or keep the policy with fewer bytes."""

from __future__ import annotations

import math

import numpy as np

from foreshard.placement.instance import FULL, HOT, NONE, Bools, Instance
from foreshard.placement.load import NodeLoads, quantile


def peak_lower_bound(instance: Instance, usable: Bools, served: Bools, replicas: int) -> float:
    """The lowest peak utilisation of any placement of the `served` shards, shape (S,), on the `usable` nodes, shape (N,).

    No shard has more than `replicas`. Without nodes or shards the bound is 0.

    A node's quantile is its mean plus z times the length of its vector of spreads. By the triangle inequality these sum to at
    least the quantile of the whole pool as one node, and the highest utilisation is at least the pool's load over its capacity.
    Likewise each shard alone, over the largest nodes that may hold it. Time O(shards × steps).
    """
    capacity = np.sort(instance.capacity[usable])[::-1]
    if not capacity.size or not served.any():
        return 0.0
    z = instance.policy.risk_z
    loads = instance.mean[served], instance.common[served], instance.own_square[served]
    pool = NodeLoads(*(np.add.accumulate(a, axis=0)[-1] for a in loads))
    bound = float(quantile(pool, z).max()) / math.fsum(capacity)
    alone = quantile(NodeLoads(*loads), z)
    bound = max(bound, float(alone.max()) / math.fsum(capacity[:replicas]))
    return math.floor(bound * (1 - 1e-9) * 1e9) / 1e9


def extras_wanted(instance: Instance, shard: int, extras: int) -> int:
    """How many replicas beyond the minimum the shard should have, when it has `extras` now.

    One more for each time its peak exceeds the hot threshold; one less only below the cold threshold, so that a load near
    either does not make replicas come and go.
    """
    threshold = instance.policy.hot_share * _mean_capacity(instance)
    peak = float(instance.mean[shard].max())
    limit = instance.extra_limit
    due = sum(peak > k * threshold for k in range(1, limit + 1))
    kept = sum(peak > 0 and peak >= k * threshold * instance.policy.cold_factor for k in range(1, limit + 1))
    return min(max(extras, due), max(due, kept))


def bytes_lower_bound(instance: Instance) -> int:
    """The fewest bytes that give every shard its full replicas and its share of further ones on accepting nodes."""
    if not instance.accepting:
        return 0
    return sum(_shard_bytes(instance, shard) for shard in range(len(instance.shard_ids)))


def _shard_bytes(instance: Instance, shard: int) -> int:
    held = instance.kind[shard]
    full = int(((held == FULL) & instance.accepts).sum())
    hot = int(((held == HOT) & instance.accepts).sum())
    live = int(((held > NONE) & instance.live).sum())
    wanted = instance.full_wanted + extras_wanted(instance, shard, max(0, live - instance.full_wanted))
    lacking, added = max(0, instance.full_wanted - full), max(0, wanted - full - hot)
    size = instance.size[shard]
    widening, whole = max(0, int(size[FULL] - size[HOT])), int(size[FULL])
    extra = min(int(size[HOT]), whole)
    return min(
        w * widening + (lacking - w) * whole + max(0, added - (lacking - w)) * extra for w in range(min(lacking, hot) + 1)
    )


def repair_bytes(instance: Instance) -> int:
    """The fewest bytes that bring back full replicas lost with dead nodes, which even the smallest budget must do."""
    total = 0
    if not instance.accepting:
        return total
    for shard in range(len(instance.shard_ids)):
        full = int(((instance.kind[shard] == FULL) & instance.live).sum())
        hot = int(((instance.kind[shard] == HOT) & instance.accepts).sum())
        lacking = max(0, instance.full_wanted - full)
        size = instance.size[shard]
        cheap = min(lacking, hot)
        total += cheap * min(int(size[FULL]), max(0, int(size[FULL] - size[HOT]))) + (lacking - cheap) * int(size[FULL])
    return total


def _mean_capacity(instance: Instance) -> float:
    return math.fsum(instance.capacity[instance.accepts]) / max(1, instance.accepting)
