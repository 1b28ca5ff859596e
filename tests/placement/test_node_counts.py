"""Node counts over the horizon: the cheapest path exactly, with time to move, never for the sake of noise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.model import NodeCount, Policy
from foreshard.placement.cluster import FULL, Cluster
from foreshard.placement.node_count_paths import BAND, Prices, cheapest_path
from foreshard.placement.node_counts import node_counts

START = datetime(2013, 11, 27, tzinfo=UTC)


def move_seconds(p: Prices, before: int, after: int) -> float:
    small, large = sorted([before, after])
    return p.pair_seconds * (1 - small / large) / min(small, large - small) + p.verify_seconds


def change_cost(edges: list[float], load: list[float], begin: float, before: int, after: int, p: Prices, low: float) -> float:
    """What a change costs from its first step's start `low` to the end of the step in which it ends, piece by piece."""
    moves = begin + (p.start_seconds if after > before else 0.0)
    end = moves + move_seconds(p, before, after)
    high = min(e for e in edges if e >= end - 1e-9)
    cuts = sorted({low, high, *(x for x in [*edges, begin, moves, end] if low <= x <= high)})
    cost = p.all_bytes * (1 - min(before, after) / max(before, after))
    for x, y in itertools.pairwise(cuts):
        step = max(i for i, e in enumerate(edges[:-1]) if e <= x)
        nodes = before if y <= begin else after if x >= end else max(before, after)
        capacity = p.usable * (before if y <= moves else after)
        if moves <= x < end and y > x:
            shares = [1 / before + (t - moves) / (end - moves) * (1 / after - 1 / before) for t in (x, y)]
            capacity = p.usable * p.while_moving / max(shares)
        cost += (y - x) * (nodes * p.node_second + p.overload_second * max(0.0, load[step] - capacity))
    return cost


def choices(edges: list[float], load: list[float], i: int, now: int, high: int, p: Prices) -> Iterator[tuple[int, int, float]]:
    """All that may be done at a step: the step it leads to, the count there, the cost."""
    steady = now * p.node_second + p.overload_second * max(0.0, load[i] - p.usable * now)
    yield i + 1, now, (edges[i + 1] - edges[i]) * steady
    for after in range(1, high + 1):
        takes = move_seconds(p, now, after) + (p.start_seconds if after > now else 0.0) if after != now else np.inf
        ends = [e for e in range(i + 1, len(edges)) if edges[e] >= edges[i] + takes]
        if not ends:
            continue
        if after < now and max(load[i : ends[0] + 1]) <= (1 - BAND) * p.usable * after:
            yield ends[0], after, change_cost(edges, load, edges[i], now, after, p, edges[i])
        if after > now and i == 0:
            yield ends[0], after, change_cost(edges, load, edges[i], now, after, p, edges[i])
        for e in ends:
            if after > now and edges[i] <= edges[e] - takes < edges[i + 1]:
                yield e, after, change_cost(edges, load, edges[e] - takes, now, after, p, edges[i])


def cheapest_of_all(edges: list[float], load: list[float], i: int, now: int, high: int, p: Prices) -> float:
    if i == len(load):
        return 0.0
    return min(cost + cheapest_of_all(edges, load, e, n, high, p) for e, n, cost in choices(edges, load, i, now, high, p))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([300.0, 900.0, 3600.0]), st.floats(0, 45)), min_size=1, max_size=4),
    st.integers(1, 4),
    st.sampled_from([0.0, 400.0, 5000.0]),
    st.sampled_from([0.0, 0.5, 20.0]),
    st.sampled_from([0.1, 1.0]),
)
def test_the_path_costs_what_the_cheapest_of_all_sequences_costs(
    steps: list[tuple[float, float]], now: int, pair_seconds: float, all_bytes: float, overload: float
) -> None:
    edges = np.concatenate([[0.0], np.cumsum([length for length, _ in steps])])
    load = np.array([level for _, level in steps])
    prices = Prices(10.0, 0.9, pair_seconds, 120.0, 60.0, 1 / 3600, overload / 3600, all_bytes)
    path = cheapest_path(edges, load, now, 1, 4, prices)
    best = cheapest_of_all(edges.tolist(), load.tolist(), 0, now, 4, prices)
    assert path.cost == pytest.approx(best, rel=1e-9, abs=1e-9)
    counts = [now, *(c.after for c in path.changes)]
    assert counts[:-1] == [c.before for c in path.changes]
    assert all(a.step <= b.first for a, b in zip(path.changes, path.changes[1:], strict=False))


