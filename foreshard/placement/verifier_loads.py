"""Predicted load of nodes under a layout, from the model alone and by the formula's letter rather than by increments."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.model import Goal, Layout, MoveKind, Replica
from foreshard.placement.verifier_facts import Facts

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PoolLoads:
    """Loads of S shards over T ≥ 1 steps, half of an isolated entity's counted as its slot's, and what N nodes may carry."""

    node_ids: tuple[str, ...]
    live: frozenset[str]
    position: dict[int, int]
    mean: Floats  # (S, T)
    own: Floats  # (S, T)
    common: Floats  # (S, T, F)
    recent: Floats  # (S,)
    capacity: Floats  # (N,)
    accepts: npt.NDArray[np.bool_]  # (N,)
    fair: Floats  # (N, T) the pool's load spread by capacity
    ceiling: Floats  # (N, T) above it a node is relieved
    z: float

    def quantiles(self, layout: Layout) -> Floats:
        """Load quantile of each node at each step, shape (N, T). Time O(replicas × T × F)."""
        at = {node: i for i, node in enumerate(self.node_ids)}
        mean, square = np.zeros_like(self.ceiling), np.zeros_like(self.ceiling)
        common = np.zeros((*self.ceiling.shape, self.common.shape[2]))
        for replica, share in self._shares(layout):
            n, s = at[replica.node_id], self.position[replica.shard_id]
            mean[n] += share * self.mean[s]
            square[n] += (share * self.own[s]) ** 2
            common[n] += share * self.common[s]
        result: Floats = mean + self.z * np.sqrt(square + (common**2).sum(axis=2))
        return result

    def _shares(self, layout: Layout) -> list[tuple[Replica, float]]:
        """Live replicas with their part of the shard's load: recent queries go to all, older ones to full replicas."""
        of_shard: dict[int, list[Replica]] = defaultdict(list)
        for replica in layout.replicas:
            if replica.node_id in self.live and replica.shard_id in self.position:
                of_shard[replica.shard_id].append(replica)
        result = []
        for shard, replicas in sorted(of_shard.items()):
            recent = float(self.recent[self.position[shard]])
            every = sum(r.weight for r in replicas)
            full = sum(r.weight for r in replicas if r.covers_from is None)
            for r in replicas:
                share = recent * r.weight / every
                if r.covers_from is None:
                    share += (1 - recent) * r.weight / full
                result.append((r, share))
        return result


def pool_loads(facts: Facts) -> PoolLoads:
    """The loads of a problem's shards and the ceilings of its nodes."""
    problem = facts.problem
    ids = sorted(facts.shards)
    position = {shard: i for i, shard in enumerate(ids)}
    steps = max(1, len(problem.steps))
    factors = max((len(step) for s in facts.shards.values() for step in s.spread_common), default=0)
    mean, own, common = np.zeros((len(ids), steps)), np.zeros((len(ids), steps)), np.zeros((len(ids), steps, factors))
    for i, shard in enumerate(facts.shards[shard] for shard in ids):
        mean[i, : len(shard.mean)], own[i, : len(shard.spread_own)] = shard.mean, shard.spread_own
        for t, step in enumerate(shard.spread_common):
            common[i, t, : len(step)] = step
    for i, shard in enumerate(facts.shards[shard] for shard in ids):
        if shard.parent in position:
            slot = position[shard.parent]
            mean[i], own[i], common[i] = mean[i] / 2, own[i] / 2, common[i] / 2
            mean[slot], common[slot] = mean[slot] + mean[i], common[slot] + common[i]
            own[slot] = np.sqrt(own[slot] ** 2 + own[i] ** 2)
    capacity = np.array([n.capacity for n in problem.nodes], dtype=np.float64)
    accepts = np.array([n.node_id in facts.accepting for n in problem.nodes], dtype=np.bool_)
    z = problem.policy.risk_z
    total = capacity[accepts].sum()
    whole = mean.sum(axis=0) + z * np.sqrt((own**2).sum(axis=0) + (common.sum(axis=0) ** 2).sum(axis=1))
    fair = np.outer(capacity / total, whole) if total > 0 else np.zeros((len(capacity), steps))
    return PoolLoads(
        node_ids=tuple(n.node_id for n in problem.nodes),
        live=frozenset(facts.live),
        position=position,
        mean=mean,
        own=own,
        common=common,
        recent=np.array([facts.shards[shard].recent_share for shard in ids]),
        capacity=capacity,
        accepts=accepts,
        fair=fair,
        ceiling=_ceiling(facts, capacity, accepts, whole, fair),
        z=z,
    )


def _ceiling(facts: Facts, capacity: Floats, accepts: npt.NDArray[np.bool_], whole: Floats, fair: Floats) -> Floats:
    """min(target × capacity, bounded_load × fair share); the latter alone at steps at which the pool is above its targets."""
    policy = facts.problem.policy
    meant = capacity * np.array([n.targets.get("load", policy.target_utilisation) for n in facts.problem.nodes])
    bounded = policy.bounded_load * fair
    fits = whole <= meant[accepts].sum()
    result: Floats = np.where(fits[None, :], np.minimum(meant[:, None], bounded), bounded)
    return result


def before_relief(facts: Facts) -> Layout:
    """The layout at hand after all but what balances and saves costs, with the plan's weights where its replicas stay."""
    weights = {(r.shard_id, r.node_id): r.weight for r in facts.problem.layout.replicas}
    weights |= {(r.shard_id, r.node_id): r.weight for r in facts.plan.layout.replicas}
    held = dict(facts.before)
    for move in facts.plan.moves:
        if move.goal in (Goal.REPAIR, Goal.DRAIN, Goal.REPLICATE, Goal.FILL, Goal.CONSOLIDATE):
            if move.kind in (MoveKind.MOVE, MoveKind.DROP):
                held.pop((move.shard_id, move.source), None)
            if move.kind is not MoveKind.DROP:
                held[move.shard_id, move.target] = move.covers_from
    replicas = tuple(Replica(s, n, weights.get((s, n), 1.0), day) for (s, n), day in sorted(held.items(), key=lambda i: i[0]))
    return Layout(facts.problem.layout.epoch, replicas)
