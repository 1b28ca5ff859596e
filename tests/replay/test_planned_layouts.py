"""The planner's layouts in replays, and what predictive policies make of them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from drawn_loads_of_pools import SMALL, drawn_load, drawn_pool

from foreshard.placement.cluster import FULL, Holdings
from foreshard.replay.load import Load
from foreshard.replay.planned import Expected, planner_of
from foreshard.replay.playing import policy, scene_of
from foreshard.replay.pool import Pool
from foreshard.replay.simulation import Decision, simulate

START = datetime(2024, 3, 4, tzinfo=UTC)


def full_replicas(held: Holdings) -> set[tuple[int, int]]:
    shard, place = np.nonzero(held.kind == FULL)
    return set(zip(shard.tolist(), held.node[shard, place].tolist(), strict=True))


def node_loads(held: Holdings, rates: np.ndarray, pool: Pool) -> np.ndarray:
    used = held.node >= 0
    parts = np.where(used, held.weight * rates[:, None], 0.0)
    return np.bincount(held.node[used], weights=parts[used], minlength=pool.nodes)


@pytest.mark.parametrize("seed", range(5))
def test_full_replicas_stay_on_the_base_nodes_however_many_nodes_come_and_go(seed: int):
    load = drawn_load(seed, shards=40)
    pool = drawn_pool(load)
    planner = planner_of(load, pool)
    rates = load.training.mean(axis=0)
    at_night = planner.place(pool.first_nodes(planner.base), Expected.surely(0.3 * rates))
    full = full_replicas(at_night)
    assert {node for _, node in full} <= set(range(planner.base))
    held = at_night
    for count, level in ((planner.base + 2, 0.6), (planner.base + 5, 1.0), (planner.base + 3, 0.8), (planner.base, 0.3)):
        nodes = pool.first_nodes(count)
        held = planner.place(nodes, Expected.surely(level * rates), held)
        assert full_replicas(held) == full
        assert nodes[held.node[held.node >= 0]].all()
        carried = node_loads(held, level * rates, pool)
        assert carried.sum() == pytest.approx(level * rates.sum())
        fair = level * rates.sum() / count
        assert carried[nodes].max() <= max(pool.usable, 1.3 * fair)


def test_a_shard_too_heavy_for_two_nodes_has_more_full_replicas():
    pool = drawn_pool(drawn_load(0))
    peaks = np.array([0.5, 1.0, 8.0, 12.0]) * pool.capacity
    only_full = (1 - SMALL.recent_share) * peaks / (SMALL.base_fill * pool.usable)
    assert pool.full_replicas(peaks).tolist() == [max(SMALL.replicas, int(np.ceil(x))) for x in only_full] == [2, 2, 3, 4]


def counts_by_second(decisions: tuple[Decision, ...], seconds: int) -> list[int]:
    found, count = [], 0
    by_second = {d.second: int(d.wish.nodes.sum()) for d in decisions}
    for second in range(0, seconds, 300):
        count = by_second.get(second, count)
        found.append(count)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_hybrid_never_wants_fewer_nodes_than_its_net_nor_many_more_node_hours(seed: int):
    load = drawn_load(seed)
    pool = drawn_pool(load)
    scene = scene_of(load, pool, START)
    hybrid, net = (simulate(load, pool, policy(name, scene)) for name in ("hybrid", "reactive"))
    end = len(load.test) * load.interval_seconds
    pairs = list(zip(counts_by_second(hybrid.decisions, end), counts_by_second(net.decisions, end), strict=True))
    assert all(ours >= theirs for ours, theirs in pairs)
    assert any(ours > theirs for ours, theirs in pairs)
    assert hybrid.outcome.node_hours <= 1.05 * net.outcome.node_hours


def test_a_rise_that_comes_each_day_finds_its_nodes_there():
    # Within an hour the load triples, which no threshold can follow in time.
    hours = np.arange(24 * 21)
    level = np.where((hours % 24 >= 8) & (hours % 24 < 18), 90.0, 30.0)
    draw = np.random.default_rng(7)
    rates = level[:, None] * np.full((1, 12), 1 / 12) * draw.normal(1.0, 0.02, (hours.size, 12))
    load = Load(rates, 3600, 24 * 14)
    pool = drawn_pool(load)
    scene = scene_of(load, pool, START)
    found, late = (simulate(load, pool, policy(name, scene)).outcome for name in ("foreshard", "reactive"))
    assert late.overload_interval_share > 0.003
    assert found.overload_interval_share <= 0.05 * late.overload_interval_share
    assert found.node_hours <= 1.15 * late.node_hours
