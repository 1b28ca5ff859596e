"""Lower bounds of the peak: what no placement can stay below, however good the search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from foreshard.placement.cluster import Bools, Cluster, Floats, Ints
from foreshard.placement.fractional import class_bound, fractional_bound, worth_solving
from foreshard.placement.loads import NodeLoads, quantile
from foreshard.placement.relief import unsteady

_COUNTED = 8  # how many shards beyond one per node are counted at most


@dataclass(frozen=True)
class PeakBound:
    """`value`: no plan has a lower peak utilisation. `method` says in words what the bound comes from."""

    value: float
    method: str


def peak_lower_bound(
    cluster: Cluster, *, usable: Bools | None = None, served: Bools | None = None, time_limit: float = 5.0
) -> PeakBound:
    """The least possible highest load quantile / capacity of any usable node at any step.

    `usable` (N,): the nodes that loads may be on, by default those that accept shards; `served` (S,): the shards that are
    placed there, by default those that may be on one of them. 0 where there are none.

    - The pool as one node: by the triangle inequality the nodes' quantiles sum to at least the quantile of everything.
    - Each shard alone over the largest nodes that may hold it, as many as it may have replicas.
    - Where shards have one replica each: of the k × nodes + 1 largest, k + 1 share a node.
    - Fractional placement under permits, limits and groups of distinct nodes, by linear programs whose size is kept small; the
      value is that of their dual prices, true to the last bit whatever the solver's tolerance (fractional.py).

    Time O(S × T × F + S log S × T), and the linear programs' within `time_limit` seconds in all.
    """
    usable = cluster.nodes.accepts & cluster.nodes.live if usable is None else usable
    may = _may(cluster, usable)
    served = _placeable(cluster, may) if served is None else served
    if not usable.any() or not served.any():
        return PeakBound(0.0, "nothing to place")
    capacity = np.where(usable, cluster.nodes.capacity, 0.0)
    pool, steady = _served_loads(cluster, served)
    found = [PeakBound(float(quantile(pool, cluster.policy.risk_z).max()) / math.fsum(capacity), "the pool as one node")]
    found.append(PeakBound(float(_alone(cluster, steady, may, capacity).max()), "one shard over the nodes that may hold it"))
    found.append(PeakBound(float(_counted(cluster, steady, served, capacity).max()), "more shards than nodes"))
    if (may & usable).sum() < may.shape[0] * usable.sum():
        found.append(
            PeakBound(
                class_bound(steady, _row(cluster), may, capacity, cluster.policy.risk_z, time_limit / 2), "fractional placement"
            )
        )
    if worth_solving(cluster, served):
        value = fractional_bound(cluster, served, may, capacity, time_limit / 2)
        found.append(PeakBound(value, "fractional placement within limits"))
    best = max(found, key=lambda bound: bound.value)
    return PeakBound(math.floor(best.value * (1 - 1e-9) * 1e9) / 1e9, best.method)


def imbalance_lower_bound(cluster: Cluster) -> float:
    """No plan has a lower highest load over mean load of the accepting nodes, less 1, at the step where this is the largest.

    The mean is at most the sum of the shards' own quantiles over the nodes. Time O(S × T × F + S log S × T).
    """
    usable = cluster.nodes.accepts & cluster.nodes.live
    may = _may(cluster, usable)
    served = _placeable(cluster, may)
    if not usable.any() or not served.any():
        return 0.0
    _, steady = _served_loads(cluster, served)
    even = usable.astype(np.float64)
    highest = np.maximum(_alone(cluster, steady, may, even), _counted(cluster, steady, served, even))
    mean = quantile(_rows(cluster, served), cluster.policy.risk_z).sum(axis=0) / usable.sum()
    over = np.divide(highest, mean, out=np.zeros_like(mean), where=mean > 0)
    return max(0.0, float(over.max()) * (1 - 1e-9) - 1.0)


def _row(cluster: Cluster) -> Ints:
    """Row of `_may` of each shard; one that is on a live node which it avoids may stay there, so it counts as free."""
    permit, held = cluster.shards.permit, cluster.held
    if not len(cluster.allowed):
        return np.zeros(len(permit), dtype=np.int64)
    on = (held.node >= 0) & cluster.nodes.live[held.node]
    astray = (on & ~cluster.allowed[np.maximum(permit, 0)[:, None], held.node]).any(axis=1)
    return np.where((permit < 0) | astray, len(cluster.allowed), permit)


def _placeable(cluster: Cluster, may: Bools) -> Bools:
    somewhere: Bools = np.any(may, axis=1)
    return somewhere[_row(cluster)]


def _may(cluster: Cluster, usable: Bools) -> Bools:
    """Which usable nodes may hold a shard, by its row of `allowed`; the last row is of shards that may be anywhere."""
    rows: Bools = np.vstack([cluster.allowed, np.ones((1, len(usable)), dtype=np.bool_)]) & usable
    return rows


def _rows(cluster: Cluster, served: Bools) -> NodeLoads:
    shards = cluster.shards
    return NodeLoads(shards.mean[served], shards.own_square[served], shards.common[served])


def _served_loads(cluster: Cluster, served: Bools) -> tuple[NodeLoads, NodeLoads]:
    """The sum of all served loads, (T,), and the loads (S, T) with what may cancel out in the common parts left out.

    Of a shard that needs no full replica only the recent part is sure to be answered; one that need not be anywhere is not.
    """
    shards = cluster.shards
    sure = np.where(shards.least > 0, 1.0, np.where(shards.parent >= 0, shards.recent, 0.0)) * served
    mean, own_square = shards.mean * sure[:, None], shards.own_square * (sure * sure)[:, None]
    mixed = unsteady(shards.mean, shards.common, cluster.policy.risk_z)
    steady = shards.common * sure[:, None, None] * ~mixed[None]
    common = shards.common if bool((sure == 1.0).all()) else steady
    return NodeLoads(mean.sum(axis=0), own_square.sum(axis=0), common.sum(axis=0)), NodeLoads(mean, own_square, steady)


def _replicas(cluster: Cluster) -> Ints:
    """How many replicas each shard may have at most: `most`, or those at hand if they are more."""
    at_hand = ((cluster.held.node >= 0) & cluster.nodes.live[cluster.held.node]).sum(axis=1)
    most: Ints = np.maximum(np.maximum(cluster.shards.most, at_hand), np.maximum(cluster.shards.least, 1))
    return most


def _alone(cluster: Cluster, steady: NodeLoads, may: Bools, capacity: Floats) -> Floats:
    """Each shard by itself, its peak share at the best, by step (T,)."""
    largest = np.cumsum(-np.sort(-np.where(may, capacity, 0.0), axis=1), axis=1)
    room = largest[_row(cluster), np.minimum(_replicas(cluster), len(capacity)) - 1]
    alone = quantile(steady, cluster.policy.risk_z)
    used: Floats = np.divide(alone, room[:, None], out=np.zeros_like(alone), where=room[:, None] > 0).max(axis=0)
    return used


def _counted(cluster: Cluster, steady: NodeLoads, served: Bools, capacity: Floats) -> Floats:
    """Of the k × nodes + 1 largest shards with one replica, k + 1 share a node: the least that these may be, by step (T,)."""
    z, count = cluster.policy.risk_z, int((capacity > 0).sum())
    whole = served & (_replicas(cluster) == 1)
    best = np.zeros(steady.mean.shape[1])
    if not whole.any():
        return best
    order = np.argsort(-steady.mean[whole], axis=0, kind="stable")
    mean = np.take_along_axis(steady.mean[whole], order, axis=0)
    own_square = np.take_along_axis(steady.own_square[whole], order, axis=0)
    for k in range(1, min(_COUNTED, (len(mean) - 1) // count) + 1):
        top = k * count + 1
        least = np.sort(own_square[:top], axis=0)[: k + 1].sum(axis=0)
        best = np.maximum(best, mean[top - k - 1 : top].sum(axis=0) + z * np.sqrt(least))
    return best / float(capacity.max())
