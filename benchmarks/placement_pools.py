"""Pools as the solver's arrays, and what a layout is measured by, worked out apart from the solver."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt

from foreshard.hashing import node_hashes
from foreshard.model import Policy
from foreshard.placement.cluster import FULL, Cluster, Costs, Groups, Holdings, Nodes, Shards
from foreshard.ranking import first_ranked

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# One replica each, no budget, no target below the capacity, no settling below the cap: the bare question of a cap.
PLAIN = Policy(
    min_full_replicas=1,
    max_replicas=1,
    target_utilisation=1.0,
    risk_z=0.0,
    settle=0.0,
    max_moves=1 << 62,
    max_move_bytes=1 << 62,
)


def node_names(count: int) -> tuple[str, ...]:
    """Names whose order is that of their numbers, as the arrays' is that of the names."""
    return tuple(f"node-{i:05d}" for i in range(count))


def hash_layout(shards: int, nodes: int, replicas: int = 1) -> npt.NDArray[np.int32]:
    """The nodes of each shard by rendezvous hashing, all of one weight, shape (shards, replicas)."""
    return first_ranked(np.arange(shards), node_hashes(node_names(nodes)), np.ones(nodes), np.ones(nodes, bool), replicas)


def pool(
    mean: Floats,
    size: Ints,
    held: Holdings,
    capacity: Floats,
    policy: Policy,
    *,
    own: Floats | None = None,
    live: npt.NDArray[np.bool_] | None = None,
) -> Cluster:
    """Shards with loads `mean` (S, T), their own spread `own` (S, T) and bytes `size` (S,), and nothing that binds them."""
    shards, nodes = len(mean), len(capacity)
    live = np.ones(nodes, dtype=np.bool_) if live is None else live
    start = datetime(2026, 1, 5, tzinfo=UTC)
    none = np.zeros(shards, dtype=np.int64)
    no_resource = np.zeros((nodes, 0))
    return Cluster(
        pool_id="benchmark",
        policy=policy,
        steps=tuple(start + timedelta(hours=t) for t in range(mean.shape[1])),
        covers_from=date(2026, 1, 1),
        nodes=Nodes(
            ids=node_names(nodes),
            capacity=capacity,
            target=np.full(nodes, policy.target_utilisation),
            accepts=live.copy(),
            live=live.copy(),
            joining=np.zeros(nodes, dtype=np.bool_),
            zone=np.arange(nodes),
            zone_names=("",) * nodes,
            neighbourhood=np.arange(nodes),
            limit=no_resource,
            soft=no_resource,
        ),
        shards=Shards(
            ids=np.arange(shards),
            mean=mean,
            own_square=np.zeros_like(mean) if own is None else own * own,
            common=np.zeros((*mean.shape, 0)),
            recent=np.zeros(shards),
            size=np.stack([none, size, size], axis=1),
            need=np.zeros((shards, 0)),
            least=none + policy.min_full_replicas,
            most=none + policy.max_replicas,
            parent=none - 1,
            group=none - 1,
            permit=none - 1,
            move_cost=np.zeros(shards),
            pin_start=np.zeros(shards + 1, dtype=np.int64),
            pins=np.zeros(0, dtype=np.int64),
        ),
        groups=Groups((), np.zeros(0, bool), *(np.zeros(n, np.int64) for n in (0, 1, 0))),
        costs=Costs((), np.zeros(0, bool), np.zeros(0), *_no_balances(), pair=np.zeros((0, 0))),
        allowed=np.zeros((0, nodes), dtype=np.bool_),
        held=held,
        hot_from={},
    )


def _no_balances() -> tuple[Ints, Ints, Floats, Floats]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0)


def holdings(node: npt.NDArray[np.int32]) -> Holdings:
    """Full replicas of equal weight, shape (S, R), -1 for none."""
    there = node >= 0
    weight = there / np.maximum(1, there.sum(axis=1, keepdims=True))
    return Holdings(node.astype(np.int32), np.where(there, FULL, 0).astype(np.int8), weight)


def moved(before: Holdings, after: Holdings, size: Ints) -> int:
    """Bytes that nodes hold after and did not hold before; every replica is full. Time O(S × K²)."""
    total = 0
    for place in range(after.node.shape[1]):
        node = after.node[:, place]
        new = (node >= 0) & ~(before.node == node[:, None]).any(axis=1)
        total += int(size[new].sum())
    return total


def node_loads(loads: Floats, held: Holdings, nodes: int) -> Floats:
    """Load of each node at each step, shape (N, T), for `loads` (S, T) split by weight."""
    total = np.zeros((nodes, loads.shape[1]))
    for place in range(held.node.shape[1]):
        there = np.flatnonzero(held.node[:, place] >= 0)
        node, weight = held.node[there, place], held.weight[there, place]
        for t in range(loads.shape[1]):
            total[:, t] += np.bincount(node, weights=weight * loads[there, t], minlength=nodes)
    return total


def broken(held: Holdings, live: npt.NDArray[np.bool_], least: int) -> int:
    """Shards without `least` replicas on distinct live nodes, or with one on a node that is not."""
    node = np.sort(held.node, axis=1)
    there = node >= 0
    twice = (there[:, 1:] & (node[:, 1:] == node[:, :-1])).any(axis=1)
    lost = (there & ~live[np.where(there, node, 0)]).any(axis=1)
    return int((twice | lost | (there.sum(axis=1) < least)).sum())


def least_bytes(excess: float, gain: Floats, size: Floats) -> float:
    """The fewest bytes whose going takes `excess` off a node, shards in parts: a bound for whole ones. Time O(n log n)."""
    order = np.argsort(-gain / np.maximum(size, 1e-300), kind="stable")
    sum_gain, sum_size = np.cumsum(gain[order]), np.cumsum(size[order])
    at = int(np.searchsorted(sum_gain, excess))
    if at == len(order):
        return float(sum_size[-1])
    before = (sum_gain[at - 1], sum_size[at - 1]) if at else (0.0, 0.0)
    return float(before[1] + (excess - before[0]) / gain[order[at]] * size[order[at]])
