"""Predicted load of nodes: Σ mean + z·√(Σ_f (Σ common_f)² + Σ own²), with each shard split over its replicas by weight.

What only full replicas can answer (1 − recent_share of a shard's load) is split over its live full replicas, the recent part
over all live ones. Dead nodes answer nothing; a shard without any live replica that can answer loads no node.

Sums run in the order of shard ids and use only operations that IEEE 754 rounds exactly: every machine gets the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foreshard.model import Layout, PlacementProblem
from foreshard.placement.instance import FULL, Floats, Instance, Ints, Kinds, build


@dataclass
class NodeLoads:
    """What a node's quantile is made of: mean and own_square of shape (N, T), common of shape (N, T, F)."""

    mean: Floats
    common: Floats
    own_square: Floats


def quantile(loads: NodeLoads, z: float) -> Floats:
    """The load quantile, shape as `loads.mean`. Squares left below zero by rounding count as zero."""
    square = np.maximum(loads.own_square, 0.0)
    for factor in range(loads.common.shape[-1]):
        square = square + loads.common[..., factor] * loads.common[..., factor]
    quantiles: Floats = np.maximum(loads.mean, 0.0) + z * np.sqrt(square)
    return quantiles


@dataclass(frozen=True)
class Rows:
    """The live replicas as flat arrays of length R, sorted by node and then shard."""

    shard: Ints
    node: Ints
    full: Floats  # 1 for full replicas, 0 for hot ones
    starts: Ints  # where each node that holds anything begins
    holders: Ints  # these nodes
    mean: Floats  # (R, T)
    own_square: Floats
    common: Floats  # (R, T, F)


def rows_of(instance: Instance, kind: Kinds) -> Rows:
    node, shard = np.nonzero((kind * instance.live).T)
    holders, starts = np.unique(node, return_index=True)
    return Rows(
        shard=shard,
        node=node,
        full=(kind[shard, node] == FULL).astype(np.float64),
        starts=starts,
        holders=holders,
        mean=instance.mean[shard],
        own_square=instance.own_square[shard],
        common=instance.common[shard],
    )


def shares(instance: Instance, rows: Rows, weight: Floats) -> Floats:
    """Each live replica's share of its shard's load, shape (R,), from its weight, shape (R,)."""
    count = len(instance.shard_ids)
    of_all = np.bincount(rows.shard, weight, count)[rows.shard]
    of_full = np.bincount(rows.shard, weight * rows.full, count)[rows.shard]
    recent = instance.recent[rows.shard]
    old = np.divide(weight * rows.full, of_full, out=np.zeros_like(weight), where=of_full > 0)
    share: Floats = recent * weight / of_all + (1.0 - recent) * old
    return share


def loads_of(instance: Instance, rows: Rows, share: Floats) -> NodeLoads:
    """Loads of all nodes. Time O(R × T × F)."""
    nodes, steps, factors = len(instance.nodes), instance.mean.shape[1], instance.common.shape[2]
    loads = NodeLoads(np.zeros((nodes, steps)), np.zeros((nodes, steps, factors)), np.zeros((nodes, steps)))
    if rows.shard.size:
        column = share[:, None]
        loads.mean[rows.holders] = np.add.reduceat(column * rows.mean, rows.starts, axis=0)
        loads.own_square[rows.holders] = np.add.reduceat(column * column * rows.own_square, rows.starts, axis=0)
        if factors:
            loads.common[rows.holders] = np.add.reduceat(column[:, :, None] * rows.common, rows.starts, axis=0)
    return loads


def loads_of_layout(instance: Instance, kind: Kinds, weight: Floats) -> NodeLoads:
    """Loads of all nodes of the instance under replicas of shape (S, N)."""
    rows = rows_of(instance, kind)
    return loads_of(instance, rows, shares(instance, rows, weight[rows.shard, rows.node]))


def node_load(problem: PlacementProblem, layout: Layout) -> Floats:
    """Load quantile of each node of `problem.nodes` at each step under `layout`, weighted requests per second.

    Shape (nodes, steps). Raises ForeshardError if the problem contradicts itself or has no live node. Time O(replicas × steps).
    """
    instance = build(replace(problem, layout=layout))
    quantiles = quantile(loads_of_layout(instance, instance.kind, instance.weight), problem.policy.risk_z)
    at = {node.node_id: i for i, node in enumerate(instance.nodes)}
    return quantiles[[at[n.node_id] for n in problem.nodes], : len(problem.steps)]
