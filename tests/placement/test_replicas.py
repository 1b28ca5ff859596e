"""Hot shards get replicas, cold ones lose them, and a load near a threshold does neither."""

from __future__ import annotations

from dataclasses import replace

from clusters import HOT_FROM, nodes, problem, shard, typical
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.model import Layout, MoveKind, Node, NodeState, Plan, Policy, Replica
from foreshard.placement import solve
from foreshard.placement.verifier import violations

POOL = nodes(6)  # of 100/s each: hot above 15/s, cold below 9/s


def plan_for(load: float, recent: float = 0.0, layout: Layout | None = None) -> Plan:
    given_problem = problem((shard(0, load, recent=recent), *(shard(i, 2.0) for i in range(1, 12))), POOL, layout)
    plan = solve(given_problem)
    assert violations(given_problem, plan) == []
    return plan


def test_a_hot_shard_gets_a_full_replica_more_for_each_time_it_passes_the_threshold() -> None:
    for load, replicas in ((14.0, 2), (16.0, 3), (31.0, 4), (80.0, 4)):
        of_shard = plan_for(load).layout.of_shard(0)
        assert len(of_shard) == replicas
        assert all(r.is_full for r in of_shard)


def test_a_hot_shard_asked_for_recent_days_gets_hot_replicas_that_cover_them() -> None:
    plan = plan_for(16.0, recent=0.7)
    move = next(m for m in plan.moves if m.shard_id == 0)
    assert (move.kind, move.covers_from, move.bytes) == (MoveKind.REPLICATE, HOT_FROM, 100)
    assert "shard 0 predicted at 16/s at 2013-11-27 00:00, 0.16 of a mean node; above 0.15 it gets 3 replicas" in move.reason
    assert sorted(r.is_full for r in plan.layout.of_shard(0)) == [False, True, True]


def test_a_shard_that_went_cold_loses_its_further_replicas_and_says_why() -> None:
    hot = plan_for(40.0, recent=0.7).layout
    plan = plan_for(8.0, recent=0.7, layout=hot)
    dropped = [m for m in plan.moves if m.shard_id == 0]
    assert [m.kind for m in dropped] == [MoveKind.DROP, MoveKind.DROP]
    assert "shard 0 predicted at 8/s at most (2013-11-27 00:00), 0.08 of a mean node; below 0.09" in dropped[0].reason
    assert len(plan.layout.of_shard(0)) == 2


@settings(max_examples=20, deadline=None)
@given(load=st.floats(9.1, 14.9))
def test_between_the_thresholds_replicas_neither_come_nor_go(load: float) -> None:
    few, many = plan_for(10.0).layout, plan_for(16.0).layout
    assert len(plan_for(load, layout=few).layout.of_shard(0)) == 2
    assert len(plan_for(load, layout=many).layout.of_shard(0)) == 3


def test_a_hot_replica_is_widened_when_no_other_node_is_left_for_a_full_one() -> None:
    layout = Layout(1, (Replica(0, "pipeline-00", 0.5), Replica(0, "pipeline-01", 0.5, HOT_FROM)))
    lacking = problem((shard(0, 1.0),), POOL[:2], layout)
    plan = solve(lacking)
    assert [(m.kind, m.target, m.bytes) for m in plan.moves] == [(MoveKind.WIDEN, "pipeline-01", 900)]
    assert violations(lacking, plan) == []


def test_replicas_above_the_policys_most_are_retired() -> None:
    layout = Layout(1, tuple(Replica(0, n.node_id, 1 / 6) for n in POOL))
    surplus = problem((shard(0, 500.0),), POOL, layout, Policy(max_replicas=3))
    plan = solve(surplus)
    assert len(plan.layout.of_shard(0)) == 3
    assert {m.kind for m in plan.moves} == {MoveKind.DROP}


def test_what_a_removed_node_held_is_dropped_and_replicated() -> None:
    settled = typical(0, 64, 6, used=0.4)
    settled = replace(settled, layout=solve(settled).layout)
    gone = replace(settled, nodes=settled.nodes[1:])
    plan = solve(gone)
    assert violations(gone, plan) == []
    assert not plan.layout.of_node("pipeline-00")
    assert len(plan.moves) == 2 * len(settled.layout.of_node("pipeline-00"))


def test_nothing_is_placed_on_a_draining_node() -> None:
    pool = (*POOL[:3], Node("pipeline-03", 1_000.0, NodeState.DRAINING))
    plan = solve(problem(tuple(shard(i, 1.0) for i in range(6)), pool, Layout(1, ())))
    assert not plan.layout.of_node("pipeline-03")


def test_a_surplus_hot_replica_goes_even_while_a_full_one_waits_for_budget_to_leave_a_draining_node() -> None:
    pool = (*POOL[:3], Node("pipeline-03", 100.0, NodeState.DRAINING))
    held = (Replica(0, "pipeline-00"), Replica(0, "pipeline-03"), Replica(0, "pipeline-01", 1.0, HOT_FROM))
    waiting = problem((shard(0, 1.0),), pool, Layout(1, held), Policy(max_replicas=2, max_move_bytes=0))
    plan = solve(waiting)
    assert [(m.kind, m.source) for m in plan.moves] == [(MoveKind.DROP, "pipeline-01")]
    assert plan.metrics.ended_by == "movement budget"
    assert violations(waiting, plan) == []
