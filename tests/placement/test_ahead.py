"""Plans are made for every step of the horizon: what is done for a peak begins before it, and costs no other step its room."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from chains import unexplained
from clusters import nodes, problem, shard, steps, typical

from foreshard.model import Goal, Layout, Move, NodeState, PlacementProblem, Policy, Replica, ShardLoad
from foreshard.placement import node_load, solve
from foreshard.placement.building import build
from foreshard.placement.loads import ceiling, pool_quantile
from foreshard.placement.verifier import violations

HOURS = 24
# Whole shards on nodes that may differ in load up to their targets of 80/s.
POLICY = Policy(min_full_replicas=1, max_replicas=1, bounded_load=10.0)


def curve(shard_id: int, flat: float, peaks: dict[int, float] | None = None, size: int = 1_000) -> ShardLoad:
    """A load that is flat but for these steps, without spread."""
    mean = [flat] * HOURS
    for step, load in (peaks or {}).items():
        mean[step] = load
    return replace(shard(shard_id, *mean, size=size), spread_own=(0.0,) * HOURS)


def pool(on: dict[int, list[ShardLoad]], policy: Policy = POLICY) -> PlacementProblem:
    """Three nodes of 100/s with these shards on each."""
    layout = Layout(1, tuple(Replica(s.shard_id, f"pipeline-{n:02d}") for n, own in on.items() for s in own))
    return problem(tuple(s for own in on.values() for s in own), nodes(3), layout, policy)


def peak_at(step: int, size: int = 1_000) -> PlacementProblem:
    """Node 0 reaches 90/s at one step by three of its shards; node 1 has no room at that step, node 2 has."""
    return pool(
        {
            0: [*(curve(i, 10.0, size=size) for i in range(3)), *(curve(i, 5.0, {step: 20.0}, size) for i in range(3, 6))],
            1: [curve(6, 50.0, {step: 75.0})],
            2: [curve(7, 50.0)],
        }
    )


def latest_start(given: PlacementProblem, move: Move, step: int) -> float:
    """Seconds from the first step to when the copy must begin to be there a margin before a step."""
    policy = given.policy
    before = move.bytes / policy.copy_bytes_per_second + policy.verify_seconds + policy.margin_seconds
    return (given.steps[step] - given.steps[0]).total_seconds() - before


@pytest.mark.parametrize("step", [1, 3, 10, HOURS - 1])
def test_a_peak_hours_away_is_planned_for_now_by_a_shard_that_makes_it(step: int) -> None:
    given = peak_at(step)
    plan = solve(given)
    assert violations(given, plan) == []
    assert len(plan.moves) == 1
    move = plan.moves[0]
    assert move.shard_id in (3, 4, 5)
    assert (move.source, move.target, move.goal) == ("pipeline-00", "pipeline-02", Goal.BALANCE)
    assert plan.metrics.peak_after <= 0.8
    assert f"at {given.steps[step]:%Y-%m-%d %H:%M}" in move.reason
    assert move.start_by is not None
    assert (move.start_by - given.steps[0]).total_seconds() == pytest.approx(latest_start(given, move, step), abs=1.0)


def test_a_copy_of_an_hour_begins_an_hour_earlier() -> None:
    near, far = peak_at(10), peak_at(10, size=round(3_600 * Policy().copy_bytes_per_second))
    small, large = solve(near).moves, solve(far).moves
    assert len(small) == len(large) == 1
    assert small[0].start_by is not None
    assert large[0].start_by is not None
    assert small[0].start_by - large[0].start_by == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=2))


def test_what_should_have_begun_before_the_first_step_is_said() -> None:
    given = peak_at(2, size=round(3 * 3_600 * Policy().copy_bytes_per_second))
    plan = solve(given)
    # Three hours of copying, a minute of verifying and ten of margin for what is two hours away.
    assert "1 move should have begun before 2013-11-27 00:00, the first of them 71 min earlier" in plan.summary
    assert plan.moves[0].start_by is not None
    assert plan.moves[0].start_by < given.steps[0]


def test_what_is_in_time_is_not_said_to_be_late() -> None:
    assert "should have begun" not in solve(peak_at(10)).summary


def test_peaks_that_do_not_meet_need_no_move() -> None:
    """Their sum of 120/s is above the node's capacity, but no step has more than 75/s."""
    shards = [*(curve(i, 5.0, {4: 20.0}) for i in range(3)), *(curve(i, 5.0, {17: 20.0}) for i in range(3, 6))]
    given = pool({0: shards, 1: [curve(6, 50.0)], 2: [curve(7, 50.0)]})
    plan = solve(given)
    assert plan.moves == ()
    assert plan.metrics.peak_after == pytest.approx(0.75)


