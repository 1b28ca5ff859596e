"""Refuses a problem that contradicts itself, whoever made it; documents are checked more closely at the edge (documents.py)."""

from __future__ import annotations

from foreshard.errors import ForeshardError
from foreshard.model import Layout, PlacementProblem, ShardLoad


def refuse_contradictions(problem: PlacementProblem) -> None:
    """Raises ForeshardError saying what contradicts what and how to mend it."""
    _nodes(problem)
    if len({load.shard_id for load in problem.shards}) != len(problem.shards):
        raise ForeshardError(f"pool {problem.pool_id}: shards: two shards have the same shard_id; give each shard once")
    for load in problem.shards:
        _load(load, len(problem.steps))
    _layout(problem.layout)
    if problem.policy.min_full_replicas < 1:
        raise ForeshardError(f"policy.min_full_replicas must be 1 or more, not {problem.policy.min_full_replicas}")
    _references(problem)


def _nodes(problem: PlacementProblem) -> None:
    if not any(n.is_live for n in problem.nodes):
        raise ForeshardError(f"pool {problem.pool_id} has no live node; add one before planning")
    if len({n.node_id for n in problem.nodes}) != len(problem.nodes):
        raise ForeshardError(f"pool {problem.pool_id}: nodes: two nodes have the same node_id; name each node once")
    for node in problem.nodes:
        if not 0 < node.capacity < float("inf"):
            raise ForeshardError(f"node {node.node_id}: capacity must be above 0 and finite, not {node.capacity}")


def _load(load: ShardLoad, steps: int) -> None:
    lengths = {len(load.mean), len(load.spread_own)} | ({len(load.spread_common)} if load.spread_common else set())
    if lengths != {steps}:
        raise ForeshardError(
            f"shard {load.shard_id}: mean and spreads have {sorted(lengths)} values for {steps} steps; give one per step"
        )
    if not all(0 <= value < float("inf") for value in (*load.mean, *load.spread_own)):
        raise ForeshardError(f"shard {load.shard_id}: mean and spread_own must be 0 or more and finite")


def _layout(layout: Layout) -> None:
    if len({(r.shard_id, r.node_id) for r in layout.replicas}) != len(layout.replicas):
        raise ForeshardError(f"layout of epoch {layout.epoch}: a shard is twice on one node; keep one replica of it there")
    for replica in layout.replicas:
        if not replica.weight > 0:
            raise ForeshardError(f"layout: shard {replica.shard_id} on {replica.node_id}: weight must be above 0")


def _references(problem: PlacementProblem) -> None:
    nodes = {n.node_id for n in problem.nodes}
    shards = {s.shard_id for s in problem.shards} | {r.shard_id for r in problem.layout.replicas}
    groups = {g.group_id for g in problem.groups}
    resources = {r.name for r in problem.resources}
    for shard in problem.shards:
        for what, unknown in (
            ("pins node", set(shard.pins) - nodes),
            ("group", {shard.group} - groups - {""}),
            ("needs resource", set(shard.needs) - resources),
            ("parent", {shard.parent} - shards - {None}),
        ):
            if unknown:
                raise ForeshardError(f"shard {shard.shard_id}: {what} {min(map(str, unknown))} is not in the problem")
    for group in problem.groups:
        if set(group.near) - groups:
            raise ForeshardError(f"group {group.group_id}: near {min(set(group.near) - groups)}, which is no group")
    for balance in problem.balances:
        if {balance.first, balance.second} - resources:
            raise ForeshardError(f"balance of {balance.first} and {balance.second}: name two of the problem's resources")
    if len(problem.pair_cost) and {len(problem.pair_cost), *map(len, problem.pair_cost)} != {len(problem.nodes)}:
        raise ForeshardError(f"pair_cost must have {len(problem.nodes)} rows of {len(problem.nodes)} values, one per node")
