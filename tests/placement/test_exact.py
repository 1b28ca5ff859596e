"""The exact optimum against plain enumeration, and the movement bound against it."""

from __future__ import annotations

import itertools

import arrays
import numpy as np
import pytest
from exact import bytes_of, exact_of, exact_optimum, overload_of
from test_conflicts import group_kept

from foreshard.model import Layout, Node, PlacementProblem, Policy, Replica, ShardLoad
from foreshard.placement.cluster import Cluster
from foreshard.placement.loads import ceiling, node_quantiles
from foreshard.placement.movement_bound import movement_lower_bound


def random_cluster(seed: int) -> Cluster:
    generator = np.random.default_rng(seed)
    count, size = int(generator.integers(1, 7)), int(generator.integers(1, 5))
    accepts = generator.random(size) < 0.85
    accepts[0] = True
    mean = generator.integers(0, 9, (count, 2)).astype(float)
    sizes = np.stack([np.zeros(count), np.full(count, 20), generator.integers(2, 9, count) * 10], axis=1).astype(np.int64)
    shards = arrays.shards(
        mean,
        own_square=(generator.uniform(0, 0.5, (count, 2)) * mean) ** 2,
        common=generator.uniform(-0.3, 0.3, (count, 2, 1)) * mean[:, :, None],
        need=generator.integers(0, 5, (count, 1)).astype(float),
        size=sizes,
        group=generator.integers(-1, 2, count),
        permit=generator.integers(-1, 2, count),
    )
    pool = arrays.nodes(
        generator.choice([5.0, 10.0, 20.0], size).tolist(),
        accepts=accepts,
        limit=generator.choice([6.0, 12.0, np.inf], (size, 1)),
        zone=generator.integers(0, 3, size),
        neighbourhood=generator.integers(0, 2, size),
    )
    held = arrays.placement(seed, [1] * count, [1] * count, list(range(size)))
    groups = arrays.groups([bool(seed % 2), False], [1, 1], [[1] if seed % 3 == 0 else [], []])
    return arrays.cluster(pool, shards, held, group=groups, allowed=generator.random((2, size)) < 0.7)


def enumerated(cluster: Cluster) -> tuple[float, int] | None:
    """The best of all layouts, one at a time."""
    best: tuple[float, int] | None = None
    shards, size = cluster.shards, len(cluster.nodes.ids)
    for nodes in itertools.product(np.flatnonzero(cluster.nodes.accepts).tolist(), repeat=len(shards.ids)):
        if any(p >= 0 and not cluster.allowed[p, n] for p, n in zip(shards.permit, nodes, strict=True)):
            continue
        on = np.zeros((len(nodes), size), dtype=bool)
        on[np.arange(len(nodes)), list(nodes)] = True
        if ((on * shards.need).sum(axis=0) > cluster.nodes.limit[:, 0]).any():
            continue
        if not all(group_kept(cluster, on, g) for g in range(2)):
            continue
        held = arrays.holdings([{n: 2} for n in nodes])
        over = float(np.maximum(0.0, node_quantiles(cluster, held) - ceiling(cluster))[cluster.nodes.accepts].sum())
        price = round(over, 4), bytes_of(cluster, np.array(nodes))
        best = price if best is None else min(best, price)
    return best


@pytest.mark.parametrize("block", range(6))
def test_the_optimum_is_the_best_of_all_layouts(block: int) -> None:
    solved = 0
    for seed in range(block * 10, block * 10 + 10):
        cluster = random_cluster(seed)
        found, best = exact_of(cluster), enumerated(cluster)
        assert (found is None) == (best is None), f"seed {seed}"
        if found is not None and best is not None:
            solved += 1
            assert found.overload == pytest.approx(best[0], abs=2e-4), f"seed {seed}"
            assert found.bytes == best[1], f"seed {seed}"
    assert solved > 2


def test_no_fewer_bytes_than_the_bound_attain_the_least_overload() -> None:
    gaps = []
    for seed in range(150):
        cluster = random_cluster(seed)
        found = exact_of(cluster)
        if found is None:
            continue
        attained = node_quantiles(cluster, arrays.holdings([{int(n): 2} for n in found.node]))
        bound = movement_lower_bound(cluster, np.maximum(ceiling(cluster), attained), np.zeros_like(attained))
        assert bound.bytes <= found.bytes, f"seed {seed}"
        gaps.append((found.bytes - bound.bytes) / found.bytes if found.bytes else 0.0)
    print(f"{len(gaps)} solved, gap mean {np.mean(gaps):.3f}, none in {np.mean(np.array(gaps) == 0):.2f}")
    assert len(gaps) > 50


def test_a_problem_is_stated_in_its_dataclasses() -> None:
    policy = Policy(min_full_replicas=1, max_replicas=1, bounded_load=1.15, risk_z=0.0)
    nodes = (Node("a", 10.0), Node("b", 10.0))
    loads = tuple(ShardLoad(i, (), (), bytes_full=10 * (i + 1)) for i in range(2))
    steps = (arrays.HOT_FROM,)
    shards = tuple(ShardLoad(s.shard_id, (4.0,), (0.0,), bytes_full=s.bytes_full) for s in loads)
    layout = Layout(1, (Replica(0, "a"), Replica(1, "a")))
    problem = PlacementProblem("p", layout, nodes, shards, policy, steps, arrays.HOT_FROM)  # type: ignore[arg-type]
    found = exact_optimum(problem)
    assert found is not None
    assert found.overload == 0.0
    assert found.bytes == 10
    assert found.node.tolist() == [1, 0]


def test_overload_is_what_lies_above_the_ceilings() -> None:
    cluster = arrays.cluster(
        arrays.nodes([10.0, 10.0]), arrays.shards([[9.0], [1.0]], size=np.full((2, 3), 5)), arrays.holdings([{0: 2}, {1: 2}])
    )
    assert overload_of(cluster, np.array([0, 1])) == pytest.approx(9.0 - 1.15 * 5.0)
    assert exact_of(cluster).bytes == 0  # type: ignore[union-attr]
