"""65,536 equal slots on 200 nodes, from the hash layout to none with more than its share: beside the exact flow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from benchmarks.placement_figures import Clock, Figure
from benchmarks.placement_pools import PLAIN, Floats, Ints, broken, hash_layout, holdings, moved, pool
from foreshard.placement.cluster import Cluster
from foreshard.placement.solver import solve_cluster

SLOTS, NODES = 65_536, 200


def figures() -> list[Figure]:
    """Every slot has load 1 and one byte, so bytes moved are slots moved; the cap is ⌈65,536 / 200⌉ = 328 slots."""
    solve_cluster(_problem(2_000, 10)[0])  # compiles
    cluster, cap = _problem(SLOTS, NODES)
    counts = np.bincount(cluster.held.node[:, 0], minlength=NODES)
    bound = int(np.maximum(counts - cap, 0).sum())
    with Clock() as flow:
        exact = _flow(counts, cap)
    with Clock() as ours:
        outcome = solve_cluster(cluster)
    slots = moved(cluster.held, outcome.held, np.ones(SLOTS, dtype=np.int64))
    after = np.bincount(outcome.held.node[:, 0], minlength=NODES)
    every = np.ones(NODES, dtype=np.bool_)
    return [
        ours.figure("65,536 slots × 200 nodes", 0.1, f"exact flow {flow.cpu:.3f} s"),
        Figure("slots moved", slots, "", bound, beside=f"exact flow {exact:,}; bound {bound:,}"),
        Figure("most slots on a node", int(after.max()), "", cap, beside=f"before: {counts.max()}"),
        Figure("slots lost or doubled", broken(outcome.held, every, 1), "", 0),
    ]


def _problem(slots: int, nodes: int) -> tuple[Cluster, int]:
    cap = -(-slots // nodes)
    load: Floats = np.ones((slots, 1))
    size: Ints = np.ones(slots, dtype=np.int64)
    # A hair above the whole number, so that rounding does not make of 328 slots 327.
    policy = replace(PLAIN, bounded_load=cap / (slots / nodes) * (1 + 1e-9))
    return pool(load, size, holdings(hash_layout(slots, nodes)), np.full(nodes, 2.0 * cap), policy), cap


def _flow(counts: Ints, cap: int) -> int:
    """Slots moved by minimum-cost flow from nodes above the cap over nodes below it to one sink."""
    flow = SimpleMinCostFlow()
    above, below = np.flatnonzero(counts > cap), np.flatnonzero(counts < cap)
    sink, total = len(counts), int((counts[above] - cap).sum())
    tails, heads = np.repeat(above, len(below)), np.tile(below, len(above))
    flow.add_arcs_with_capacity_and_unit_cost(tails, heads, np.full(len(tails), total), np.ones(len(tails), dtype=np.int64))
    room = cap - counts[below]
    flow.add_arcs_with_capacity_and_unit_cost(below, np.full(len(below), sink), room, np.zeros(len(below), dtype=np.int64))
    flow.set_nodes_supplies(np.append(above, sink), np.append(counts[above] - cap, -total))
    if flow.solve() != flow.OPTIMAL:
        raise SystemExit("the exact flow found no solution")
    return int(flow.optimal_cost())
