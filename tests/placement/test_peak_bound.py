"""No placement has a lower peak than the bound; where it is known, the bound is the optimum."""

from __future__ import annotations

import itertools
from dataclasses import replace

import arrays
import numpy as np
import pytest

from foreshard.model import Policy
from foreshard.placement.cluster import FULL, HOT, Cluster, Floats, Holdings
from foreshard.placement.loads import node_quantiles
from foreshard.placement.peak_bound import imbalance_lower_bound, peak_lower_bound


def random_cluster(seed: int, count: int, size: int, replicas: int, limits: bool) -> Cluster:
    generator = np.random.default_rng(seed)
    steps, factors = int(generator.integers(1, 4)), int(generator.integers(0, 3))
    mean = generator.integers(0, 10, (count, steps)).astype(float)
    least = generator.integers(1, replicas + 1, count)
    need = generator.integers(0, 5, (count, 1)).astype(float)
    shards = arrays.shards(
        mean,
        own_square=(generator.uniform(0, 1, (count, steps)) * mean) ** 2,
        common=generator.uniform(-1, 1, (count, steps, factors)) * generator.choice([0.3, 3.0]) * mean[:, :, None],
        recent=generator.choice([0.0, 0.5, 1.0], count),
        need=need,
        least=np.minimum(least, size),
        most=np.full(count, replicas),
        permit=generator.integers(-1, 2, count),
        group=generator.integers(-1, 2, count),
    )
    allowed = generator.random((2, size)) < 0.6
    limit = np.full((size, 1), 2.0 * need.sum() / size + 5 if limits else np.inf)
    pool = arrays.nodes(generator.uniform(5, 20, size).tolist(), limit=limit)
    held = arrays.holdings([{} for _ in range(count)])
    groups = arrays.groups([True, False])
    return arrays.cluster(pool, shards, held, group=groups, allowed=allowed, policy=Policy(risk_z=1.645))


def may_be(cluster: Cluster) -> list[list[int]]:
    every = np.ones(len(cluster.nodes.ids), dtype=bool)
    return [np.flatnonzero(cluster.allowed[p] if p >= 0 else every).tolist() for p in cluster.shards.permit]


def peak(cluster: Cluster, held: Holdings) -> float:
    return float((node_quantiles(cluster, held) / cluster.nodes.capacity[:, None]).max())


def within(cluster: Cluster, held: Holdings) -> bool:
    """Whether a layout keeps limits and distinct nodes."""
    shards, used = cluster.shards, np.zeros(len(cluster.nodes.ids))
    taken: set[tuple[int, int]] = set()
    for s, k in zip(*np.nonzero(held.node >= 0), strict=True):
        part = 1.0 if held.kind[s, k] == FULL else shards.size[s, HOT] / shards.size[s, FULL]
        used[held.node[s, k]] += part * shards.need[s, 0]
        place = (int(shards.group[s]), int(held.node[s, k]))
        if place[0] >= 0 and cluster.groups.distinct[place[0]] and place in taken:
            return False
        taken.add(place)
    return bool((used <= cluster.nodes.limit[:, 0] + 1e-9).all())


def random_layout(cluster: Cluster, generator: np.random.Generator) -> Holdings:
    rows, weights = [], []
    for s, nodes in enumerate(may_be(cluster)):
        low = min(int(cluster.shards.least[s]), len(nodes))
        count = min(len(nodes), int(generator.integers(low, max(low, cluster.shards.most[s]) + 1)))
        chosen = generator.permutation(nodes)[:count]
        rows.append({int(n): FULL if i < low else int(generator.choice([HOT, FULL])) for i, n in enumerate(chosen)})
        parts = generator.dirichlet(np.ones(count)) if count else np.zeros(0)
        weights.append({int(n): float(w) for n, w in zip(chosen, parts, strict=True)})
    return arrays.holdings(rows, weights)


