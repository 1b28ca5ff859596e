"""A million shards on a thousand nodes over 24 steps: planning again after loads drifted by 1 % and five nodes were lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.placement_figures import Clock, Figure, peak_memory
from benchmarks.placement_pools import Floats, Ints, broken, hash_layout, holdings, least_bytes, moved, pool
from foreshard.model import Policy
from foreshard.placement.cluster import Cluster, Holdings
from foreshard.placement.solving import Outcome, solve_cluster

SHARDS, NODES, STEPS, LOST = 1_000_000, 1_000, 24, 5
DRIFT, SEED = 0.01, 1
POLICY = Policy(min_full_replicas=1, max_replicas=1, max_moves=1 << 62, max_move_bytes=1 << 62)


def figures() -> list[Figure]:
    """Loads are lognormal (sigma 1) with a daily wave of their own phase and a spread of 20 %; bytes lognormal (sigma 1).

    One replica each; the policy is the default one but for that. The layout before is a plan of ours from the hash layout.
    """
    return replanned(SHARDS, NODES)


def replanned(shards: int, nodes: int) -> list[Figure]:
    source = np.random.default_rng(SEED)
    mean, size = _shards(source, shards)
    capacity = np.full(nodes, mean.sum(axis=0).max() / nodes / 0.6)
    solve_cluster(_problem(mean[:300], size[:300], holdings(hash_layout(300, 5)), capacity[:5] * 5 * 300 / shards, None))
    first = _problem(mean, size, holdings(hash_layout(shards, nodes)), capacity, None)
    with Clock() as settling:
        settled = solve_cluster(first).held
    del first
    mean *= np.exp(DRIFT * source.standard_normal((shards, 1)))
    live = np.ones(nodes, dtype=np.bool_)
    live[source.choice(nodes, LOST, replace=False)] = False
    cluster = _problem(mean, size, settled, capacity, live)
    with Clock() as clock:
        outcome = solve_cluster(cluster)
    memory = peak_memory()  # before what follows takes more
    return _figures(cluster, outcome, settled, clock, settling, memory)


def _shards(source: np.random.Generator, shards: int) -> tuple[Floats, Ints]:
    base = source.lognormal(0.0, 1.0, (shards, 1))
    phase = source.uniform(0, 2 * np.pi, (shards, 1))
    mean = base * (1 + 0.5 * np.sin(2 * np.pi * np.arange(STEPS) / STEPS + phase))
    return mean, np.round(source.lognormal(0.0, 1.0, shards) * 1e9).astype(np.int64)


def _problem(mean: Floats, size: Ints, held: Holdings, capacity: Floats, live: np.ndarray | None) -> Cluster:
    return pool(mean, size, held, capacity, replace(POLICY), own=0.2 * mean, live=live)


def _figures(
    cluster: Cluster, outcome: Outcome, settled: Holdings, clock: Clock, settling: Clock, memory: float
) -> list[Figure]:
    size = cluster.shards.size[:, 2]
    bytes_moved = moved(settled, outcome.held, size)
    lost, excess = _bound(cluster, settled, outcome.ceiling)
    over_before = int((outcome.before > outcome.ceiling)[cluster.nodes.live].any(axis=1).sum())
    worst = float((outcome.after / outcome.ceiling)[cluster.nodes.live].max())
    total = float(size.sum())
    return [
        clock.figure("planning again", 30.0, f"planning from the hash layout: {settling.cpu:.1f} s CPU"),
        Figure("peak memory of the whole run, inputs with it", memory, "GB", 4.0),
        Figure(
            "moved / bound",
            bytes_moved / (lost + excess),
            beside=f"moved {bytes_moved / total:.3%} of the bytes; bound {(lost + excess) / total:.3%}, "
            f"of it {lost / total:.3%} on lost nodes",
        ),
        Figure("highest load / ceiling", worst, "", 1.0, beside=f"nodes above their ceiling before: {over_before}"),
        Figure("shards lost or doubled", broken(outcome.held, cluster.nodes.live, 1), "", 0),
    ]


def _bound(cluster: Cluster, held: Holdings, ceiling: Floats) -> tuple[float, float]:
    """Bytes on lost nodes, and the fewest that bring each other node below its ceiling.

    Taking a set of shards off a node lowers its quantile by at most the sum of their own quantiles.
    """
    node, shards, z = held.node[:, 0], cluster.shards, cluster.policy.risk_z
    size = shards.size[:, 2]
    lost = float(size[~cluster.nodes.live[node]].sum())
    excess = 0.0
    order = np.argsort(node, kind="stable")
    starts = np.searchsorted(node[order], np.arange(len(ceiling) + 1))
    for n in np.flatnonzero(cluster.nodes.live):
        own = order[starts[n] : starts[n + 1]]
        quantile = shards.mean[own].sum(axis=0) + z * np.sqrt(shards.own_square[own].sum(axis=0))
        step = int((quantile - ceiling[n]).argmax())
        if quantile[step] > ceiling[n, step]:
            gain = shards.mean[own, step] + z * np.sqrt(shards.own_square[own, step])
            excess += least_bytes(float(quantile[step] - ceiling[n, step]), gain, size[own].astype(np.float64))
    return lost, excess
