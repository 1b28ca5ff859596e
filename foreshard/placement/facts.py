"""What compiled code reads of a cluster, gathered once."""

from __future__ import annotations

import numpy as np

from foreshard.hashing import node_hashes
from foreshard.placement.cluster import Bools, Cluster
from foreshard.placement.loads import ceiling
from foreshard.placement.working import Facts


def facts_of(cluster: Cluster) -> Facts:
    """The cluster's arrays, with the ceilings of its nodes and the members of its groups. Time O(S × T + N × T)."""
    shards, nodes, groups = cluster.shards, cluster.nodes, cluster.groups
    order = np.argsort(shards.group, kind="stable")
    members = order[shards.group[order] >= 0]
    counts = np.bincount(shards.group[members], minlength=len(groups.ids))
    facts = Facts(
        shard_ids=shards.ids,
        mean=shards.mean,
        own_square=shards.own_square,
        common=shards.common,
        recent=shards.recent,
        size=shards.size,
        need=shards.need,
        group=shards.group,
        permit=shards.permit,
        allowed=cluster.allowed,
        group_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        members=members,
        distinct=groups.distinct,
        near_start=groups.near_start,
        near=groups.near,
        hashes=node_hashes(nodes.ids),
        capacity=nodes.capacity,
        accepts=nodes.accepts,
        live=nodes.live,
        zone=nodes.zone,
        neighbourhood=nodes.neighbourhood,
        limit=nodes.limit,
        transient=cluster.costs.transient,
        ceiling=ceiling(cluster),
        target=nodes.target * nodes.capacity,
        pinned=_pinned(cluster),
        delicate=_delicate(cluster),
        held_node=cluster.held.node,
        held_kind=cluster.held.kind,
        z=float(cluster.policy.risk_z),
    )
    arrays = {name: np.ascontiguousarray(value) for name, value in facts._asdict().items() if name != "z"}
    return Facts(**arrays, z=facts.z)


def _delicate(cluster: Cluster) -> Bools:
    groups = cluster.groups
    delicate = groups.min_zones > 1
    delicate[groups.near] = True
    delicate |= np.diff(groups.near_start) > 0
    found: Bools = np.append(delicate, False)[cluster.shards.group]
    return found


def _pinned(cluster: Cluster) -> Bools:
    shards = cluster.shards
    if not len(shards.pins):
        return np.zeros((0, 0), dtype=np.bool_)
    pinned = np.zeros((len(shards.ids), len(cluster.nodes.ids)), dtype=np.bool_)
    pinned[np.repeat(np.arange(len(shards.ids)), np.diff(shards.pin_start)), shards.pins] = True
    return pinned
