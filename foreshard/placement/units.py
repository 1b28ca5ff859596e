"""A draft's replicas as units of the inner problem, and back: what the local search improves."""

from __future__ import annotations

import numpy as np

from foreshard.placement.assignment import Assignment
from foreshard.placement.cluster import FULL, Bools, Cluster, Floats, Ints
from foreshard.placement.loads import shares
from foreshard.placement.working import Draft, Facts


def units_of(draft: Draft) -> tuple[Ints, Ints]:
    """Shard and place of each replica, sorted by them; each of shape (U,)."""
    shard, place = np.nonzero(draft.node >= 0)
    return shard.astype(np.int64), place.astype(np.int64)


def assignment_of(cluster: Cluster, facts: Facts, draft: Draft, overload_weight: float) -> Assignment:
    """The units with the shares of load that the draft's weights give them. Time O(units × (T × F + R))."""
    shards, nodes, costs = cluster.shards, cluster.nodes, cluster.costs
    shard, place = units_of(draft)
    node, kind, origin = (a[shard, place].astype(np.int64) for a in (draft.node, draft.kind, draft.origin))
    share = shares(cluster, draft.held)[shard, place]
    part = np.where(kind == FULL, 1.0, shards.hot_part()[shard])
    loaded = bool(shards.mean.any() or shards.own_square.any() or shards.common.any())
    steps = slice(None) if loaded else slice(0, 0)
    # What has left a node that takes no shards does not go back, and counts as one that is made anew.
    initial = np.where((origin >= 0) & nodes.live[origin] & (nodes.accepts[origin] | (origin == node)), origin, -1)
    group, zones, near_start, near = _groups(cluster, draft, shard)
    policy = cluster.policy
    return Assignment(
        use=np.ascontiguousarray(part[:, None] * shards.need[shard]),
        mean=np.ascontiguousarray(share[:, None] * shards.mean[shard][:, steps]),
        own_square=np.ascontiguousarray((share * share)[:, None] * shards.own_square[shard][:, steps]),
        common=np.ascontiguousarray(share[:, None, None] * shards.common[shard][:, steps]),
        initial=initial,
        fixed=_fixed(cluster, facts, shard, node),
        permit=shards.permit[shard],
        conflict=np.where(_distinct(cluster)[shard], len(shards.ids) + shards.group[shard], shard),
        group=group,
        move_cost=shards.size[shard, kind] * (policy.gigabyte_cost / 1e9) + shards.move_cost[shard],
        min_zones=zones,
        near_start=near_start,
        near=near,
        limit=_limits(cluster),
        soft=nodes.soft,
        ceiling=np.ascontiguousarray(facts.ceiling[:, steps]),
        accepts=nodes.accepts,
        zone=nodes.zone,
        neighbourhood=nodes.neighbourhood,
        allowed=cluster.allowed,
        transient=costs.transient,
        soft_cost=costs.soft,
        balance_first=costs.balance_first,
        balance_second=costs.balance_second,
        balance_target=costs.balance_target,
        balance_cost=costs.balance,
        pair_cost=costs.pair,
        group_move_cost=policy.group_move_cost,
        overload_cost=overload_weight,
        z=policy.risk_z,
    )


def _limits(cluster: Cluster) -> Floats:
    """Hard limits, shape (N, R); of nodes that hold nothing any more 0 where room is balanced, which must be finite."""
    limit = cluster.nodes.limit.copy()
    balanced = np.unique(np.concatenate([cluster.costs.balance_first, cluster.costs.balance_second]))
    limit[np.ix_(~cluster.nodes.live, balanced)] = 0.0
    return limit


def _distinct(cluster: Cluster) -> Bools:
    """Which shards are in a group that keeps its replicas on distinct nodes, shape (S,)."""
    group = cluster.shards.group
    return np.append(cluster.groups.distinct, False)[group]  # group -1 reads the last


def _fixed(cluster: Cluster, facts: Facts, shard: Ints, node: Ints) -> Bools:
    """Units that stay: pinned ones, and those that the budget left on nodes that take none."""
    fixed: Bools = ~cluster.nodes.accepts[node]
    if facts.pinned.shape[0]:
        fixed |= facts.pinned[shard, node]
    return fixed


def _groups(cluster: Cluster, draft: Draft, shard: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Group of each unit, and per group its zones and what it must be near.

    A shard of several replicas without a group is one of its own where zones are shared, so that it is spread no less than now.
    """
    groups, zone = cluster.groups, cluster.nodes.zone
    group = cluster.shards.group[shard]
    shared = len(np.unique(zone)) < len(zone)
    several = (draft.node >= 0).sum(axis=1) > 1
    alone = np.flatnonzero(several & (cluster.shards.group < 0)) if shared else np.zeros(0, dtype=np.int64)
    if not alone.size:
        return group, groups.min_zones, groups.near_start, groups.near
    own = np.full(len(several), -1, dtype=np.int64)
    own[alone] = len(groups.ids) + np.arange(alone.size)
    zones = np.sort(np.where(draft.node[alone] >= 0, zone[draft.node[alone]], -1), axis=1)
    reached = (np.diff(zones, axis=1) != 0).sum(axis=1) + 1 - (zones[:, 0] < 0)
    starts = np.concatenate([groups.near_start, np.full(alone.size, groups.near_start[-1])])
    return (
        np.where(group >= 0, group, own[shard]),
        np.concatenate([groups.min_zones, reached]).astype(np.int64),
        starts.astype(np.int64),
        groups.near,
    )
