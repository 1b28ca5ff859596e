"""What the placement benchmarks measure plans by, against enumeration and cases worked out by hand."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from benchmarks.placement_chaos_bound import least_movement
from benchmarks.placement_figures import Figure
from benchmarks.placement_pools import broken, hash_layout, holdings, least_bytes, moved, node_loads


def test_bytes_moved_are_those_of_replicas_on_nodes_that_held_none() -> None:
    before = holdings(np.array([[0, 1], [2, -1], [1, 2]], dtype=np.int32))
    after = holdings(np.array([[1, 0], [0, -1], [1, 3]], dtype=np.int32))
    assert moved(before, after, np.array([1, 10, 100])) == 110


def test_node_loads_split_a_shard_by_its_weights() -> None:
    held = holdings(np.array([[0, 1], [1, -1]], dtype=np.int32))
    assert node_loads(np.array([[4.0, 8.0], [1.0, 1.0]]), held, 3).tolist() == [[2.0, 4.0], [3.0, 5.0], [0.0, 0.0]]


def test_shards_lost_doubled_or_on_a_dead_node_are_broken() -> None:
    held = holdings(np.array([[0, 1], [2, 2], [3, -1], [-1, -1]], dtype=np.int32))
    live = np.array([True, True, True, False])
    assert broken(held, live, 1) == 3
    assert broken(held, live, 2) == 3
    assert broken(holdings(hash_layout(50, 4, 2)), np.ones(4, dtype=np.bool_), 2) == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_fewest_bytes_in_parts_are_at_most_those_of_whole_shards(seed: int) -> None:
    source = np.random.default_rng(seed)
    gain, size = source.lognormal(size=8), source.lognormal(size=8)
    excess = 0.6 * gain.sum()
    sets = [
        list(chosen) for count in range(9) for chosen in combinations(range(8), count) if gain[list(chosen)].sum() >= excess
    ]
    whole = min(size[chosen].sum() for chosen in sets)
    found = least_bytes(excess, gain, size)
    assert found <= whole * (1 + 1e-12)
    assert found >= whole - size.max()


@pytest.mark.parametrize("seed", range(10))
def test_the_bound_of_a_round_is_the_enumerated_optimum_for_shards_that_cannot_be_split(seed: int) -> None:
    """One replica each before and after: with loads that are not split the bound is at most the optimum, and above nothing."""
    source = np.random.default_rng(seed)
    loads, size = source.uniform(1, 2, 6), source.integers(1, 10, 6) * 10**9
    holder = source.integers(0, 3, 6)
    held = holder[:, None] == np.arange(3)
    highest = loads.sum() / 3 * 1.3
    placements = [np.array(p) for p in product(range(3), repeat=6)]
    kept = [p for p in placements if np.bincount(p, loads, 3).max() <= highest]
    optimum = min(int(size[p != holder].sum()) for p in kept)
    bound = least_movement(loads, size, held, highest, 1)
    assert bound <= optimum * (1 + 1e-6)
    assert (bound > 0) == (np.bincount(holder, loads, 3).max() > highest)


def test_a_shard_without_a_holder_costs_its_bytes() -> None:
    held = np.array([[True, False], [False, False]])
    assert least_movement(np.array([1.0, 1.0]), np.array([5, 7]) * 10**9, held, 1.5, 1) == pytest.approx(7e9)


def test_a_figure_is_met_at_its_bound_and_missed_beyond() -> None:
    assert Figure("x", 1.0, reach=1.0).met
    assert not Figure("x", 1.01, reach=1.0).met
    assert Figure("x", 2.0, reach=1.0, at_least=True).met
    assert Figure("x", 2.0).met is None
