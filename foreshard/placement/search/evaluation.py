"""What a placement costs and breaks, worked out plainly with NumPy: apart from the compiled search, to check it by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foreshard.placement.assignment import Assignment, Floats, Ints

_TOLERANCE = 1e-9


class Cost(NamedTuple):
    """The cost of a placement and its parts, of one currency."""

    total: float
    soft: float
    balance: float
    overload: float
    unit_moves: float
    pair_moves: float
    group_moves: float


def used(a: Assignment, node: Ints) -> Floats:
    """What the units use on each node, shape (N, R)."""
    total = np.zeros_like(a.limit)
    np.add.at(total, node, a.use)
    return total


def evaluate(a: Assignment, node: Ints) -> Cost:
    """The cost of `node`, shape (U,), in O(U·(R + T·F) + N·(R + T·F))."""
    use = used(a, node)
    soft = float((a.soft_cost * np.maximum(0.0, use - a.soft)).sum())
    free = a.limit - use
    short = a.balance_target * free[:, a.balance_first] - free[:, a.balance_second]
    balance = float((a.balance_cost * np.maximum(0.0, short)).sum())
    moved = (a.initial >= 0) & (node != a.initial)
    unit_moves = float(a.move_cost[moved].sum())
    pair_moves = float(a.pair_cost[a.initial[moved], node[moved]].sum()) if a.pair_cost.size else 0.0
    grouped = a.group[moved & (a.group >= 0)]
    group_moves = float(a.group_move_cost * np.bincount(grouped, minlength=1).max())
    overload = _overload(a, node)
    total = soft + balance + overload + unit_moves + pair_moves + group_moves
    return Cost(total, soft, balance, overload, unit_moves, pair_moves, group_moves)


def _overload(a: Assignment, node: Ints) -> float:
    nodes, (steps, factors) = len(a.limit), a.common.shape[1:]
    mean, own, common = np.zeros((nodes, steps)), np.zeros((nodes, steps)), np.zeros((nodes, steps, factors))
    np.add.at(mean, node, a.mean)
    np.add.at(own, node, a.own_square)
    np.add.at(common, node, a.common)
    quantile = mean + a.z * np.sqrt((common**2).sum(2) + own)
    return float(a.overload_cost * np.maximum(0.0, quantile - a.ceiling).sum())


def broken(a: Assignment, node: Ints) -> dict[str, float]:
    """The hard constraints that `node` breaks and by how much, each under a name that says where. Empty where all hold.

    Two placements are compared by it: one that is no worse has no name that the other lacks, and no larger amount.
    """
    found: dict[str, float] = {}
    for check in (_capacity, _places, _conflicts, _zones, _nearness):
        found |= check(a, node)
    return found


def _capacity(a: Assignment, node: Ints) -> dict[str, float]:
    use = used(a, node)
    left = np.flatnonzero((a.initial >= 0) & (node != a.initial))
    np.add.at(use, a.initial[left], a.use[left] * a.transient)
    slack = np.where(np.isfinite(a.limit), _TOLERANCE * (1.0 + np.abs(a.limit)), 0.0)
    return {f"node {n} exceeds resource {r}": float(use[n, r] - a.limit[n, r]) for n, r in np.argwhere(use > a.limit + slack)}


def _places(a: Assignment, node: Ints) -> dict[str, float]:
    permitted = a.permit >= 0
    refused = ~a.accepts[node] & (node != a.initial)
    refused[permitted] |= ~a.allowed[a.permit[permitted], node[permitted]]
    return {f"unit {u} may not be on its node": 1.0 for u in np.flatnonzero(refused | (a.fixed & (node != a.initial)))}


def _conflicts(a: Assignment, node: Ints) -> dict[str, float]:
    pairs, number = np.unique(np.stack([a.conflict, node], axis=1), axis=0, return_counts=True)
    return {
        f"class {pairs[i, 0]} is more than once on node {pairs[i, 1]}": float(number[i] - 1) for i in np.flatnonzero(number > 1)
    }


def _places_of_groups(a: Assignment, place: Ints) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in a.min_zones]
    for g, k in {(int(g), int(k)) for g, k in zip(a.group, place, strict=True) if g >= 0}:
        found[g].add(k)
    return found


def _zones(a: Assignment, node: Ints) -> dict[str, float]:
    zones = _places_of_groups(a, a.zone[node])
    missing = {g: int(a.min_zones[g]) - len(zones[g]) for g in range(len(zones))}
    return {f"group {g} is in too few zones": float(count) for g, count in missing.items() if count > 0}


def _nearness(a: Assignment, node: Ints) -> dict[str, float]:
    places = _places_of_groups(a, a.neighbourhood[node])
    found: dict[str, float] = {}
    for g, own in enumerate(places):
        for h in a.near[a.near_start[g] : a.near_start[g + 1]].tolist():
            found |= {f"group {g} is without group {h} in neighbourhood {k}": 1.0 for k in own - places[h]}
    return found
