"""Fractional placement by linear programs (HiGHS): shards may be split freely, so their least peak bounds every placement's.

A node's quantile is at least its mean plus z times its spread in any one direction (Cauchy and Schwarz), which is linear in
shares. The value taken is that of the dual prices: weak duality makes it a bound even where the solver stopped early.
Source of the correction for reduced costs of the wrong sign: Neumaier and Shcherbina 2004.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from foreshard.placement.cluster import Bools, Cluster, Floats, Ints
from foreshard.placement.fractional_program import Program
from foreshard.placement.loads import NodeLoads

_CLASS_SIZE = 40_000  # of permit rows × nodes
_CLASS_STEPS = 6
_ENTRIES = 20_000  # shards × nodes × steps: a second of work at most, so that the time limit seldom decides
_ROUNDS = 4  # of directions made to fit the placement found


def class_bound(loads: NodeLoads, row: Ints, may: Bools, capacity: Floats, z: float, time_limit: float) -> float:
    """The least peak when loads of each permit row flow freely to the nodes that it allows, at single steps.

    `may` (P, N): the nodes of each row; `row` (S,): that of each shard. Loads (S, T) count in the direction of the
    pool's spread. Time: that of a few programs of P × N variables.
    """
    rows = np.flatnonzero(may.any(axis=1))
    if len(rows) * len(capacity) > _CLASS_SIZE:
        return 0.0
    linear = np.maximum(_in_direction(loads, z), 0.0)
    load = np.zeros((len(may), linear.shape[1]))
    np.add.at(load, row, linear)
    steps = np.argsort(-load.sum(axis=0), kind="stable")[:_CLASS_STEPS]
    return max(_one_step(load[rows, t], may[rows], capacity, time_limit / _CLASS_STEPS) for t in steps)


def _in_direction(loads: NodeLoads, z: float) -> Floats:
    """Mean plus z times the part of each spread along the pool's, (S, T): sums to the pool's quantile."""
    own_square, common = loads.own_square.sum(axis=0), loads.common.sum(axis=0)
    length = np.sqrt(own_square + (common * common).sum(axis=1))
    along = loads.own_square + np.einsum("stf,tf->st", loads.common, common)
    linear: Floats = loads.mean + z * np.divide(along, length[None], out=np.zeros_like(along), where=length[None] > 0)
    return linear


def _one_step(load: Floats, may: Bools, capacity: Floats, time_limit: float) -> float:
    """max Σ_c load_c × the least price of its nodes, over prices with Σ price × capacity = 1; evaluated from the prices."""
    c, n = np.nonzero(may)
    entries = np.arange(len(c))
    peak = len(c)
    balance = csr_matrix((np.ones(len(c)), (c, entries)), shape=(len(may), peak + 1))
    use = csr_matrix(
        (
            np.append(np.ones(len(c)), -capacity),
            (np.append(n, np.arange(len(capacity))), np.append(entries, [peak] * len(capacity))),
        ),
        shape=(len(capacity), peak + 1),
    )
    scale = max(float(load.sum()), 1e-300)
    found = linprog(
        np.append(np.zeros(peak), 1.0),
        A_ub=use,
        b_ub=np.zeros(len(capacity)),
        A_eq=balance,
        b_eq=load / scale,
        method="highs",
        options={"time_limit": time_limit},
    )
    if found.status != 0:
        return 0.0
    price = np.maximum(-found.ineqlin.marginals, 0.0)
    total = float(price @ capacity)
    least = np.where(may, price[None], np.inf).min(axis=1)
    return float(load @ least) / total if total > 0 else 0.0


def worth_solving(cluster: Cluster, served: Bools) -> bool:
    """Whether limits or groups restrict placement, and the problem is small enough."""
    groups = cluster.shards.group[served]
    restricted = bool(np.isfinite(cluster.nodes.limit).any() or cluster.groups.distinct[groups[groups >= 0]].any())
    return restricted and int(served.sum()) * len(cluster.nodes.ids) <= _ENTRIES


def fractional_bound(cluster: Cluster, served: Bools, may: Bools, capacity: Floats, time_limit: float) -> float:
    """The least peak of fractional placement under permits, replica counts, limits and distinct nodes, 0 if there is none.

    Variables per shard and node: how much of a full and of a hot replica is there, and the shares of recent and older load.
    Directions start as the pool's and are then refitted to the placement found, a few times. Constraints that the layout at
    hand breaks are widened to what it has.
    """
    model = Program.of(cluster, served, may, capacity)
    shards, z = cluster.shards, cluster.policy.risk_z
    loads = NodeLoads(shards.mean[served], shards.own_square[served], shards.common[served])
    pooled = _in_direction(loads, z)
    steps = np.argsort(-pooled.sum(axis=0), kind="stable")[: max(1, _ENTRIES // max(1, len(model.shard)))]
    cuts = [(t, np.broadcast_to(pooled[:, t][:, None], (len(pooled), len(capacity)))) for t in steps]
    best = 0.0
    for _ in range(_ROUNDS):
        value, share = model.solve(cuts, time_limit / _ROUNDS)
        best = max(best, value)
        if share is None:
            break
        cuts += [(t, _fitted(loads, share, int(t), z)) for t in steps]
    return best


def _fitted(loads: NodeLoads, share: Floats, t: int, z: float) -> Floats:
    """What a unit of each shard's share adds to each node in the direction of that node's spread under `share`, (S, N)."""
    own_square = (share * share * loads.own_square[:, t][:, None]).sum(axis=0)
    common = share.T @ loads.common[:, t]
    length = np.sqrt(own_square + (common * common).sum(axis=1))
    along = share * loads.own_square[:, t][:, None] + loads.common[:, t] @ common.T
    linear: Floats = loads.mean[:, t][:, None] + z * np.divide(
        along, length[None], out=np.zeros_like(along), where=length[None] > 0
    )
    return linear
