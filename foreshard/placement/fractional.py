"""Fractional placement by linear programs (HiGHS): shards may be split freely, so their least peak bounds every placement's.

A node's quantile is at least its mean plus z times its spread in any one direction (Cauchy and Schwarz), which is linear in
shares. The value taken is that of the dual prices: weak duality makes it a bound even where the solver stopped early.
Source of the correction for reduced costs of the wrong sign: Neumaier and Shcherbina 2004.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix, csr_matrix

from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Floats, Ints
from foreshard.placement.loads import NodeLoads

_CLASS_SIZE = 40_000  # of permit rows × nodes
_CLASS_STEPS = 6
_ENTRIES = 200_000  # shards × nodes × steps
_ROUNDS = 4  # of directions made to fit the placement found


class _Rows(NamedTuple):
    """Rows of a program: entries and right-hand sides."""

    row: Ints
    column: Ints
    value: Floats
    right: Floats


def class_bound(cluster: Cluster, loads: NodeLoads, may: Bools, capacity: Floats, time_limit: float) -> float:
    """The least peak when loads of each permit row (`may`, (P, N)) flow freely to the nodes that it allows, at single steps.

    Loads (S, T) count in the direction of the pool's spread. Time: that of a few programs of P × N variables.
    """
    rows = np.flatnonzero(may.any(axis=1))
    if len(rows) * len(capacity) > _CLASS_SIZE:
        return 0.0
    linear = np.maximum(_in_direction(loads, cluster.policy.risk_z), 0.0)
    permit = np.where(cluster.shards.permit < 0, len(cluster.allowed), cluster.shards.permit)
    load = np.zeros((len(may), linear.shape[1]))
    np.add.at(load, permit, linear)
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
    Directions start as the pool's and are then refitted to the placement found, a few times. Constraints that the layout at hand
    breaks are widened to what it has.
    """
    model = _Model.of(cluster, served, may, capacity)
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


class _Model(NamedTuple):
    """The program without its load rows: columns are full, hot, recent and older parts of each permitted pair, then the peak."""

    shard: Ints  # (E,) of each pair, among the served
    node: Ints  # (E,)
    recent: Floats  # (E,)
    capacity: Floats
    upper: tuple[csr_matrix, Floats]
    equal: tuple[csr_matrix, Floats]
    highest: float

    @classmethod
    def of(cls, cluster: Cluster, served: Bools, may: Bools, capacity: Floats) -> _Model:
        shards = cluster.shards
        which = np.flatnonzero(served)
        permit = np.where(shards.permit[which] < 0, len(cluster.allowed), shards.permit[which])
        on = may[permit] | _at_hand(cluster, which, capacity)
        shard, node = np.nonzero(on)
        count, pairs = len(which), len(shard)
        most = np.maximum(np.maximum(shards.most[which], _at_hand(cluster, which, capacity).sum(axis=1)), 1)
        each, one = np.arange(pairs), np.ones(pairs)
        full, hot, recent, older = (each + k * pairs for k in range(4))
        upper = [
            _Rows(np.tile(each, 3), np.concatenate([recent, full, hot]), np.repeat([1.0, -1.0, -1.0], pairs), np.zeros(pairs)),
            _Rows(np.tile(each, 2), np.concatenate([older, full]), np.repeat([1.0, -1.0], pairs), np.zeros(pairs)),
            _Rows(np.tile(each, 2), np.concatenate([full, hot]), np.ones(2 * pairs), one),
            _Rows(shard, full, -one, -np.minimum(shards.least[which], on.sum(axis=1)).astype(np.float64)),
            _Rows(np.tile(shard, 2), np.concatenate([full, hot]), np.ones(2 * pairs), most.astype(np.float64)),
            *_limits(cluster, which, shard, node, capacity),
            *_distinct(cluster, which, shard, node),
        ]
        sure = np.flatnonzero(shards.least[which] > 0)
        placed = np.flatnonzero((shards.least[which] > 0) | (shards.parent[which] >= 0))
        equal = [_all_of(shard, recent, placed, count), _all_of(shard, older, sure, count)]
        total = shards.mean + cluster.policy.risk_z * np.sqrt(shards.own_square + (shards.common**2).sum(axis=2))
        columns = 4 * pairs + 1
        return cls(
            shard,
            node,
            shards.recent[which][shard],
            capacity,
            _stacked(upper, columns),
            _stacked(equal, columns),
            float(total.sum(axis=0).max()) / float(capacity[capacity > 0].min()) + 1.0,
        )

    def solve(self, cuts: list[tuple[int, Floats]], time_limit: float) -> tuple[float, Floats | None]:
        """The bound of the program with these load rows, and the shares (S, N) of its solution, None if it has none."""
        pairs, columns = len(self.shard), 4 * len(self.shard) + 1
        each, size = np.arange(pairs), len(self.capacity)
        rows = []
        for _, unit in cuts:
            value = unit[self.shard, self.node]
            rows.append(
                _Rows(
                    np.concatenate([self.node, self.node, np.arange(size)]),
                    np.concatenate([each + 2 * pairs, each + 3 * pairs, np.full(size, 4 * pairs)]),
                    np.concatenate([self.recent * value, (1.0 - self.recent) * value, -self.capacity]),
                    np.zeros(size),
                )
            )
        extra, right = _stacked(rows, columns)
        matrix = csr_matrix(_on_top(self.upper[0], extra))
        limits = np.concatenate([self.upper[1], right])
        cost = np.append(np.zeros(columns - 1), 1.0)
        highest = np.append(np.ones(columns - 1), self.highest)
        found = linprog(
            cost,
            A_ub=matrix,
            b_ub=limits,
            A_eq=self.equal[0],
            b_eq=self.equal[1],
            bounds=np.stack([np.zeros(columns), highest], axis=1),
            method="highs",
            options={"time_limit": time_limit},
        )
        if found.status != 0:
            return 0.0, None
        price, free = np.minimum(found.ineqlin.marginals, 0.0), found.eqlin.marginals
        reduced = cost - matrix.T @ price - self.equal[0].T @ free
        value = math.fsum([*(limits * price), *(self.equal[1] * free), *(np.minimum(reduced, 0.0) * highest)])
        share = np.zeros((int(self.shard.max()) + 1, size))
        shares = self.recent * found.x[2 * pairs : 3 * pairs] + (1.0 - self.recent) * found.x[3 * pairs : 4 * pairs]
        share[self.shard, self.node] = shares
        return min(value, self.highest), share


