"""How many replicas each shard should have."""

from __future__ import annotations

import numpy as np

from foreshard.placement.cluster import Cluster, Holdings, Ints


def wanted_replicas(cluster: Cluster, held: Holdings) -> Ints:
    """Replicas that each shard should have, shape (S,), from its predicted peak and how many it has on live nodes now.

    Beyond the least one more for each time its peak exceeds the hot threshold; one less only below the cold threshold, so that
    a load near either does not make replicas come and go. A shard has no more than permitted nodes. Time O(S × (K + T)).
    """
    shards, nodes, policy = cluster.shards, cluster.nodes, cluster.policy
    placeable = np.where(shards.permit >= 0, permitted(cluster)[shards.permit], cluster.accepting)
    # An isolated entity has one replica of its own, and none any more where it goes back into its slot.
    least = np.where(shards.parent >= 0, np.minimum(shards.most, 1), shards.least)
    live = ((held.node >= 0) & nodes.live[held.node]).sum(axis=1)
    limit = np.maximum(np.minimum(shards.most, placeable) - least, 0)
    threshold = policy.hot_share * mean_capacity(cluster)
    times = shards.mean.max(axis=1, initial=0.0) / threshold if threshold > 0 else np.zeros(len(least))
    due = np.clip(np.ceil(times) - 1.0, 0, limit).astype(np.int64)
    cold = times / policy.cold_factor if policy.cold_factor > 0 else np.where(times > 0, np.inf, 0.0)
    kept = np.clip(np.floor(cold), 0, limit).astype(np.int64)
    extras = np.minimum(np.maximum(np.maximum(live - least, 0), due), np.maximum(due, kept))
    pinned = np.diff(shards.pin_start)
    wanted: Ints = np.maximum(np.minimum(least, np.maximum(placeable, 1)) + extras, pinned)
    return wanted


def permitted(cluster: Cluster) -> Ints:
    """How many accepting nodes each row of `allowed` leaves, and 0 behind the last for shards without a row."""
    rows: Ints = (cluster.allowed & cluster.nodes.accepts[None, :]).sum(axis=1)
    return np.append(rows, 0)


def mean_capacity(cluster: Cluster) -> float:
    """Of the accepting nodes; 0 if there is none."""
    return float(cluster.nodes.capacity[cluster.nodes.accepts].mean()) if cluster.accepting else 0.0
