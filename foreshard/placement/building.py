"""From the public dataclasses of a placement problem to its arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from foreshard.model import Layout, Node, NodeState, PlacementProblem, ShardLoad
from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Costs, Floats, Groups, Holdings, Ints, Nodes, Shards
from foreshard.placement.contradictions import refuse_contradictions


def build(problem: PlacementProblem, also: Iterable[str] = ()) -> Cluster:
    """The problem as arrays; raises ForeshardError if it contradicts itself or has no live node. Time O(S × (T × F + R) + N²).

    `also`: nodes that count as dead if the problem does not have them, as those of the layout do.
    Shards that share a `together` label must have been merged before (bundles.py).
    """
    refuse_contradictions(problem)
    problem = replace(
        problem,
        groups=tuple(sorted(problem.groups, key=lambda g: g.group_id)),
        resources=tuple(sorted(problem.resources, key=lambda r: r.name)),
        balances=tuple(sorted(problem.balances, key=lambda b: (b.first, b.second))),
    )
    order = sorted(range(len(problem.nodes)), key=lambda i: problem.nodes[i].node_id)
    gone = sorted({*also, *(r.node_id for r in problem.layout.replicas)} - {n.node_id for n in problem.nodes})
    nodes = sorted([*problem.nodes, *(Node(name, 1.0, NodeState.DEAD) for name in gone)], key=lambda n: n.node_id)
    at = {node.node_id: i for i, node in enumerate(nodes)}
    loads = _loads(problem)
    shard_at = {load.shard_id: i for i, load in enumerate(loads)}
    held, hot_from = _held(problem.layout, shard_at, at)
    permit, allowed = _permits(loads, at)
    return Cluster(
        pool_id=problem.pool_id,
        policy=problem.policy,
        steps=problem.steps,
        covers_from=problem.covers_from,
        nodes=_nodes(problem, nodes),
        shards=_shards(problem, loads, shard_at, at, permit),
        groups=_groups(problem),
        costs=_costs(problem, [at[problem.nodes[i].node_id] for i in order], order, len(nodes)),
        allowed=allowed,
        held=held,
        hot_from=hot_from,
    )


def _loads(problem: PlacementProblem) -> list[ShardLoad]:
    """Every shard of the forecast or the layout; without a forecast its load is zero and its size unknown, so zero."""
    zeros = (0.0,) * len(problem.steps)
    loads = {r.shard_id: ShardLoad(r.shard_id, zeros, zeros) for r in problem.layout.replicas}
    loads.update({load.shard_id: load for load in problem.shards})
    return [loads[shard_id] for shard_id in sorted(loads)]


def _nodes(problem: PlacementProblem, nodes: Sequence[Node]) -> Nodes:
    names = [r.name for r in problem.resources]
    limit = np.array([[n.limits.get(name, np.inf) for name in names] for n in nodes]).reshape(len(nodes), len(names))
    target = np.array([[n.targets.get(name, 1.0) for name in names] for n in nodes]).reshape(len(nodes), len(names))
    zone, zone_names = _codes([n.zone for n in nodes])
    return Nodes(
        ids=tuple(n.node_id for n in nodes),
        capacity=np.array([n.capacity for n in nodes], dtype=np.float64),
        target=np.array([n.targets.get("load", problem.policy.target_utilisation) for n in nodes], dtype=np.float64),
        accepts=np.array([n.accepts_shards for n in nodes], dtype=np.bool_),
        live=np.array([n.is_live for n in nodes], dtype=np.bool_),
        joining=np.array([n.state is NodeState.JOINING for n in nodes], dtype=np.bool_),
        zone=zone,
        zone_names=zone_names,
        neighbourhood=_codes([n.neighbourhood for n in nodes])[0],
        limit=limit,
        soft=limit * target,
    )


def _codes(names: Sequence[str]) -> tuple[Ints, tuple[str, ...]]:
    """A code per name, in the order of first use; every empty name has a code of its own."""
    codes: dict[str, int] = {}
    result, found = [], []
    for i, name in enumerate(names):
        key = name or f"\0{i}"
        if key not in codes:
            codes[key] = len(codes)
            found.append(name)
        result.append(codes[key])
    return np.array(result, dtype=np.int64), tuple(found)


def _shards(
    problem: PlacementProblem, loads: Sequence[ShardLoad], shard_at: Mapping[int, int], at: Mapping[str, int], permit: Ints
) -> Shards:
    count, policy = len(loads), problem.policy
    mean, own_square, common = _load_arrays(loads, len(problem.steps))
    parent = np.array([-1 if s.parent is None else shard_at[s.parent] for s in loads], dtype=np.int64)
    _lean(parent, mean, own_square, common)
    group_at = {group.group_id: i for i, group in enumerate(problem.groups)}
    names = [r.name for r in problem.resources]
    accepting = max(1, sum(n.accepts_shards for n in problem.nodes))
    most = [max(policy.max_replicas, policy.min_full_replicas) if s.max_replicas is None else s.max_replicas for s in loads]
    pins = [[at[name] for name in s.pins] for s in loads]
    return Shards(
        ids=np.array([s.shard_id for s in loads], dtype=np.int64),
        mean=mean,
        own_square=own_square,
        common=common,
        recent=np.array([s.recent_share for s in loads], dtype=np.float64),
        size=np.array([[0, s.bytes_hot, s.bytes_full] for s in loads], dtype=np.int64).reshape(count, 3),
        need=np.array([[s.needs.get(name, 0.0) for name in names] for s in loads]).reshape(count, len(names)),
        least=np.array([_least(problem, s, accepting) for s in loads], dtype=np.int64),
        most=np.array(most, dtype=np.int64),
        parent=parent,
        group=np.array([group_at.get(s.group, -1) for s in loads], dtype=np.int64),
        permit=permit,
        move_cost=np.array([s.move_cost for s in loads], dtype=np.float64),
        pin_start=np.concatenate([[0], np.cumsum([len(p) for p in pins])]).astype(np.int64),
        pins=np.array([n for p in pins for n in p], dtype=np.int64),
    )


def _least(problem: PlacementProblem, shard: ShardLoad, accepting: int) -> int:
    """Full replicas it must have: with fewer accepting nodes one on each of these; an isolated entity's slot has them."""
    if shard.parent is not None:
        return 0
    wanted = problem.policy.min_full_replicas if shard.min_replicas is None else shard.min_replicas
    return min(wanted, accepting)


