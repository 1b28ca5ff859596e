"""A placement problem as arrays in a fixed order, checked: what every part of the solver reads and none changes.

Shards and nodes are in the order of their ids, whatever order the problem gives them in, so the plan does not depend on it.
A node that the layout names and the pool no longer has counts as dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from foreshard.errors import ForeshardError
from foreshard.hashing import rendezvous_scores
from foreshard.model import Layout, Node, NodeState, PlacementProblem, Policy, ShardLoad

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Kinds = npt.NDArray[np.int8]

# What a node holds of a shard.
NONE, HOT, FULL = 0, 1, 2


@dataclass(frozen=True)
class Instance:
    """S shards, N nodes, T steps (at least 1), F common factors. `rank` counts accepting nodes only; the others have rank N."""

    problem: PlacementProblem
    shard_ids: tuple[int, ...]
    nodes: tuple[Node, ...]
    capacity: Floats  # (N,)
    accepts: Bools  # (N,)
    live: Bools  # (N,)
    same_zone: Bools  # (N, N), false on the diagonal and for nodes without a zone
    rank: Ints  # (S, N)
    mean: Floats  # (S, T)
    own_square: Floats  # (S, T)
    common: Floats  # (S, T, F)
    recent: Floats  # (S,)
    size: Ints  # (S, 3), bytes by kind
    kind: Kinds  # (S, N), the layout at hand
    weight: Floats  # (S, N), 0 where nothing is held
    hot_from: dict[tuple[int, int], date]  # (shard, node) by position

    @property
    def policy(self) -> Policy:
        return self.problem.policy

    @property
    def accepting(self) -> int:
        return int(self.accepts.sum())

    @property
    def full_wanted(self) -> int:
        """Full replicas that every shard must have: the policy's minimum, or the accepting nodes if these are fewer."""
        return min(self.policy.min_full_replicas, max(1, self.accepting))

    @property
    def extra_limit(self) -> int:
        """Replicas that a shard may have beyond the minimum."""
        return max(0, min(self.policy.max_replicas, self.accepting) - self.full_wanted)

    def extra_kind(self, shard: int) -> int:
        """What a replica beyond the minimum holds: only recent days where that serves most queries and saves bytes."""
        saves = self.size[shard, HOT] < self.size[shard, FULL]
        return HOT if self.recent[shard] >= 0.5 and saves else FULL

    def step_label(self, step: int) -> str:
        steps = self.problem.steps
        return steps[step].strftime("%Y-%m-%d %H:%M") if steps else "any time"


def build(problem: PlacementProblem) -> Instance:
    """The problem as arrays; raises ForeshardError if it contradicts itself or has no live node. Time O(S × (N + T × F))."""
    _check(problem)
    nodes = _nodes(problem)
    loads = _loads(problem)
    shard_ids = tuple(load.shard_id for load in loads)
    layout = _layout_arrays(problem.layout, shard_ids, nodes)
    mean, own, common = _load_arrays(loads, len(problem.steps))
    sizes = [[0, load.bytes_hot, load.bytes_full] for load in loads]
    return Instance(
        problem=problem,
        shard_ids=shard_ids,
        nodes=nodes,
        capacity=np.array([n.capacity for n in nodes], dtype=np.float64),
        accepts=np.array([n.accepts_shards for n in nodes], dtype=np.bool_),
        live=np.array([n.is_live for n in nodes], dtype=np.bool_),
        same_zone=np.array([[a is not b and a.zone != "" and a.zone == b.zone for b in nodes] for a in nodes], dtype=np.bool_),
        rank=ranking(shard_ids, nodes),
        mean=mean,
        own_square=own * own,
        common=common,
        recent=np.array([load.recent_share for load in loads], dtype=np.float64),
        size=np.array(sizes, dtype=np.int64).reshape(-1, 3),
        kind=layout[0],
        weight=layout[1],
        hot_from=layout[2],
    )


def ranking(shard_ids: Sequence[int], nodes: Sequence[Node]) -> Ints:
    """Each accepting node's rank for each shard by weighted rendezvous hashing, 0 first, shape (shards, nodes).

    Nodes that do not accept shards have rank len(nodes). Equal scores rank by position.
    """
    count = len(nodes)
    scores = rendezvous_scores(shard_ids, [n.node_id for n in nodes], [n.capacity for n in nodes])
    scores[:, [not n.accepts_shards for n in nodes]] = -1.0
    order = np.argsort(-scores, axis=1, kind="stable")
    rank = np.empty((len(shard_ids), count), dtype=np.int64)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(count), rank.shape), axis=1)
    rank[:, [not n.accepts_shards for n in nodes]] = count
    return rank