def _stacked(parts: list[_Rows], columns: int) -> tuple[csr_matrix, Floats]:
    """Blocks of rows one below the other."""
    starts = np.concatenate([[0], np.cumsum([len(p.right) for p in parts])]).astype(np.int64)
    row = np.concatenate([p.row + start for p, start in zip(parts, starts, strict=False)])
    column, value = np.concatenate([p.column for p in parts]), np.concatenate([p.value for p in parts])
    right = np.concatenate([p.right for p in parts])
    return csr_matrix(coo_matrix((value, (row, column)), shape=(len(right), columns))), right


def _on_top(first: csr_matrix, second: csr_matrix) -> coo_matrix:
    a, b = first.tocoo(), second.tocoo()
    shape = (a.shape[0] + b.shape[0], a.shape[1])
    row = np.concatenate([a.row, b.row + a.shape[0]])
    return coo_matrix((np.concatenate([a.data, b.data]), (row, np.concatenate([a.col, b.col]))), shape=shape)


def _all_of(shard: Ints, column: Ints, which: Ints, count: int) -> _Rows:
    """The parts of each of these shards sum to 1."""
    place = np.full(count, -1)
    place[which] = np.arange(len(which))
    kept = place[shard] >= 0
    return _Rows(place[shard[kept]], column[kept], np.ones(int(kept.sum())), np.ones(len(which)))


def _at_hand(cluster: Cluster, which: Ints, capacity: Floats) -> Bools:
    """Which usable nodes hold each of these shards now, (S, N)."""
    node = cluster.held.node[which]
    on = np.zeros((len(which), len(capacity)), dtype=np.bool_)
    s, k = np.nonzero(node >= 0)
    on[s, node[s, k]] = True
    return on & (capacity > 0)


def _limits(cluster: Cluster, which: Ints, shard: Ints, node: Ints, capacity: Floats) -> list[_Rows]:
    shards, pairs = cluster.shards, len(shard)
    full, hot = shards.size[which, FULL], shards.size[which, HOT]
    part = np.divide(np.minimum(hot, full), full, out=np.zeros(len(which)), where=full > 0)
    rows = []
    for r in range(shards.need.shape[1]):
        need = shards.need[which, r]
        s, k = np.nonzero(cluster.held.node[which] >= 0)
        kind = cluster.held.kind[which][s, k]
        used = np.bincount(
            cluster.held.node[which][s, k], np.where(kind == FULL, need[s], part[s] * need[s]), minlength=len(capacity)
        )
        finite = np.isfinite(cluster.nodes.limit[:, r])
        limit = np.where(finite, np.maximum(cluster.nodes.limit[:, r], used), float(need.sum()))
        value = np.concatenate([need[shard], (part * need)[shard]])
        rows.append(_Rows(np.tile(node, 2), np.concatenate([np.arange(pairs), pairs + np.arange(pairs)]), value, limit))
    return rows


def _distinct(cluster: Cluster, which: Ints, shard: Ints, node: Ints) -> list[_Rows]:
    group, pairs, rows = cluster.shards.group[which], len(shard), []
    for g in np.unique(group[group >= 0]):
        if not cluster.groups.distinct[g]:
            continue
        members = group[shard] == g
        held = cluster.held.node[which[group == g]]
        at_hand = np.bincount(held[held >= 0], minlength=len(cluster.nodes.ids))
        column = np.flatnonzero(members)
        rows.append(
            _Rows(
                np.tile(node[members], 2),
                np.concatenate([column, column + pairs]),
                np.ones(2 * len(column)),
                np.maximum(at_hand, 1).astype(np.float64),
            )
        )
    return rows
