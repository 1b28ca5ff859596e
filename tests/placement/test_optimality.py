"""Plans of small problems beside the exact optimum: how often overload is the least, and bytes above the fewest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from chains import unexplained
from clusters import HOT_FROM, steps, typical
from exact import exact_optimum, overload_of

from foreshard.model import Layout, Node, PlacementProblem, Policy, Replica, Resource, ShardGroup, ShardLoad
from foreshard.placement import solve
from foreshard.placement.building import build

SEEDS = 60


def small(seed: int, constrained: bool) -> PlacementProblem:
    """Up to eight shards of one replica on two to five nodes; `constrained`: with storage, a group, pins, avoided nodes."""
    generator = np.random.default_rng(seed)
    count, size = int(generator.integers(3, 9)), int(generator.integers(2, 6))
    used = generator.uniform(0.3, 1.0)
    capacity = generator.choice([20.0, 30.0, 40.0], size)
    names = [f"n{i}" for i in range(size)]
    loads = generator.uniform(0.2, 1.0, (count, 2))
    loads *= used * 0.8 * capacity.sum() / loads.sum(axis=0).max()
    group = "g" if constrained and size >= 3 else ""
    shards = tuple(
        ShardLoad(
            i,
            tuple(row),
            tuple(0.1 * x for x in row),
            (),
            bytes_full=int(generator.integers(1, 20)) * 100,
            bytes_hot=50,
            needs={"storage": float(generator.integers(1, 5))} if constrained else {},
            pins=(names[0],) if constrained and i == 0 and seed % 4 == 0 else (),
            avoids=(names[-1],) if constrained and i == 1 else (),
            group=group if i in (2, 3) else "",
        )
        for i, row in enumerate(loads.tolist())
    )
    pool = tuple(
        Node(name, float(c), zone="ab"[i % 2], limits={"storage": 3.0 * count} if constrained else {})
        for i, (name, c) in enumerate(zip(names, capacity.tolist(), strict=True))
    )
    layout = Layout(1, tuple(Replica(i, names[int(generator.integers(size))]) for i in range(count)))
    return PlacementProblem(
        pool_id="p",
        layout=layout,
        nodes=pool,
        shards=shards,
        policy=Policy(min_full_replicas=1, max_replicas=1, settle=0.0),
        steps=steps(2),
        covers_from=HOT_FROM,
        groups=(ShardGroup("g", distinct_nodes=True, min_zones=2),) if constrained else (),
        resources=(Resource("storage"),) if constrained else (),
    )


class Compared(NamedTuple):
    seed: int
    overload: float  # above the optimum's, as a part of the pool's load
    bytes: int  # of the plan
    fewest: int  # of the optimum
    bound: int


def compared(constrained: bool) -> list[Compared]:
    result = []
    for seed in range(SEEDS):
        given = small(seed, constrained)
        best = exact_optimum(given)
        if best is None:
            continue
        plan = solve(given, iterations=20_000)
        assert unexplained(given, plan) == [], f"seed {seed}"
        at = {node: i for i, node in enumerate(build(given).nodes.ids)}
        places = np.array([at[r.node_id] for r in sorted(plan.layout.replicas, key=lambda r: r.shard_id)])
        above = overload_of(build(given), places) - best.overload
        load = sum(s.mean[0] for s in given.shards)
        result.append(Compared(seed, above / load, plan.metrics.bytes_moved, best.bytes, plan.metrics.bytes_lower_bound))
    return result


@pytest.mark.parametrize("constrained", [False, True])
def test_small_plans_are_near_the_exact_optimum(constrained: bool) -> None:
    found = compared(constrained)
    assert len(found) > SEEDS // 2
    optimal = [c for c in found if c.overload <= 1e-6]
    gaps = np.array([(c.bytes - c.fewest) / max(c.fewest, 1) if c.fewest else float(c.bytes > 0) for c in optimal])
    rest = [c.overload for c in found if c.overload > 1e-6]
    print(f"{len(found)} problems, overload the least in {len(optimal) / len(found):.3f}")
    print(f"else above it by {np.mean(rest or [0]):.4f} of the load on average, {max(rest, default=0):.4f} at most")
    print(f"bytes above the fewest: mean {gaps.mean():.3f}, p90 {np.quantile(gaps, 0.9):.3f}, none in {np.mean(gaps <= 0):.3f}")
    print("worst seeds", [c.seed for c in sorted(found, key=lambda c: -c.overload)[:5]])
    assert len(optimal) >= (0.85 if constrained else 0.9) * len(found)
    assert gaps.mean() <= 0.15
    for c in found:
        assert c.overload >= -1e-6, f"seed {c.seed}: less overload than the least"
    for c in optimal:
        assert c.bytes >= c.fewest, f"seed {c.seed}: fewer bytes than the fewest"


@pytest.mark.parametrize("constrained", [False, True])
def test_bounds_are_never_above_what_the_plan_attains(constrained: bool) -> None:
    for seed in range(SEEDS, 2 * SEEDS):
        metrics = solve(small(seed, constrained), iterations=2_000).metrics
        assert metrics.bytes_lower_bound <= metrics.bytes_moved, f"seed {seed}"
        assert metrics.peak_lower_bound <= metrics.peak_after * (1 + 1e-9), f"seed {seed}"


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_for_larger_pools_too(seed: int) -> None:
    given = typical(seed, 128, 8, used=0.7, horizon=6)
    metrics = solve(given).metrics
    assert metrics.bytes_lower_bound <= metrics.bytes_moved
    assert metrics.peak_lower_bound <= metrics.peak_after * (1 + 1e-9)
