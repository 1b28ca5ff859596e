"""Predicted load of nodes: Σ mean + z·√(Σ_f (Σ common_f)² + Σ own²), with each shard split over its replicas by weight.

What only full replicas can answer (1 − recent share of a shard's load) is split over its live full replicas, the recent part
over all live ones. Dead nodes answer nothing; a shard without any live replica that can answer loads no node.

Sums run in the order of shard ids and use only operations that IEEE 754 rounds exactly: every machine gets the same bits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numba
import numpy as np

from foreshard.model import Layout, PlacementProblem
from foreshard.placement.building import build
from foreshard.placement.cluster import FULL, Bools, Cluster, Floats, Holdings


class NodeLoads(NamedTuple):
    """What a node's quantile is made of."""

    mean: Floats  # (N, T)
    own_square: Floats  # (N, T)
    common: Floats  # (N, T, F)


@numba.njit(cache=True, nogil=True)
def share_row(node, kind, weight, live, recent, out):  # type: ignore[no-untyped-def]
    """Each replica's share of one shard's load, shape (K,), into `out`."""
    every, full = 0.0, 0.0
    for k in range(node.shape[0]):
        if node[k] >= 0 and live[node[k]]:
            every += weight[k]
            if kind[k] == FULL:
                full += weight[k]
    for k in range(node.shape[0]):
        out[k] = 0.0
        if node[k] >= 0 and live[node[k]]:
            if every > 0.0:
                out[k] += recent * weight[k] / every
            if kind[k] == FULL and full > 0.0:
                out[k] += (1.0 - recent) * weight[k] / full


@numba.njit(cache=True, nogil=True)
def _shares(node, kind, weight, live, recent):  # type: ignore[no-untyped-def]
    out = np.zeros(node.shape)
    for s in range(node.shape[0]):
        share_row(node[s], kind[s], weight[s], live, recent[s], out[s])
    return out


@numba.njit(cache=True, nogil=True)
def add_share(mean, own_square, common, n, share, shard_mean, shard_own, shard_common):  # type: ignore[no-untyped-def]
    """Puts a share, which may be negative, of one shard's load onto node n. A negative one takes that share off again."""
    for t in range(shard_mean.shape[0]):
        mean[n, t] += share * shard_mean[t]
        own_square[n, t] += share * abs(share) * shard_own[t]
        for f in range(shard_common.shape[1]):
            common[n, t, f] += share * shard_common[t, f]


@numba.njit(cache=True, nogil=True)
def _node_loads(node, share, shard_mean, shard_own, shard_common, nodes):  # type: ignore[no-untyped-def]
    steps, factors = shard_mean.shape[1], shard_common.shape[2]
    mean, own_square = np.zeros((nodes, steps)), np.zeros((nodes, steps))
    common = np.zeros((nodes, steps, factors))
    for s in range(node.shape[0]):
        for k in range(node.shape[1]):
            if share[s, k] > 0.0:
                add_share(mean, own_square, common, node[s, k], share[s, k], shard_mean[s], shard_own[s], shard_common[s])
    return mean, own_square, common


@numba.njit(cache=True, nogil=True)
def quantile_at(mean, own_square, common, z):  # type: ignore[no-untyped-def]
    """The load quantile of one node at one step. Squares left below zero by rounding count as zero."""
    square = max(own_square, 0.0)
    for f in range(common.shape[0]):
        square += common[f] * common[f]
    return max(mean, 0.0) + z * math.sqrt(square)


def shares(cluster: Cluster, held: Holdings) -> Floats:
    """Each replica's share of its shard's load, shape (S, K), 0 on dead nodes and in unused places."""
    result: Floats = _shares(held.node, held.kind, held.weight, cluster.nodes.live, cluster.shards.recent)
    return result


def node_loads(cluster: Cluster, held: Holdings) -> NodeLoads:
    """Loads of all nodes. Time O(S × K × T × F)."""
    shards = cluster.shards
    return NodeLoads(
        *_node_loads(
            held.node, shares(cluster, held), shards.mean, shards.own_square, shards.common, len(cluster.nodes.capacity)
        )
    )


def quantile(loads: NodeLoads, z: float) -> Floats:
    """The load quantile, shape as `loads.mean`. Squares left below zero by rounding count as zero."""
    square = np.maximum(loads.own_square, 0.0)
    for factor in range(loads.common.shape[-1]):
        square = square + loads.common[..., factor] * loads.common[..., factor]
    quantiles: Floats = np.maximum(loads.mean, 0.0) + z * np.sqrt(square)
    return quantiles


def node_quantiles(cluster: Cluster, held: Holdings) -> Floats:
    """Load quantile of each node at each step, shape (N, T)."""
    return quantile(node_loads(cluster, held), cluster.policy.risk_z)


def pool_quantile(cluster: Cluster, served: Bools | None = None) -> Floats:
    """The quantile of all shards, or of those `served` (S,), as if one node had them, shape (T,)."""
    shards = cluster.shards
    keep = slice(None) if served is None else served
    parts = (shards.mean[keep].sum(axis=0), shards.own_square[keep].sum(axis=0), shards.common[keep].sum(axis=0))
    return quantile(NodeLoads(*parts), cluster.policy.risk_z)


def fair_share(cluster: Cluster) -> Floats:
    """What each node would carry if the pool's quantile were spread by capacity over accepting nodes, shape (N, T)."""
    capacity = np.where(cluster.nodes.accepts, cluster.nodes.capacity, 0.0)
    total = float(capacity.sum())
    share: Floats = np.outer(cluster.nodes.capacity / total if total > 0 else np.zeros_like(capacity), pool_quantile(cluster))
    return share


def ceiling(cluster: Cluster) -> Floats:
    """Load above which a node is relieved, shape (N, T): bounded_load × fair share, and no more than its target.

    At a step at which the pool as a whole does not fit within its targets there is only the fair share to go by.
    Source: consistent hashing with bounded loads, Mirrokni et al. 2018.
    """
    nodes = cluster.nodes
    fair, meant = fair_share(cluster), (nodes.target * nodes.capacity)[:, None]
    bounded = cluster.policy.bounded_load * fair
    room = float(np.where(nodes.accepts, nodes.target * nodes.capacity, 0.0).sum())
    fits = pool_quantile(cluster) <= room
    limit: Floats = np.where(fits[None, :], np.minimum(meant, bounded), bounded)
    return limit


def node_load(problem: PlacementProblem, layout: Layout) -> Floats:
    """Load quantile of each node of `problem.nodes` at each step under `layout`, weighted requests per second.

    Shape (nodes, steps). Raises ForeshardError if the problem contradicts itself or has no live node. Time O(replicas × steps).
    """
    cluster = build(replace(problem, layout=layout))
    quantiles = node_quantiles(cluster, cluster.held)
    at = {node_id: i for i, node_id in enumerate(cluster.nodes.ids)}
    return quantiles[[at[n.node_id] for n in problem.nodes], : len(problem.steps)]