def _load_arrays(loads: Sequence[ShardLoad], steps: int) -> tuple[Floats, Floats, Floats]:
    factors = max((len(step) for load in loads for step in load.spread_common), default=0)
    mean = np.zeros((len(loads), max(1, steps)))
    own = np.zeros_like(mean)
    common = np.zeros((*mean.shape, factors))
    if steps:
        for i, load in enumerate(loads):
            mean[i], own[i] = load.mean, load.spread_own
            for t, step in enumerate(load.spread_common):
                common[i, t, : len(step)] = step
    return mean, own * own, common


def _lean(parent: Ints, mean: Floats, own_square: Floats, common: Floats) -> None:
    """Half of an isolated entity's load stays with its slot's replicas, as gateways spread it; the arrays are changed."""
    for shard in np.flatnonzero(parent >= 0):
        for values, half in ((mean, 0.5), (own_square, 0.25), (common, 0.5)):
            values[parent[shard]] += half * values[shard]
            values[shard] *= half


def _groups(problem: PlacementProblem) -> Groups:
    at = {group.group_id: i for i, group in enumerate(problem.groups)}
    near = [[at[other] for other in group.near] for group in problem.groups]
    return Groups(
        ids=tuple(g.group_id for g in problem.groups),
        distinct=np.array([g.distinct_nodes for g in problem.groups], dtype=np.bool_),
        min_zones=np.array([g.min_zones for g in problem.groups], dtype=np.int64),
        near_start=np.concatenate([[0], np.cumsum([len(n) for n in near])]).astype(np.int64),
        near=np.array([g for n in near for g in n], dtype=np.int64),
    )


def _costs(problem: PlacementProblem, rows: Sequence[int], order: Sequence[int], count: int) -> Costs:
    at = {resource.name: i for i, resource in enumerate(problem.resources)}
    pair = np.zeros((0, 0))
    if len(problem.pair_cost):
        given = np.asarray(problem.pair_cost, dtype=np.float64)
        pair = np.zeros((count, count))
        pair[np.ix_(rows, rows)] = given[np.ix_(order, order)]
    return Costs(
        names=tuple(at),
        transient=np.array([r.transient for r in problem.resources], dtype=np.bool_),
        soft=np.array([r.soft_cost for r in problem.resources], dtype=np.float64),
        balance_first=np.array([at[b.first] for b in problem.balances], dtype=np.int64),
        balance_second=np.array([at[b.second] for b in problem.balances], dtype=np.int64),
        balance_target=np.array([b.target for b in problem.balances], dtype=np.float64),
        balance=np.array([b.cost for b in problem.balances], dtype=np.float64),
        pair=pair,
    )


def _permits(loads: Sequence[ShardLoad], at: Mapping[str, int]) -> tuple[Ints, Bools]:
    """Row of `allowed` per shard, and the rows: one for each distinct set of nodes avoided."""
    rows: dict[frozenset[str], int] = {}
    permit = [rows.setdefault(frozenset(s.avoids), len(rows)) if s.avoids else -1 for s in loads]
    allowed = np.ones((len(rows), len(at)), dtype=np.bool_)
    for avoided, row in rows.items():
        allowed[row, [at[name] for name in avoided if name in at]] = False
    return np.array(permit, dtype=np.int64), allowed


def _held(layout: Layout, shard_at: Mapping[int, int], at: Mapping[str, int]) -> tuple[Holdings, dict[tuple[int, int], date]]:
    shard = np.array([shard_at[r.shard_id] for r in layout.replicas], dtype=np.int64)
    node = np.array([at[r.node_id] for r in layout.replicas], dtype=np.int64)
    kind = np.array([FULL if r.is_full else HOT for r in layout.replicas], dtype=np.int8)
    weight = np.array([r.weight for r in layout.replicas], dtype=np.float64)
    hot_from = {(int(s), int(n)): r.covers_from for s, n, r in zip(shard, node, layout.replicas, strict=True) if r.covers_from}
    order = np.lexsort((node, shard))
    shard, node, kind, weight = shard[order], node[order], kind[order], weight[order]
    counts = np.bincount(shard, minlength=len(shard_at)) if len(shard_at) else np.zeros(0, dtype=np.int64)
    place = np.arange(len(shard)) - np.concatenate([[0], np.cumsum(counts)])[shard]
    shape = (len(shard_at), max(1, int(counts.max(initial=0))))
    held = Holdings(np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.int8), np.zeros(shape))
    held.node[shard, place], held.kind[shard, place], held.weight[shard, place] = node, kind, weight
    return held, hot_from
