"""The linear program of fractional placement: replicas and shares of load may be split freely, constraints stay."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix, csr_matrix

from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Floats, Ints


class _Rows(NamedTuple):
    """Rows of a program: entries and right-hand sides."""

    row: Ints
    column: Ints
    value: Floats
    right: Floats


class Program(NamedTuple):
    """The program without its load rows: columns are full, hot, recent and older parts of each pair, then the peak."""

    shard: Ints  # (E,) of each pair, among the served
    node: Ints  # (E,)
    recent: Floats  # (E,)
    capacity: Floats
    upper: tuple[csr_matrix, Floats]
    equal: tuple[csr_matrix, Floats]
    highest: float

    @classmethod
    def of(cls, cluster: Cluster, served: Bools, may: Bools, capacity: Floats) -> Program:
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
        least = math.fsum([*(limits * price), *(self.equal[1] * free), *(np.minimum(reduced, 0.0) * highest)])
        share = np.zeros((int(self.shard.max()) + 1, size))
        shares = self.recent * found.x[2 * pairs : 3 * pairs] + (1.0 - self.recent) * found.x[3 * pairs : 4 * pairs]
        share[self.shard, self.node] = shares
        return min(least, self.highest), share


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
