"""Waves: every instant keeps what held before it, and what can be carried out is."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import arrays
import numpy as np
import pytest
from carrying_out import State, after_wave, moves_between, moves_of, state_of, violations, wave_violations
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.model import Goal, MoveKind, Policy
from foreshard.placement.cluster import FULL, HOT, Cluster
from foreshard.placement.movement import GOALS, Moves
from foreshard.placement.waves import in_waves

COPY, DROP, WIDEN, SHIFT = MoveKind.REPLICATE, MoveKind.DROP, MoveKind.WIDEN, MoveKind.MOVE


def full_nodes(transient: bool, limits: list[float], places: list[int], need: list[float], **given: object) -> Cluster:
    """Shards with one full replica each on nodes with so much storage."""
    pool = arrays.nodes([10.0] * len(limits), limit=[[x] for x in limits])
    loads = arrays.shards(np.ones((len(places), 1)), need=np.array(need)[:, None])
    made = arrays.cluster(pool, loads, arrays.holdings([{n: FULL} for n in places]), **given)  # type: ignore[arg-type]
    return replace(made, costs=replace(made.costs, transient=np.array([transient])))


def shift(shard: int, source: int, target: int, size: int = 100) -> tuple[MoveKind, int, int, int, int, int]:
    return (SHIFT, shard, source, target, FULL, size)


def test_full_nodes_exchange_shards_in_one_wave_where_the_resource_is_not_held_twice() -> None:
    cluster = full_nodes(False, [10, 10], [0, 1], [10, 10])
    assert in_waves(cluster, moves_of([shift(0, 0, 1), shift(1, 1, 0)])).wave.tolist() == [0, 0]


def test_full_nodes_cannot_exchange_shards_where_the_resource_is_held_until_retired() -> None:
    waves = in_waves(full_nodes(True, [10, 10], [0, 1], [10, 10]), moves_of([shift(0, 0, 1), shift(1, 1, 0)]))
    assert waves.wave.tolist() == [-1, -1]
    assert "shard 0 cannot go to n1: n1 has no room for its storage" in waves.reason[0]


def test_a_chain_into_freed_room_takes_a_wave_per_link() -> None:
    cluster = full_nodes(True, [10, 10, 10, 10], [0, 1, 2], [10, 10, 10])
    assert in_waves(cluster, moves_of([shift(0, 0, 1), shift(1, 1, 2), shift(2, 2, 3)])).wave.tolist() == [2, 1, 0]


def test_a_ring_of_full_nodes_turns_in_one_wave_where_the_resource_is_not_held_twice() -> None:
    ring = 40
    cluster = full_nodes(False, [10.0] * ring, list(range(ring)), [10.0] * ring)
    assert in_waves(cluster, moves_of([shift(i, i, (i + 1) % ring) for i in range(ring)])).wave.tolist() == [0] * ring


def test_an_order_that_would_block_itself_is_tried_anew() -> None:
    # Shard 1 is looked at first and fits on n0; shard 0 could then leave neither n1 nor anything n1 again.
    cluster = full_nodes(True, [20, 20, 10], [2, 1, 1, 0], [10, 10, 10, 10])
    moves = moves_of([shift(0, 2, 0), shift(1, 1, 0), shift(3, 0, 1)])
    waves = in_waves(cluster, moves)
    assert (waves.wave >= 0).all()
    assert violations(cluster, moves, waves.wave) == []


def test_members_of_a_group_change_places_in_one_wave() -> None:
    pool, loads = arrays.nodes([10.0] * 2), arrays.shards(np.ones((2, 1)), group=np.zeros(2, dtype=np.int64))
    cluster = arrays.cluster(pool, loads, arrays.holdings([{0: FULL}, {1: FULL}]), group=arrays.groups([True]))
    assert in_waves(cluster, moves_of([shift(0, 0, 1), shift(1, 1, 0)])).wave.tolist() == [0, 0]


def test_a_member_that_comes_where_another_stays_is_refused_with_the_reason() -> None:
    pool, loads = arrays.nodes([10.0] * 2), arrays.shards(np.ones((2, 1)), group=np.zeros(2, dtype=np.int64))
    cluster = arrays.cluster(pool, loads, arrays.holdings([{0: FULL}, {1: FULL}]), group=arrays.groups([True]))
    waves = in_waves(cluster, moves_of([shift(0, 0, 1)]))
    assert waves.reason == {
        0: "shard 0 cannot go to n1: the shards of group g0 must be on distinct nodes, and one on n1 does not leave"
    }


def test_groups_that_must_be_near_each_other_move_together() -> None:
    pool = arrays.nodes([10.0] * 4, neighbourhood=np.array([0, 0, 1, 1]))
    loads = arrays.shards(np.ones((2, 1)), group=np.array([0, 1]))
    near = arrays.groups([False, False], near=[[1], []])
    cluster = arrays.cluster(pool, loads, arrays.holdings([{0: FULL}, {1: FULL}]), group=near)
    both = moves_of([shift(0, 0, 2), shift(1, 1, 3)])
    assert in_waves(cluster, both).wave.tolist() == [0, 0]
    assert in_waves(cluster, moves_of([shift(0, 0, 2)])).wave.tolist() == [-1]


def test_the_last_full_replica_is_dropped_with_the_publication_of_its_successor() -> None:
    cluster = arrays.cluster(arrays.nodes([10.0] * 2), arrays.shards(np.ones((1, 1))), arrays.holdings([{0: FULL}]))
    assert in_waves(cluster, moves_of([(DROP, 0, 0, -1, FULL, 0), (COPY, 0, -1, 1, FULL, 100)])).wave.tolist() == [0, 0]
    assert in_waves(cluster, moves_of([(DROP, 0, 0, -1, FULL, 0)])).wave.tolist() == [-1]


def test_an_ended_isolation_drops_its_last_replica() -> None:
    loads = arrays.shards(np.ones((1, 1)), least=np.zeros(1, dtype=np.int64))
    cluster = arrays.cluster(arrays.nodes([10.0]), loads, arrays.holdings([{0: HOT}]))
    assert in_waves(cluster, moves_of([(DROP, 0, 0, -1, HOT, 0)])).wave.tolist() == [0]


def test_a_node_takes_part_in_so_many_copies_and_bytes_per_wave() -> None:
    policy = Policy(max_moves_in_flight=2, max_bytes_in_flight=250)
    cluster = full_nodes(True, [99.0] * 6, [0, 0, 0, 0, 0], [1.0] * 5, policy=policy)
    sizes = [100, 100, 100, 300, 40]
    waves = in_waves(cluster, moves_of([shift(i, 0, i + 1, size) for i, size in enumerate(sizes)]))
    assert waves.wave.tolist() == [0, 0, 1, 2, 1]  # the large one is alone


def test_urgent_goals_and_early_steps_go_first() -> None:
    cluster = full_nodes(True, [99.0] * 5, [0, 0, 0, 0], [1.0] * 4, policy=Policy(max_moves_in_flight=1))
    goal = [GOALS.index(g) for g in (Goal.BALANCE, Goal.BALANCE, Goal.REPAIR, Goal.BALANCE)]
    moves = moves_of([shift(i, 0, i + 1) for i in range(4)], goal=goal, step=[-1, 7, -1, 3])
    assert in_waves(cluster, moves).wave.tolist() == [3, 2, 0, 1]


def test_a_drop_goes_in_the_first_wave_and_makes_room_for_the_next() -> None:
    pool = arrays.nodes([10.0] * 3, limit=[[10.0]] * 3)
    loads = arrays.shards(np.ones((2, 1)), need=np.full((2, 1), 10.0), most=np.full(2, 2))
    cluster = arrays.cluster(pool, loads, arrays.holdings([{0: FULL, 1: FULL}, {2: FULL}]))
    moves = moves_of([shift(1, 2, 1), (DROP, 0, 1, -1, FULL, 0)])
    assert in_waves(cluster, moves).wave.tolist() == [1, 0]


def test_what_no_order_allows_is_refused_with_its_reason() -> None:
    pool = arrays.nodes([10.0] * 3, accepts=np.array([True, False, True]))
    loads = arrays.shards(
        np.ones((2, 1)), permit=np.array([-1, 0]), pin_start=np.array([0, 1, 1]), pins=np.zeros(1, dtype=np.int64)
    )
    held = arrays.holdings([{0: FULL}, {0: FULL}])
    cluster = arrays.cluster(pool, loads, held, allowed=[[True, True, False]])
    waves = in_waves(cluster, moves_of([(COPY, 0, -1, 1, FULL, 9), shift(1, 0, 2), shift(0, 0, 2), shift(1, 2, 0)]))
    assert list(waves.reason.values()) == [
        "shard 0 cannot go to n1: n1 takes no shards",
        "shard 1 cannot go to n2: the shard must not be on n2",
        "shard 0 cannot go to n2: the shard is pinned to n0",
        "shard 1 cannot go to n0: n2 does not hold it",
    ]


def test_no_moves_make_no_waves() -> None:
    cluster = full_nodes(True, [1.0], [0], [1.0])
    assert in_waves(cluster, moves_of([])).waves == 0


def random_case(seed: int, shard_count: int, node_count: int, slack: float) -> tuple[Cluster, Moves]:
    """A layout, another one, and nodes that are just large enough for both; groups and nodes in any state."""
    generator = np.random.default_rng(seed)
    zone, neighbourhood = (generator.integers(0, min(codes, node_count), node_count) for codes in (3, 2))
    state = generator.choice(["active", "active", "active", "active", "draining", "dead"], node_count)
    state[:2] = "active"
    accepts, live = state == "active", state != "dead"
    least = generator.integers(1, 3, shard_count)
    most = least + generator.integers(0, 2, shard_count)
    before = arrays.placement(seed, least, most, np.arange(node_count))
    target = arrays.placement(seed + 1, least, most, np.flatnonzero(accepts))
    stays = generator.random(shard_count) < 0.3
    sizes = np.zeros(shard_count), generator.integers(0, 50, shard_count), generator.integers(50, 99, shard_count)
    loads = arrays.shards(
        np.ones((shard_count, 1)),
        size=np.stack(sizes, axis=1).astype(np.int64),
        need=generator.integers(1, 9, (shard_count, 2)).astype(np.float64),
        least=least,
        most=most,
        group=generator.integers(-1, 3, shard_count),
    )
    policy = Policy(max_moves_in_flight=int(generator.integers(1, 5)), max_bytes_in_flight=int(generator.integers(60, 400)))
    near = arrays.groups([True, False, False], [1, 2, 1], [[], [], [1]])
    cluster = arrays.cluster(
        arrays.nodes([10.0] * node_count, accepts=accepts, live=live, zone=zone, neighbourhood=neighbourhood),
        loads, before, group=near, policy=policy,
    )  # fmt: skip
    old, new = state_of(before), state_of(target)
    kept = {p: k for p, k in old.items() if stays[p[0]] and accepts[p[1]]}
    full = {s for s in range(shard_count) if sum(k == FULL for (t, _), k in kept.items() if t == s) >= least[s]}
    after: State = {p: k for p, k in kept.items() if p[0] in full} | {p: k for p, k in new.items() if p[0] not in full}
    after = {p: max(k, old.get(p, 0)) for p, k in after.items()}
    use = np.zeros((2, node_count, 2))
    for i, some in enumerate((old, after)):
        for (s, n), kind in some.items():
            use[i, n] += loads.need[s] * (1.0 if kind == FULL else loads.size[s, HOT] / loads.size[s, FULL])
    pool = replace(cluster.nodes, limit=use.max(axis=0) * slack + 0.01)
    costs = replace(cluster.costs, names=("storage", "memory"), transient=np.array([True, False]), soft=np.zeros(2))
    cluster = replace(cluster, nodes=pool, costs=costs)
    return cluster, moves_between(cluster, old, after)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 14), st.integers(2, 7), st.sampled_from([0.8, 1.0, 1.1, 1.5, 4.0]))
def test_no_instant_breaks_what_held_before_it(seed: int, shard_count: int, node_count: int, slack: float) -> None:
    cluster, moves = random_case(seed, shard_count, node_count, slack)
    waves = in_waves(cluster, moves)
    assert violations(cluster, moves, waves.wave) == []
    assert sorted(waves.reason) == np.flatnonzero(waves.wave < 0).tolist()
    assert all(reason for reason in waves.reason.values())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 40), st.integers(2, 9))
def test_with_room_and_without_groups_everything_is_carried_out(seed: int, shard_count: int, node_count: int) -> None:
    cluster, moves = random_case(seed, shard_count, node_count, 4.0)
    cluster = replace(
        cluster,
        shards=replace(cluster.shards, group=np.full(shard_count, -1)),
        nodes=replace(cluster.nodes, limit=np.full((node_count, 2), np.inf)),
    )
    waves = in_waves(cluster, moves)
    assert waves.reason == {}
    assert violations(cluster, moves, waves.wave) == []


def order_exists(cluster: Cluster, moves: Moves) -> bool:
    """Whether some sequence of waves carries all moves out, by trying all sets of moves done."""
    every = range(len(moves.shard))
    start = state_of(cluster.held)
    last = after_wave(start, moves, every)
    seen, stack = {frozenset[int]()}, [(frozenset[int](), start)]
    while stack:
        done, state = stack.pop()
        if len(done) == len(every):
            return True
        rest = [m for m in every if m not in done]
        for size in range(1, len(rest) + 1):
            for which in combinations(rest, size):
                more = done | frozenset(which)
                if more not in seen and not any(wave_violations(cluster, moves, state, which, last)):
                    seen.add(more)
                    stack.append((more, after_wave(state, moves, which)))
    return False


@pytest.mark.parametrize("seed", range(150))
def test_small_cases_are_carried_out_whole_where_an_order_exists(seed: int) -> None:
    cluster, moves = random_case(seed, 3, 3 + seed % 3, 1.0 + 0.1 * (seed % 4))
    if len(moves.shard) > 6:
        moves = Moves._make(column[:6] for column in moves)
    waves = in_waves(cluster, moves)
    assert violations(cluster, moves, waves.wave) == []
    if waves.reason:
        assert not order_exists(cluster, moves), waves


def test_the_waves_are_the_same_whatever_the_order_of_the_moves() -> None:
    cluster, moves = random_case(5, 30, 6, 1.2)
    mixed = np.random.default_rng(5).permutation(len(moves.shard))
    waves = in_waves(cluster, Moves._make(column[mixed] for column in moves)).wave
    assert waves.tolist() == in_waves(cluster, moves).wave[mixed].tolist()
