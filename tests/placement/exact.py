"""The exact optimum of small problems: the least overload above the ceilings, and the fewest bytes with no more than that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ortools.sat.python import cp_model

from foreshard.model import PlacementProblem
from foreshard.placement.building import build
from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Floats, Ints
from foreshard.placement.loads import NodeLoads, ceiling, quantile

MOST_SHARDS = 10
# Overload counts in this part of the pool's load.
_GRAIN = 1e-7


class Optimum(NamedTuple):
    overload: float  # Σ over accepting nodes and steps of what the load quantile is above the ceiling
    bytes: int
    node: Ints  # of each shard, in the order of shard ids


def exact_optimum(problem: PlacementProblem) -> Optimum | None:
    """For problems of at most ten shards with one full replica each (min_full_replicas and max_replicas 1).

    Over all layouts on accepting nodes that keep limits, pins, avoids, and groups' distinct nodes, zones (as many as its nodes
    and shards allow) and nearness; None if there is none. Floors of joining nodes, budgets and transient limits play no part.
    By CP-SAT: a node's overload is looked up by the set of shards on it, so the quantile needs no approximation.
    """
    return exact_of(build(problem))


def exact_of(cluster: Cluster) -> Optimum | None:
    """As `exact_optimum`, for a problem as arrays."""
    shards, size = cluster.shards, len(cluster.nodes.ids)
    count = len(shards.ids)
    assert count <= MOST_SHARDS
    assert (shards.least == 1).all()
    assert (shards.most == 1).all()
    over, fits = _tables(cluster)
    grain = max(float(shards.mean.sum()), 1e-300) * _GRAIN
    scaled = np.rint(over / grain).astype(np.int64)
    model = cp_model.CpModel()
    on = {(s, n): model.new_bool_var("") for s in range(count) for n in np.flatnonzero(_may(cluster, s)).tolist()}
    for s in range(count):
        model.add_exactly_one([on[s, n] for n in range(size) if (s, n) in on])
    overloads = []
    for n in np.flatnonzero(cluster.nodes.accepts).tolist():
        held = model.new_int_var(0, (1 << count) - 1, "")
        model.add(held == sum((1 << s) * on[s, n] for s in range(count) if (s, n) in on))
        model.add_allowed_assignments([held], [(i,) for i in np.flatnonzero(fits[n]).tolist()])
        overloads.append(model.new_int_var(0, int(scaled[n].max()), ""))
        model.add_element(held, scaled[n].tolist(), overloads[-1])
    _groups(cluster, model, on)
    total = sum(overloads)
    least = _minimum(model, total)
    if least is None:
        return None
    model.add(total <= round(least.objective_value))
    fewest = _minimum(model, sum(_bytes(cluster, s, n) * var for (s, n), var in on.items()))
    assert fewest is not None
    node = np.array([next(n for n in range(size) if (s, n) in on and fewest.value(on[s, n])) for s in range(count)])
    return Optimum(overload_of(cluster, node), bytes_of(cluster, node), node)


def overload_of(cluster: Cluster, node: Ints) -> float:
    """Of the layout with each shard whole on one node."""
    over, _ = _tables(cluster)
    held = [int((1 << np.flatnonzero(node == n)).sum()) for n in range(len(cluster.nodes.ids))]
    return float(sum(over[n, i] for n, i in enumerate(held)))


def bytes_of(cluster: Cluster, node: Ints) -> int:
    return sum(_bytes(cluster, s, int(n)) for s, n in enumerate(node))


def _minimum(model: cp_model.CpModel, objective: cp_model.LinearExprT) -> cp_model.CpSolver | None:
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    model.minimize(objective)
    status = solver.solve(model)
    assert status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)
    return solver if status == cp_model.OPTIMAL else None


def _may(cluster: Cluster, s: int) -> Bools:
    shards = cluster.shards
    may: Bools = cluster.nodes.accepts & (shards.permit[s] < 0 or cluster.allowed[shards.permit[s]])
    pins = shards.pins[shards.pin_start[s] : shards.pin_start[s + 1]]
    for n in pins:
        may = may & (np.arange(len(may)) == n)
    return may


def _tables(cluster: Cluster) -> tuple[Floats, Bools]:
    """For each node and set of shards (as bits): its overload summed over steps, 0 where it takes none; whether it fits."""
    shards, nodes = cluster.shards, cluster.nodes
    count = len(shards.ids)
    chosen = (np.arange(1 << count)[:, None] >> np.arange(count)[None]) & 1
    parts = (np.einsum("is,st->it", chosen, shards.mean), np.einsum("is,st->it", chosen, shards.own_square))
    quantiles = quantile(NodeLoads(*parts, np.einsum("is,stf->itf", chosen, shards.common)), cluster.policy.risk_z)
    above = np.maximum(0.0, quantiles[None] - ceiling(cluster)[:, None]).sum(axis=2)
    used = chosen @ shards.need
    fits = (used[None] <= nodes.limit[:, None] * (1 + 1e-9)).all(axis=2)
    return np.where(nodes.accepts[:, None], above, 0.0), fits


def _bytes(cluster: Cluster, s: int, n: int) -> int:
    """Bytes copied when the shard's one full replica ends on the node."""
    size, held = cluster.shards.size[s], cluster.held
    kinds = held.kind[s][held.node[s] == n]
    if not len(kinds):
        return int(size[FULL])
    return 0 if kinds[0] == FULL else max(0, int(size[FULL] - size[HOT]))


def _groups(cluster: Cluster, model: cp_model.CpModel, on: dict[tuple[int, int], cp_model.IntVar]) -> None:
    groups, nodes = cluster.groups, cluster.nodes
    for g in range(len(groups.ids)):
        who = np.flatnonzero(cluster.shards.group == g).tolist()
        mine = {key: var for key, var in on.items() if key[0] in who}
        if groups.distinct[g]:
            for n in range(len(nodes.ids)):
                model.add_at_most_one([var for (_, m), var in mine.items() if m == n])
        used = []
        for zone in sorted({int(nodes.zone[n]) for _, n in mine}):
            used.append(model.new_bool_var(""))
            model.add_bool_or([*(var for (_, n), var in mine.items() if nodes.zone[n] == zone), used[-1].negated()])
        model.add(sum(used) >= min(int(groups.min_zones[g]), len(used), len(who)))
        for h in groups.near[groups.near_start[g] : groups.near_start[g + 1]]:
            for (_, n), var in mine.items():
                fellows = [
                    v
                    for (s, m), v in on.items()
                    if cluster.shards.group[s] == h and nodes.neighbourhood[m] == nodes.neighbourhood[n]
                ]
                model.add_bool_or([var.negated(), *fellows])
