"""Whether a draft breaks a hard constraint."""

from __future__ import annotations

import numpy as np

from foreshard.placement.cluster import FULL, Bools, Cluster, Ints
from foreshard.placement.working import Draft


def is_broken(cluster: Cluster, draft: Draft) -> bool:
    """Whether something hard is not as it has to be in the end. Time O(S × K + N × R + replicas in constrained groups)."""
    return bool(
        _short_of_replicas(cluster, draft).any()
        or _unpinned(cluster, draft)
        or (draft.used > cluster.nodes.limit * (1 + 1e-12)).any()
        or any(_group_broken(cluster, draft, g) for g in range(len(cluster.groups.ids)))
    )


def _stays(cluster: Cluster, draft: Draft) -> Bools:
    """Which replicas are where they may stay, shape (S, K)."""
    accepts = np.append(cluster.nodes.accepts, False)[draft.node]
    permit = cluster.shards.permit
    if not len(cluster.allowed):
        return accepts
    allowed = np.vstack([cluster.allowed, np.ones((1, cluster.allowed.shape[1]), dtype=np.bool_)])
    found: Bools = accepts & allowed[permit[:, None], draft.node]
    return found


def _short_of_replicas(cluster: Cluster, draft: Draft) -> Bools:
    stays = _stays(cluster, draft)
    full = ((draft.kind == FULL) & stays).sum(axis=1)
    alone = (cluster.shards.parent >= 0) & (cluster.shards.most > 0) & ~stays.any(axis=1)
    lingers = ((draft.node >= 0) & ~stays).any(axis=1)
    found: Bools = (full < cluster.shards.least) | alone | lingers
    return found


def _unpinned(cluster: Cluster, draft: Draft) -> bool:
    shards = cluster.shards
    owner = np.repeat(np.arange(len(shards.ids)), np.diff(shards.pin_start))
    open_pins = cluster.nodes.accepts[shards.pins]
    held = (draft.node[owner] == shards.pins[:, None]).any(axis=1)
    return bool((open_pins & ~held).any())


def _group_broken(cluster: Cluster, draft: Draft, group: int) -> bool:
    groups = cluster.groups
    near = groups.near[groups.near_start[group] : groups.near_start[group + 1]]
    if not groups.distinct[group] and groups.min_zones[group] <= 1 and not near.size:
        return False
    nodes = _nodes_of(cluster, draft, group)
    if groups.distinct[group] and len(np.unique(nodes)) < len(nodes):
        return True
    if nodes.size and len(np.unique(cluster.nodes.zone[nodes])) < groups.min_zones[group]:
        return True
    place = cluster.nodes.neighbourhood
    return any(np.setdiff1d(place[nodes], place[_nodes_of(cluster, draft, int(h))]).size for h in near)


def _nodes_of(cluster: Cluster, draft: Draft, group: int) -> Ints:
    rows = draft.node[cluster.shards.group == group]
    nodes: Ints = rows[rows >= 0].astype(np.int64)
    return nodes