@pytest.mark.parametrize("limits", [False, True])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("block", range(10))
def test_no_random_placement_has_a_lower_peak(block: int, replicas: int, limits: bool) -> None:
    checked = 0
    for seed in range(block * 12, block * 12 + 12):
        generator = np.random.default_rng(seed)
        cluster = random_cluster(seed, int(generator.integers(1, 9)), int(generator.integers(1, 6)), replicas, limits)
        bound = peak_lower_bound(cluster)
        for _ in range(40):
            held = random_layout(cluster, generator)
            if within(cluster, held):
                checked += 1
                assert bound.value <= peak(cluster, held) + 1e-12, f"seed {seed}: {bound}"
    assert checked > 50


@pytest.mark.parametrize("limits", [False, True])
def test_the_bound_is_at_most_the_exact_optimum_of_single_replicas(limits: bool) -> None:
    gaps = []
    for seed in range(60):
        cluster = random_cluster(seed, 5, 3, 1, limits)
        places = [p or [-1] for p in may_be(cluster)]
        layouts = [arrays.holdings([{n: FULL} if n >= 0 else {} for n in nodes]) for nodes in itertools.product(*places)]
        peaks = [peak(cluster, held) for held in layouts if within(cluster, held)]
        if not peaks or not min(peaks):
            continue
        bound = peak_lower_bound(cluster).value
        assert bound <= min(peaks) + 1e-12, f"seed {seed}"
        gaps.append(1 - bound / min(peaks))
    print(f"limits {limits}: {len(gaps)} solved, gap mean {np.mean(gaps):.3f}, worst {max(gaps):.3f}")
    assert len(gaps) >= 20


def single(mean: Floats, capacity: list[float], **given: object) -> Cluster:
    shards = arrays.shards(mean, **given)
    return arrays.cluster(arrays.nodes(capacity), shards, arrays.holdings([{} for _ in range(len(mean))]))


def test_three_equal_shards_on_two_nodes_put_two_on_one() -> None:
    bound = peak_lower_bound(single(np.full((3, 1), 4.0), [10.0, 10.0]))
    assert bound.value == pytest.approx(0.8, abs=1e-6)
    assert bound.method == "more shards than nodes"


def test_shards_that_may_be_on_few_nodes_bound_the_peak_there() -> None:
    cluster = single(np.full((8, 1), 1.0), [10.0] * 4, permit=np.array([0, 0, 0, 0, 0, 0, -1, -1]), most=np.full(8, 3))
    cluster = replace(cluster, allowed=np.array([[True, False, False, False]]))
    bound = peak_lower_bound(cluster)
    assert bound.value == pytest.approx(0.6, abs=1e-6)
    assert bound.method == "fractional placement"


def test_storage_that_keeps_load_off_a_large_node_raises_the_bound() -> None:
    shards = arrays.shards(np.full((4, 1), 3.0), need=np.full((4, 1), 10.0))
    pool = arrays.nodes([90.0, 10.0], limit=[[10.0], [40.0]])
    bound = peak_lower_bound(arrays.cluster(pool, shards, arrays.holdings([{}] * 4)))
    assert bound.value == pytest.approx(0.9, abs=1e-6)
    assert bound.method == "fractional placement within limits"


def test_nothing_to_place_has_the_bound_zero() -> None:
    cluster = single(np.ones((2, 1)), [10.0], permit=np.zeros(2, dtype=np.int64))
    cluster = replace(cluster, allowed=np.zeros((1, 1), dtype=np.bool_))
    assert peak_lower_bound(cluster).value == 0.0
    assert imbalance_lower_bound(cluster) == 0.0


def test_one_shard_with_half_of_the_load_bounds_the_imbalance() -> None:
    cluster = single(np.array([[12.0], [4.0], [4.0], [4.0]]), [10.0] * 4)
    assert imbalance_lower_bound(cluster) == pytest.approx(1.0, abs=1e-6)
