"""What plans do to pools by hand and of a usual shape, and how they say it. Random clusters: test_plans_verified.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clusters import clusters, nodes, problem, shard, typical
from hypothesis import given, settings

from foreshard.errors import ForeshardError
from foreshard.model import Goal, Layout, MoveKind, Node, NodeState, PlacementProblem, Policy, Replica
from foreshard.placement import node_load, solve
from foreshard.placement.verifier import violations


def with_state(given: PlacementProblem, at: int, state: NodeState) -> PlacementProblem:
    return replace(given, nodes=(*given.nodes[:at], replace(given.nodes[at], state=state), *given.nodes[at + 1 :]))


@settings(max_examples=30, deadline=None)
@given(given_problem=clusters())
def test_the_predicted_peak_is_the_highest_load_over_capacity_of_the_layout(given_problem: PlacementProblem) -> None:
    plan = solve(given_problem)
    capacity = np.array([n.capacity for n in given_problem.nodes])[:, None]
    for layout, peak in ((given_problem.layout, plan.metrics.peak_before), (plan.layout, plan.metrics.peak_after)):
        assert peak == pytest.approx(float((node_load(given_problem, layout) / capacity).max(initial=0.0)), abs=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_a_typical_pool_ends_near_the_lower_bound_with_few_moves(seed: int) -> None:
    given_problem = typical(seed, 128, 8, used=0.5)
    plan = solve(given_problem)
    assert violations(given_problem, plan) == []
    assert plan.metrics.peak_after <= 1.15 * plan.metrics.peak_lower_bound
    assert plan.metrics.peak_after <= plan.metrics.peak_before
    assert plan.metrics.overloaded_nodes == ()
    assert plan.metrics.moves <= 8


@pytest.mark.parametrize("seed", range(4))
def test_a_new_node_takes_shards_and_nothing_moves_between_the_others(seed: int) -> None:
    settled = typical(seed, 128, 5, used=0.5)
    settled = replace(settled, layout=solve(settled).layout)
    grown = replace(settled, nodes=(*settled.nodes, Node("new", 100.0, NodeState.JOINING)))
    plan = solve(grown)
    assert plan.moves
    assert {m.target for m in plan.moves} == {"new"}
    assert plan.metrics.peak_after < 0.98 * plan.metrics.peak_before
    assert violations(grown, plan) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_dead_node_has_only_its_own_shards_replicated(seed: int) -> None:
    settled = typical(seed, 128, 8, used=0.4)
    settled = replace(settled, layout=solve(settled).layout)
    lost = with_state(settled, 3, NodeState.DEAD)
    plan = solve(lost)
    orphans = {r.shard_id for r in settled.layout.of_node("pipeline-03")}
    assert {m.shard_id for m in plan.moves} == orphans
    assert {m.kind for m in plan.moves} == {MoveKind.REPLICATE, MoveKind.DROP}
    assert plan.layout.of_node("pipeline-03") == ()
    assert plan.metrics.bytes_moved == plan.metrics.bytes_lower_bound
    assert violations(lost, plan) == []


def test_a_draining_node_is_emptied_by_moves_from_it() -> None:
    settled = typical(1, 64, 6, used=0.4)
    draining = with_state(settled, 2, NodeState.DRAINING)
    plan = solve(draining)
    assert plan.layout.of_node("pipeline-02") == ()
    from_it = [m for m in plan.moves if m.source == "pipeline-02"]
    assert len(from_it) == len(settled.layout.of_node("pipeline-02"))
    assert {m.goal for m in from_it} == {Goal.DRAIN}
    assert all(m.reason.startswith("node pipeline-02 is draining; shard ") for m in from_it)
    assert violations(draining, plan) == []


def test_draining_goes_on_with_the_next_plan_when_the_budget_is_used_up() -> None:
    draining = with_state(typical(1, 64, 6, used=0.4), 2, NodeState.DRAINING)
    draining = replace(draining, policy=replace(draining.policy, max_moves=5))
    left = len(draining.layout.of_node("pipeline-02"))
    first = solve(draining)
    assert first.metrics.ended_by == "movement budget"
    assert len(first.moves) == 5
    assert "pipeline-02 still hold shards" in first.summary
    plans = 1
    while first.layout.of_node("pipeline-02"):
        draining = replace(draining, layout=first.layout)
        first = solve(draining)
        assert violations(draining, first) == []
        plans += 1
    assert plans <= -(-left // 5) + 1


def test_repair_is_done_even_without_any_movement_budget() -> None:
    lost = with_state(typical(0, 32, 5, used=0.3), 0, NodeState.DEAD)
    lost = replace(lost, policy=replace(lost.policy, max_moves=0, max_move_bytes=0))
    plan = solve(lost)
    assert {m.kind for m in plan.moves} == {MoveKind.REPLICATE, MoveKind.DROP}
    assert violations(lost, plan) == []


def test_a_node_over_its_cap_is_relieved_by_a_move_that_says_so_with_figures() -> None:
    one_each = Policy(min_full_replicas=1, max_replicas=1)
    pool = nodes(3)
    layout = Layout(4, tuple(Replica(i, "pipeline-00" if i < 6 else "pipeline-01") for i in range(8)))
    crowded = problem(tuple(shard(i, 5.0, 15.0) for i in range(8)), pool, layout, one_each)
    plan = solve(crowded)
    assert violations(crowded, plan) == []
    assert plan.metrics.overloaded_nodes == ()
    assert plan.metrics.moves <= 4
    first = plan.moves[0]
    assert first.kind is MoveKind.MOVE
    assert first.source == "pipeline-00"
    # Its first step above the bound, 1.15 times the fair share of 14/s, is what it must be relieved by.
    assert "node pipeline-00 predicted at 0.32 of capacity at 2013-11-27 00:00, bound 0.16" in first.reason
    assert f"shard {first.shard_id} carries 5/s of it" in first.reason


def test_weights_alone_settle_what_they_can() -> None:
    pool = nodes(2)
    layout = Layout(1, tuple(Replica(i, n.node_id, w) for i in range(4) for n, w in zip(pool, (0.9, 0.1), strict=True)))
    skewed = problem(tuple(shard(i, 12.0) for i in range(4)), pool, layout)
    plan = solve(skewed)
    assert plan.moves == ()
    assert plan.metrics.peak_after < 0.6 * plan.metrics.peak_before
    assert "new weights are enough" in plan.summary


def test_a_balanced_pool_has_nothing_to_do_and_keeps_its_weights() -> None:
    calm = problem(tuple(shard(i, 2.0) for i in range(8)), nodes(2))
    plan = solve(calm)
    assert plan.moves == ()
    assert plan.layout.replicas == calm.layout.replicas
    assert plan.summary.startswith("Nothing to do: the node nearest its bound is pipeline-00 at 0.08 of capacity")
    assert "no move until the load rises by 840 %: then node pipeline-00 passes its target of 0.80" in plan.summary


def test_what_cannot_fit_is_planned_and_named_with_the_capacity_that_is_missing() -> None:
    crowded = problem(tuple(shard(i, 60.0) for i in range(4)), nodes(2))
    plan = solve(crowded)
    assert violations(crowded, plan) == []
    assert plan.metrics.overloaded_nodes == ("pipeline-00", "pipeline-01")
    assert "The pool needs at least 124.7/s more capacity." in plan.summary


def test_no_iterations_and_no_time_end_the_search_and_say_so() -> None:
    loads = enumerate((30.0, 30.0, 25.0, 25.0, 20.0, 20.0))
    layout = Layout(1, tuple(Replica(i, f"pipeline-{i // 2:02d}") for i in range(6)))
    # Only an exchange helps, which the last stage finds.
    paired = problem(tuple(shard(i, load) for i, load in loads), nodes(3), layout, Policy(1, 1, bounded_load=1.05))
    assert solve(paired, iterations=0).metrics.ended_by == "iterations"
    assert solve(paired, time_limit=0.0).metrics.ended_by == "time limit"
    assert solve(paired, time_limit=600.0, iterations=2_000) == solve(paired, iterations=2_000)


def test_what_single_moves_settle_depends_on_neither_seed_nor_time() -> None:
    layout = Layout(1, tuple(Replica(i, "pipeline-00") for i in range(6)))
    crowded = problem(tuple(shard(i, 15.0) for i in range(6)), nodes(3), layout, Policy(1, 1))
    plan = solve(crowded)
    assert plan.metrics.ended_by == "converged"
    assert plan == solve(crowded, seed=7) == solve(crowded, iterations=0) == solve(crowded, time_limit=0.0)


def test_zones_are_kept_apart() -> None:
    pool = tuple(Node(f"n{i}", 100.0, zone="ab"[i % 2]) for i in range(6))
    zoned = problem(tuple(shard(i, 1.0) for i in range(24)), pool)
    lost = with_state(zoned, 0, NodeState.DEAD)
    for layout in (zoned.layout, solve(lost).layout):
        zone = {n.node_id: n.zone for n in pool}
        assert all({zone[r.node_id] for r in layout.of_shard(s)} == {"a", "b"} for s in range(24))


@pytest.mark.parametrize("pool", [(), (Node("n0", 10.0, NodeState.DEAD),)])
def test_a_pool_without_live_nodes_is_refused(pool: tuple[Node, ...]) -> None:
    empty = problem((shard(0, 1.0),), pool, Layout(1, (Replica(0, "n0"),)))
    with pytest.raises(ForeshardError, match="no live node"):
        solve(empty)


def test_if_all_nodes_drain_they_keep_what_they_hold() -> None:
    settled = problem((shard(0, 1.0), shard(1, 2.0)), nodes(2))
    draining = replace(settled, nodes=tuple(replace(n, state=NodeState.DRAINING) for n in settled.nodes))
    plan = solve(draining)
    assert plan.moves == ()
    assert plan.layout.replicas == settled.layout.replicas
    assert plan.summary.startswith("No node accepts shards")
    assert violations(draining, plan) == []


def test_one_node_holds_one_full_replica_of_everything() -> None:
    alone = problem(tuple(shard(i, 1.0) for i in range(3)), nodes(1))
    plan = solve(replace(alone, layout=Layout(0, ())))
    assert [(r.shard_id, r.node_id, r.weight) for r in plan.layout.replicas] == [(i, "pipeline-00", 1.0) for i in range(3)]
    assert {m.kind for m in plan.moves} == {MoveKind.REPLICATE}


def test_zero_load_zero_sizes_and_no_steps_are_planned() -> None:
    for values in ((0.0, 0.0), ()):
        idle = problem(tuple(shard(i, *values, size=0) for i in range(5)), nodes(3), Layout(2, ()))
        plan = solve(idle)
        assert violations(idle, plan) == []
        assert plan.metrics.peak_after == 0.0
        assert plan.metrics.bytes_moved == 0
        assert len(plan.layout.replicas) == 10


def test_a_shard_without_a_forecast_keeps_its_replicas() -> None:
    settled = problem((shard(0, 1.0), shard(1, 1.0)), nodes(3))
    plan = solve(replace(settled, shards=settled.shards[:1]))
    assert plan.layout.of_shard(1) == settled.layout.of_shard(1)


def test_more_replicas_than_nodes_are_as_many_as_there_are_nodes() -> None:
    wanting = problem((shard(0, 500.0),), nodes(2), policy=Policy(min_full_replicas=3, max_replicas=9))
    plan = solve(wanting)
    assert len(plan.layout.of_shard(0)) == 2
    assert violations(wanting, plan) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": (Node("a", 1.0), Node("a", 2.0))}, "two nodes have the same node_id"),
        ({"nodes": (Node("a", 0.0),)}, "node a: capacity must be above 0"),
        ({"shards": (shard(1, 1.0), shard(1, 1.0))}, "two shards have the same shard_id"),
        ({"shards": (shard(1, 1.0, 2.0),)}, "shard 1: mean and spreads have"),
        ({"shards": (shard(1, -1.0),)}, "shard 1: mean and spread_own must be 0 or more"),
        ({"layout": Layout(1, (Replica(0, "a"), Replica(0, "a")))}, "a shard is twice on one node"),
        ({"layout": Layout(1, (Replica(0, "a", 0.0),))}, "weight must be above 0"),
        ({"policy": Policy(min_full_replicas=0)}, "policy.min_full_replicas must be 1 or more"),
    ],
)
def test_a_problem_that_contradicts_itself_is_refused_in_one_sentence(change: dict[str, object], message: str) -> None:
    sound = problem((shard(0, 1.0),), nodes(2))
    with pytest.raises(ForeshardError, match=message):
        solve(replace(sound, **change))  # type: ignore[arg-type]