@pytest.mark.parametrize("seed", range(5))
def test_many_counts_are_searched_nearly_exactly(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(seed)
    load = 80.0 * 300 * (0.6 + 0.4 * np.sin(np.arange(48) / 48 * 2 * np.pi)) * generator.uniform(0.98, 1.02, 48)
    prices = Prices(80.0, 0.9, 3.6e5, 120.0, 60.0, 1 / 3600, 1 / 3600, 10.0 ** (seed - 1))
    edges = np.arange(49) * 1800.0
    exact = cheapest_path(edges, load, 200, 2, 340, prices).cost
    monkeypatch.setattr("foreshard.placement.node_count_paths.EXACT", 0)
    assert exact <= cheapest_path(edges, load, 200, 2, 340, prices).cost <= 1.005 * exact


def pool(count: int, steps: int, seconds: int = 3600, gigabytes: float = 100.0, **given: Any) -> Cluster:
    """Nodes that are meant to carry 80/s each, and one shard of so many gigabytes."""
    loads = arrays.shards(np.ones((1, max(1, steps))), size=np.array([[0, 0, int(gigabytes * 1e9)]]))
    policy = Policy(**{"min_full_replicas": 1} | given)
    cluster = arrays.cluster(arrays.nodes([100.0] * count), loads, arrays.holdings([{0: FULL}]), policy=policy)
    return replace(cluster, steps=tuple(START + timedelta(seconds=seconds * i) for i in range(steps)))


def numbers(counts: tuple[NodeCount, ...]) -> list[tuple[int, int]]:
    return [(round((c.step - START).total_seconds() / 3600), c.nodes) for c in counts]


def test_nodes_are_ready_when_the_load_rises_and_leave_after_it_fell() -> None:
    load = np.array([300.0] * 8 + [700.0] * 8 + [300.0] * 8)
    counts = node_counts(pool(4, 24), load)
    assert numbers(counts) == [(0, 4), (8, 9), (17, 4)]
    # From 4 to 9 nodes, 5/9 of 100 GB move between 4 pairs at 50 MB/s; 2 min to start, 1 to verify, 10 to spare.
    moving = 100e9 / 50e6 * (5 / 9) / 4
    assert counts[1].start_by == START + timedelta(hours=8, seconds=-(moving + 120 + 60 + 600))
    assert counts[1].reason == "load 700/s at 2013-11-27 08:00 needs 9 nodes at 0.80; moving takes 8 min"
    assert counts[2].start_by == START + timedelta(hours=16)
    assert counts[0].reason == "the nodes there are, load 300/s at 2013-11-27 00:00 needs 4 nodes at 0.80"


@pytest.mark.parametrize("seed", range(20))
def test_a_steady_load_with_noise_changes_nothing(seed: int) -> None:
    load = 790.0 * np.random.default_rng(seed).uniform(0.97, 1.03, 48)
    for capacity_units, gigabytes in ((1.0, 1.0), (0.01, 0.001), (1.0, 1000.0)):
        cluster = pool(int(np.ceil(790 * 1.03 / 80)), 48, 1800, gigabytes)
        small = replace(cluster, nodes=replace(cluster.nodes, capacity=cluster.nodes.capacity * capacity_units))
        counts = node_counts(small, load * capacity_units)
        assert numbers(counts) == [(0, 11)]
        assert counts[0].start_by is None


@pytest.mark.parametrize("seed", range(10))
def test_planning_again_and_again_under_noise_does_not_oscillate(seed: int) -> None:
    generator, now, history = np.random.default_rng(seed), 14, []
    for _ in range(30):
        counts = node_counts(pool(now, 24, gigabytes=1.0), 790.0 * generator.uniform(0.97, 1.03, 24))
        now = counts[-1].nodes
        history.append(now)
    changes = [b - a for a, b in zip([14, *history], history, strict=False) if a != b]
    assert len(changes) <= 2
    assert history[-1] in (10, 11)


def test_a_growth_that_comes_too_late_begins_at_once() -> None:
    counts = node_counts(pool(4, 6, gigabytes=10.0), np.full(6, 700.0))
    assert numbers(counts) == [(0, 4), (1, 9)]
    assert counts[1].start_by == START - timedelta(minutes=10)


def test_moving_that_costs_more_than_it_saves_is_left() -> None:
    load = np.array([700.0] * 4 + [300.0] * 2 + [700.0] * 4)
    assert numbers(node_counts(pool(9, 10, gigabyte_cost=10.0), load)) == [(0, 9)]
    assert len(node_counts(pool(9, 10, gigabyte_cost=0.0, gigabytes=0.001), load)) == 3


def test_bounds_of_the_policy_and_full_replicas_are_kept() -> None:
    calm, busy = np.full(6, 10.0), np.full(6, 5_000.0)
    assert node_counts(pool(6, 6, gigabytes=0.1, min_nodes=4), calm)[-1].nodes == 4
    assert node_counts(pool(6, 6, gigabytes=0.1, min_full_replicas=3), calm)[-1].nodes == 3
    last = node_counts(pool(6, 6, gigabytes=0.1, max_nodes=9), busy)[-1]
    assert last.nodes == 9
    assert "needs 63 nodes at 0.80, but 9 are allowed" in last.reason
    few = node_counts(pool(2, 6, min_full_replicas=3), calm)
    assert (few[0].nodes, few[0].start_by) == (3, START)
    assert few[0].reason.startswith("there are 2 nodes, but 3 full replicas of each shard need as many")


def test_limits_of_resources_keep_nodes() -> None:
    cluster = pool(6, 6, gigabytes=0.1)
    nodes = replace(cluster.nodes, limit=np.full((6, 1), 10.0), soft=np.full((6, 1), 10.0))
    made = arrays.cluster(nodes, replace(cluster.shards, need=np.array([[45.0]])), cluster.held, policy=cluster.policy)
    counts = node_counts(replace(made, steps=cluster.steps), np.full(6, 10.0))
    assert counts[-1].nodes == 5
    assert "but the storage of all replicas needs 5" in counts[-1].reason


def test_a_horizon_shorter_than_twice_the_move_is_taken_to_go_on() -> None:
    counts = node_counts(pool(4, 2, 300, gigabytes=200.0), np.array([300.0, 700.0]))
    assert counts[-1].nodes == 9
    assert "the horizon of 10 min is shorter than twice the" in counts[0].reason
    assert "its last load is taken to go on" in counts[0].reason


def test_unequal_nodes_are_counted_in_units_of_their_mean() -> None:
    cluster = pool(2, 3)
    unequal = replace(cluster, nodes=replace(cluster.nodes, capacity=np.array([50.0, 150.0])))
    assert "counted in nodes of the mean capacity of 100/s" in node_counts(unequal, np.full(3, 150.0))[0].reason


def test_nothing_is_said_without_steps_or_nodes() -> None:
    assert node_counts(pool(3, 0), np.zeros(1)) == ()
    none = pool(3, 2)
    assert node_counts(replace(none, nodes=replace(none.nodes, accepts=np.zeros(3, dtype=np.bool_))), np.zeros(2)) == ()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 12),
    st.lists(st.sampled_from([0.0, 1.0, 79.0, 300.0, 640.0, 900.0]), min_size=1, max_size=12),
    st.sampled_from([300, 1800, 3600]),
    st.sampled_from([0.0, 1.0, 500.0]),
    st.integers(1, 6),
    st.integers(6, 20),
)
def test_counts_are_of_ascending_steps_within_bounds(
    now: int, load: list[float], seconds: int, gigabytes: float, fewest: int, most: int
) -> None:
    cluster = pool(now, len(load), seconds, gigabytes, min_nodes=fewest, max_nodes=most)
    counts = node_counts(cluster, np.array(load))
    steps = [c.step for c in counts]
    assert steps == sorted(set(steps))
    assert set(steps) <= set(cluster.steps)
    assert all(fewest <= c.nodes <= most and c.reason for c in counts)
    assert all(c.start_by is None or c.start_by <= c.step for c in counts)
    assert all(a.nodes != b.nodes for a, b in itertools.pairwise(counts))