def test_two_peaks_on_one_node_are_both_relieved_where_there_is_room_at_each() -> None:
    """What peaks at 4 fits only on node 1, what peaks at 17 only on node 2."""
    given = pool(
        {
            0: [*(curve(i, 5.0, {4: 30.0}) for i in range(3)), *(curve(i, 5.0, {17: 30.0}) for i in range(3, 6))],
            1: [curve(6, 40.0, {17: 70.0})],
            2: [curve(7, 40.0, {4: 70.0})],
        }
    )
    plan = solve(given)
    assert violations(given, plan) == []
    assert plan.metrics.overloaded_nodes == ()
    assert {(m.shard_id // 3, m.target) for m in plan.moves} == {(0, "pipeline-01"), (1, "pipeline-02")}
    assert len(plan.moves) == 2
    by_shard = {m.shard_id // 3: m for m in plan.moves}
    for kind, step in ((0, 4), (1, 17)):
        assert by_shard[kind].start_by is not None
        assert by_shard[kind].start_by < given.steps[step]


def test_risk_is_pooled_over_the_shards_of_a_node() -> None:
    """Sixteen shards' own quantiles sum to 106/s; the quantile of their sum is 66.5/s, so all may stay."""
    own = [replace(shard(i, 2.5), spread_own=(2.5,)) for i in range(16)]
    layout = Layout(1, tuple(Replica(i, "pipeline-00") for i in range(16)))
    together = problem(tuple(own), nodes(1), layout, POLICY)
    assert solve(together).metrics.peak_after == pytest.approx((40.0 + 1.645 * 10.0) / 100.0)
    swaying = tuple(replace(s, spread_own=(0.0,), spread_common=((2.5,),)) for s in own)
    in_step = replace(together, shards=swaying)
    assert solve(in_step).metrics.peak_after == pytest.approx((40.0 + 1.645 * 40.0) / 100.0)


@pytest.mark.parametrize("block", range(3))
def test_every_move_begins_in_time_for_the_peak_and_no_step_ends_above_its_ceilings(block: int) -> None:
    served = 0
    for seed in range(block * 20, block * 20 + 20):
        given, step = one_peak(seed)
        limit = ceiling(build(given))
        over = node_load(given, given.layout) > limit * (1 + 1e-9)
        assert over.any(axis=0).nonzero()[0].tolist() == [step], f"seed {seed}"
        plan = solve(given)
        assert unexplained(given, plan) == [], f"seed {seed}"
        assert (node_load(given, plan.layout) <= limit * (1 + 1e-6)).all(), f"seed {seed}"
        for move in plan.moves:
            if move.start_by is None:
                continue
            assert (move.start_by - given.steps[0]).total_seconds() <= latest_start(given, move, step) + 1.0, f"seed {seed}"
            served += 1
    assert served > 10


def one_peak(seed: int) -> tuple[PlacementProblem, int]:
    """A pool within its ceilings but for one node at one step, at which some of its shards are four times their usual."""
    generator = np.random.default_rng(seed)
    base = generator.uniform(1.0, 6.0, 40)
    where = np.arange(40) % 5
    base *= 50.0 / np.bincount(where, base)[where]
    step = int(generator.integers(2, HOURS))
    mine = np.flatnonzero(where == 0)
    risen = np.zeros(40)
    for i in generator.permutation(mine):
        if base[mine].sum() + risen.sum() <= 85.0:
            risen[i] = 3.0 * base[i]
    shards = tuple(curve(i, base[i], {step: base[i] + risen[i]}) for i in range(40))
    pool_nodes = nodes(5)
    layout = Layout(1, tuple(Replica(i, pool_nodes[where[i]].node_id) for i in range(40)))
    return problem(shards, pool_nodes, layout, POLICY), step


@pytest.mark.parametrize("seed", range(4))
def test_there_are_nodes_enough_at_every_step_and_fewer_when_the_load_is_low(seed: int) -> None:
    given = typical(seed, 64, 12, used=0.6)
    plan = solve(given)
    load = pool_quantile(build(given))
    mean_capacity = sum(n.capacity for n in given.nodes) / len(given.nodes)
    at = [next(c.nodes for c in reversed(plan.node_counts) if c.step <= step) for step in given.steps]
    needed = np.ceil(load / (0.8 * mean_capacity))
    assert plan.node_counts[0].nodes == 12
    assert (np.array(at) >= needed).all()
    assert min(at) < 0.7 * max(at)
    for count in plan.node_counts:
        assert count.start_by is None or count.start_by <= count.step
        assert count.reason


def test_nodes_for_a_peak_are_there_when_it_comes_and_begin_to_start_before() -> None:
    shards = tuple(curve(i, 8.0, {h: 30.0 for h in (12, 13, 14)}) for i in range(10))
    given = problem(shards, nodes(3), policy=replace(POLICY, min_full_replicas=1))
    counts = {c.step: c for c in solve(given).node_counts}
    rises = [c for c in counts.values() if c.nodes >= 4]
    assert rises, counts
    first = min(rises, key=lambda c: c.step)
    assert first.step == given.steps[12] or first.step < given.steps[12]
    assert first.start_by is not None
    assert first.start_by <= given.steps[12] - timedelta(seconds=given.policy.node_start_seconds)


def test_a_node_that_drains_has_no_deadline_but_what_its_load_on_the_others_gives() -> None:
    given = pool({0: [curve(0, 10.0)], 1: [curve(1, 10.0)], 2: [curve(2, 10.0)]})
    draining = replace(given, nodes=(replace(given.nodes[0], state=NodeState.DRAINING), *given.nodes[1:]))
    plan = solve(draining)
    assert [m.goal for m in plan.moves] == [Goal.DRAIN]
    assert "should have begun" not in plan.summary


def test_a_problem_without_steps_has_no_deadlines() -> None:
    given = replace(pool({0: [curve(0, 10.0)], 1: [], 2: []}), steps=steps(0))
    empty = replace(given, shards=tuple(replace(s, mean=(), spread_own=()) for s in given.shards), layout=Layout(1, ()))
    assert [m.start_by for m in solve(empty).moves] == [None]
