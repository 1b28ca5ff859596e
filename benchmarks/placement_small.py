"""Small pools beside the exact optimum: the fewest bytes that bring every node below its ceiling, by CP-SAT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from ortools.sat.python import cp_model

from benchmarks.placement_figures import Figure
from benchmarks.placement_pools import PLAIN, broken, hash_layout, holdings, moved, pool
from foreshard.placement.cluster import Cluster
from foreshard.placement.solver import solve_cluster

POOLS, CAP, SECONDS = 300, 1.15, 20.0


def figures() -> list[Figure]:
    """8 to 30 shards on 3 to 6 nodes by hash, loads and bytes lognormal (sigma 1); every third pool loses a node."""
    ours_sum, exact_sum, at_optimum, missed, fitting, worst, lost = 0, 0, 0, 0, 0, 1.0, 0
    for seed in range(POOLS):
        cluster, cap = _drawn(seed)
        exact = _exact(cluster, cap)
        if exact is None:
            continue
        fitting += 1
        held = solve_cluster(cluster, seed=seed).held
        lost += broken(held, cluster.nodes.live, 1)
        load = np.bincount(held.node[:, 0], cluster.shards.mean[:, 0], len(cluster.nodes.live))
        if load.max() > cap:
            missed += 1
            continue
        ours = moved(cluster.held, held, cluster.shards.size[:, 2])
        ours_sum, exact_sum = ours_sum + ours, exact_sum + exact
        at_optimum += ours <= exact
        worst = max(worst, ours / exact if exact else 1.0 + (ours > 0))
    reached = fitting - missed
    return [
        Figure("bytes moved over the optimum, in all", 100 * (ours_sum / exact_sum - 1), "%", beside=f"{reached} pools"),
        Figure("pools at the optimum", 100 * at_optimum / reached, "%", beside=f"worst: {worst:.2f} × optimum"),
        Figure("pools not brought below the ceiling although it can be", missed, "", beside=f"of {fitting} that can be"),
        Figure("shards lost or doubled", lost, "", 0, beside=f"seeds 0 to {POOLS - 1}"),
    ]


def _drawn(seed: int) -> tuple[Cluster, int]:
    """A pool with whole loads, and its ceiling."""
    source = np.random.default_rng(seed)
    shards, nodes = int(source.integers(8, 31)), int(source.integers(3, 7))
    loads = np.maximum(1, np.round(100 * source.lognormal(0.0, 1.0, shards)))
    size = np.maximum(1, np.round(100 * source.lognormal(0.0, 1.0, shards))).astype(np.int64)
    live = np.ones(nodes, dtype=np.bool_)
    live[source.integers(nodes)] = seed % 3 > 0
    cap = int(CAP * loads.sum() / live.sum())
    policy = replace(PLAIN, bounded_load=(cap + 0.5) * live.sum() / loads.sum())
    held = holdings(hash_layout(shards, nodes))
    return pool(loads[:, None], size, held, np.full(nodes, 2.0 * loads.sum()), policy, live=live), cap


def _exact(cluster: Cluster, cap: int) -> int | None:
    """The fewest bytes, None if no placement keeps to the ceiling; raises SystemExit if that is not known in 20 s."""
    loads, size, holder = cluster.shards.mean[:, 0].astype(int), cluster.shards.size[:, 2], cluster.held.node[:, 0]
    live: npt.NDArray[np.int64] = np.flatnonzero(cluster.nodes.live)
    model = cp_model.CpModel()
    on = {(s, n): model.new_bool_var(f"{s} on {n}") for s in range(len(loads)) for n in live}
    for s in range(len(loads)):
        model.add_exactly_one(on[s, n] for n in live)
    for n in live:
        model.add(sum(int(loads[s]) * on[s, n] for s in range(len(loads))) <= cap)
    model.minimize(sum(int(size[s]) * on[s, n] for s in range(len(loads)) for n in live if n != holder[s]))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.max_time_in_seconds = 1, SECONDS
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return None
    if status != cp_model.OPTIMAL:
        raise SystemExit(f"CP-SAT did not solve a small pool in {SECONDS:.0f} s")
    return round(solver.objective_value)