def _nodes(problem: PlacementProblem) -> tuple[Node, ...]:
    known = {n.node_id for n in problem.nodes}
    gone = {r.node_id for r in problem.layout.replicas} - known
    nodes = (*problem.nodes, *(Node(node_id, 1.0, NodeState.DEAD) for node_id in gone))
    return tuple(sorted(nodes, key=lambda n: n.node_id))


def _loads(problem: PlacementProblem) -> list[ShardLoad]:
    """Every shard of the forecast or the layout; without a forecast its load is zero and its size unknown, so zero."""
    zeros = (0.0,) * len(problem.steps)
    loads = {r.shard_id: ShardLoad(r.shard_id, zeros, zeros) for r in problem.layout.replicas}
    loads.update({load.shard_id: load for load in problem.shards})
    return [loads[shard_id] for shard_id in sorted(loads)]


def _load_arrays(loads: Sequence[ShardLoad], steps: int) -> tuple[Floats, Floats, Floats]:
    factors = max((len(step) for load in loads for step in load.spread_common), default=0)
    mean = np.zeros((len(loads), max(1, steps)))
    own = np.zeros_like(mean)
    common = np.zeros((*mean.shape, factors))
    for i, load in enumerate(loads):
        if steps:
            mean[i], own[i] = load.mean, load.spread_own
        for t, step in enumerate(load.spread_common):
            common[i, t, : len(step)] = step
    return mean, own, common


def _layout_arrays(
    layout: Layout, shard_ids: Sequence[int], nodes: Sequence[Node]
) -> tuple[Kinds, Floats, dict[tuple[int, int], date]]:
    shard_at = {shard_id: i for i, shard_id in enumerate(shard_ids)}
    node_at = {node.node_id: i for i, node in enumerate(nodes)}
    kind = np.zeros((len(shard_ids), len(nodes)), dtype=np.int8)
    weight = np.zeros(kind.shape)
    hot_from: dict[tuple[int, int], date] = {}
    for replica in layout.replicas:
        at = shard_at[replica.shard_id], node_at[replica.node_id]
        kind[at], weight[at] = (FULL if replica.is_full else HOT), replica.weight
        if replica.covers_from is not None:
            hot_from[at] = replica.covers_from
    return kind, weight, hot_from


def _check(problem: PlacementProblem) -> None:
    if not any(n.is_live for n in problem.nodes):
        raise ForeshardError(f"pool {problem.pool_id} has no live node; add one before planning")
    if len({n.node_id for n in problem.nodes}) != len(problem.nodes):
        raise ForeshardError(f"pool {problem.pool_id}: nodes: two nodes have the same node_id; name each node once")
    for node in problem.nodes:
        if not 0 < node.capacity < float("inf"):
            raise ForeshardError(f"node {node.node_id}: capacity must be above 0 and finite, not {node.capacity}")
    if len({load.shard_id for load in problem.shards}) != len(problem.shards):
        raise ForeshardError(f"pool {problem.pool_id}: shards: two shards have the same shard_id; give each shard once")
    for load in problem.shards:
        _check_load(load, len(problem.steps))
    _check_layout(problem.layout)
    if problem.policy.min_full_replicas < 1:
        raise ForeshardError(f"policy.min_full_replicas must be 1 or more, not {problem.policy.min_full_replicas}")


def _check_load(load: ShardLoad, steps: int) -> None:
    lengths = {len(load.mean), len(load.spread_own)} | ({len(load.spread_common)} if load.spread_common else set())
    if lengths != {steps}:
        raise ForeshardError(
            f"shard {load.shard_id}: mean and spreads have {sorted(lengths)} values for {steps} steps; give one per step"
        )
    if not all(0 <= value < float("inf") for value in (*load.mean, *load.spread_own)):
        raise ForeshardError(f"shard {load.shard_id}: mean and spread_own must be 0 or more and finite")


def _check_layout(layout: Layout) -> None:
    if len({(r.shard_id, r.node_id) for r in layout.replicas}) != len(layout.replicas):
        raise ForeshardError(f"layout of epoch {layout.epoch}: a shard is twice on one node; keep one replica of it there")
    for replica in layout.replicas:
        if not replica.weight > 0:
            raise ForeshardError(f"layout: shard {replica.shard_id} on {replica.node_id}: weight must be above 0")
