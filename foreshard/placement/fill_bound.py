"""The least that must be copied to bring nodes up to their floors: the filling side of the movement bound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Floats, Ints
from foreshard.placement.knapsack import common_divisor, least_fraction, rounded_up
from foreshard.placement.repairing import Repair

_STEPS = 2  # of the steps, those that lack most; each gives a valid bound
_SLACK = 1e-9


def fill_cost(cluster: Cluster, floor: Floats, usable: Bools, repair: Repair) -> tuple[float, float]:
    """Least bytes, and load, beyond repair that bring each usable node up to its `floor`, (N, T) or (N,) as in the bound.

    What a node may come to by weights alone: all that it holds, whole. What comes adds to the nodes' sum at most its own
    quantile, or its mean with the tangent of the pooled own spread (a root is concave), each shard once over all nodes, as its
    parts sum to 1. The least bytes are a knapsack's over all nodes together, or each node's fewest copies at the lowest size.
    Time O(nodes under their floor × replicas there + S log S).
    """
    demanded = floor > 0
    nodes = np.flatnonzero((demanded if floor.ndim == 1 else demanded.any(axis=1)) & usable & cluster.nodes.accepts)
    items = _comers(cluster, nodes)
    if not len(nodes) or not len(items):
        return 0.0, 0.0
    best, load = 0.0, 0.0
    for value, need, means in _steps(cluster, floor, nodes, items):
        bytes_least, load_least = _cheapest(cluster, value, np.maximum(need, 0.0), items, repair, means)
        best, load = max(best, bytes_least), max(load, load_least)
    return best, load


def _comers(cluster: Cluster, nodes: Ints) -> Ints:
    """Shards that may come to any of the nodes."""
    permit = cluster.shards.permit
    open_rows = np.append(cluster.allowed[:, nodes].any(axis=1), len(nodes) > 0)
    return np.flatnonzero(open_rows[np.where(permit < 0, len(open_rows) - 1, permit)])


def _steps(cluster: Cluster, floor: Floats, nodes: Ints, items: Ints) -> Iterator[tuple[Floats, Floats, Floats]]:
    """What each shard may add, (I,), what each node lacks, (M,), and the shards' means, by step and by estimate."""
    held = _held_loads(cluster, nodes)
    if floor.ndim == 1:
        whole = np.stack([_alone(cluster, items, t) for t in range(cluster.shards.mean.shape[1])])
        lacks = floor[nodes][:, None] - _highest(held, cluster.policy.risk_z)
        yield whole.max(axis=0), lacks.min(axis=1), cluster.shards.mean[items].min(axis=1)
        return
    lacks = np.maximum(0.0, floor[nodes] - _highest(held, cluster.policy.risk_z))
    for t in np.argsort(-lacks.sum(axis=0), kind="stable")[:_STEPS]:
        if lacks[:, t].sum() > 0:
            means = cluster.shards.mean[items, t]
            yield _alone(cluster, items, int(t)), lacks[:, t], means
            yield (*_tangent(cluster, items, held, floor[nodes, t], int(t)), means)


def _held_loads(cluster: Cluster, nodes: Ints) -> tuple[Floats, Floats, Floats]:
    """Mean, own square and absolute common part of all that each node holds, as if whole: (M, T), (M, T), (M, T, F)."""
    shards, held = cluster.shards, cluster.held
    place = np.full(len(cluster.nodes.ids), -1)
    place[nodes] = np.arange(len(nodes))
    at = np.where(held.node >= 0, place[held.node], -1)
    s, k = np.nonzero(at >= 0)
    m = at[s, k]
    steps, factors = shards.mean.shape[1], shards.common.shape[2]
    sums = np.zeros((len(nodes), steps)), np.zeros((len(nodes), steps)), np.zeros((len(nodes), steps, factors))
    for total, values in zip(sums, (shards.mean[s], shards.own_square[s], np.abs(shards.common[s])), strict=True):
        np.add.at(total, m, values)
    return sums


def _highest(held: tuple[Floats, Floats, Floats], z: float) -> Floats:
    """A quantile that no shares of what is held exceed: common parts of one sign."""
    mean, own_square, common = held
    highest: Floats = mean + z * np.sqrt(own_square + (common * common).sum(axis=2))
    return highest


def _alone(cluster: Cluster, items: Ints, t: int) -> Floats:
    shards = cluster.shards
    common = shards.common[items, t]
    value: Floats = shards.mean[items, t] + cluster.policy.risk_z * np.sqrt(
        shards.own_square[items, t] + (common * common).sum(axis=1)
    )
    return value


def _tangent(
    cluster: Cluster, items: Ints, held: tuple[Floats, Floats, Floats], floor: Floats, t: int
) -> tuple[Floats, Floats]:
    """As `_alone`, with √Σ own² of a node at most a/2 + Σ own² / 2a for any a: here what a node at its floor has on average."""
    shards, z = cluster.shards, cluster.policy.risk_z
    mean, own_square = shards.mean[items, t], shards.own_square[items, t]
    common = shards.common[items, t]
    wide = np.sqrt((common * common).sum(axis=1))
    total = float(mean.sum() + z * wide.sum())
    usual = np.sqrt(own_square.sum() * floor.mean() / total) if total > 0 else 0.0
    if usual <= 0:
        return mean + z * (wide + np.sqrt(own_square)), np.maximum(0.0, floor - _highest(held, z)[:, t])
    value = mean + z * (wide + own_square / (2 * usual))
    shared = np.sqrt((held[2][:, t] ** 2).sum(axis=1))
    reached = held[0][:, t] + z * (shared + usual / 2 + held[1][:, t] / (2 * usual))
    return value, np.where(floor > 0, np.maximum(0.0, floor - reached), 0.0)


def _cheapest(cluster: Cluster, value: Floats, need: Floats, items: Ints, repair: Repair, means: Floats) -> tuple[float, float]:
    shards = cluster.shards
    need = np.maximum(0.0, need - _SLACK * (1.0 + need))
    full = np.maximum(0, shards.size[items, FULL] - repair.least[items])
    hot = np.maximum(0, shards.size[items, HOT] - repair.least[items])
    useful = shards.most[items] > np.maximum(shards.least[items], 1)
    recent = np.where(useful & (shards.recent[items] > 0), shards.recent[items], 1.0)
    hot = np.where(useful & (shards.recent[items] > 0), np.minimum(hot, full), full)
    split = hot < recent * full
    parts = np.concatenate([np.where(split, recent, 1.0) * value, np.where(split, 1.0 - recent, 0.0) * value])
    prices = np.concatenate([np.where(split, hot, full), full - hot]).astype(np.float64)
    least = least_fraction(parts, prices, float(need.sum()))
    reached = np.cumsum(np.sort(value)[::-1])
    copies = int(np.minimum(np.searchsorted(reached, need[need > 0]) + 1, len(items)).sum())
    least = max(least, copies * float(np.minimum(hot, full).min()))
    load = least_fraction(value, means * (repair.least[items] == 0), float(need.sum()))
    return rounded_up(least, common_divisor(np.concatenate([full, hot]).astype(np.int64))), float(load)
