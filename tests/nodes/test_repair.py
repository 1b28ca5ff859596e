"""Repair plans: made at once and without a person, one at a time, and only after what stands in their way is settled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from foreshard.errors import ForeshardError
from foreshard.model import Layout, Move, MoveKind, Node, NodeCount, NodeState, PlacementProblem, Policy, Replica, ShardLoad
from foreshard.nodes.desired import refresh_desired, wanted_now
from foreshard.nodes.overload import LEAST_SHARE, as_observed
from foreshard.nodes.repair import propose_repair, wanted_repair
from foreshard.nodes.watch import watch_once
from foreshard.placement import codec, solve
from foreshard.routing import pool, store
from foreshard.settings import Settings
from foreshard.transition import lease
from foreshard.transition import store as transitions
from foreshard.transition.drift import drift
from foreshard.transition.inputs import newest_forecasts, placement_problem

Earlier = Callable[[str, str, float], None]
NOW = datetime(2026, 1, 5, 12, 30, tzinfo=UTC)


def die(settings: Settings, node_id: str) -> None:
    pool.set_node_state(settings.postgres_url, settings.pool_id, node_id, NodeState.DEAD)


def layout_nodes(settings: Settings, plan_id: str) -> set[str]:
    document = transitions.read_plan(settings.postgres_url, "usage", plan_id).document
    return {r.node_id for r in codec.plan_from_document(document).layout.replicas}


def test_nothing_is_repaired_while_all_is_well(watched: Settings) -> None:
    assert wanted_repair(watched, watched.postgres_url) is None
    assert propose_repair(watched, watched.postgres_url).plan_id == ""
    assert transitions.latest_plan(watched.postgres_url, "usage") is None


def test_a_death_makes_one_plan_that_needs_no_person_however_often_it_is_asked_for(watched: Settings) -> None:
    url = watched.postgres_url
    die(watched, "c")
    first = propose_repair(watched, url)
    assert first.sentence.startswith(f"node c is dead; plan {first.plan_id} repairs it: ")
    assert transitions.read_plan(url, "usage", first.plan_id).state == "approved"
    assert layout_nodes(watched, first.plan_id) == {"a", "b"}
    again = propose_repair(watched, url)
    assert again.plan_id == first.plan_id, "whoever triggers it may have been killed"
    assert len(transitions.read_events(url, "usage", first.plan_id)) == 2, "proposed and approved, once each"
    transitions.set_plan_state(url, "usage", first.plan_id, "running", "test")
    waiting = propose_repair(watched, url)
    assert waiting.plan_id == ""
    assert waiting.sentence == f"node c is dead; waits for plan {first.plan_id}, which is carried out"


def test_a_dead_node_to_which_nothing_is_routed_needs_no_repair(watched: Settings) -> None:
    url = watched.postgres_url
    others = (Replica(0, "a"), Replica(0, "b"), *(Replica(s, n) for s in (1, 2, 3) for n in ("a", "b")))
    records = [transitions.ReplicaRecord(r.shard_id, r.node_id, "verified", None, 0, 0) for r in others]
    transitions.upsert_replicas(url, "usage", records)
    current = store.current(url, "usage")
    assert current is not None
    made = replace(current, epoch=2, parent=1, replicas=others)
    store.publish(url, made, expected_epoch=1, published_by="test", reason="test")
    die(watched, "c")
    assert wanted_repair(watched, url) is None


def running_plan(settings: Settings, target: str) -> str:
    """A plan under way that brings shard 0 to another node."""
    url = settings.postgres_url
    problem = placement_problem(settings, url, newest_forecasts(settings))
    plan = solve(problem)
    move = Move(MoveKind.REPLICATE, 0, "", target, None, 10, "test")
    layout = Layout(2, (*problem.layout.replicas, Replica(0, target)))
    plan = replace(plan, plan_id=f"to-{target}", moves=(move,), layout=layout)
    transitions.save_plan(url, plan, codec.plan_to_document(plan))
    transitions.record_approval(url, "usage", plan.plan_id, "approved", "somebody")
    transitions.set_plan_state(url, "usage", plan.plan_id, "running", "test")
    return plan.plan_id


def test_a_plan_under_way_that_leads_to_the_dead_node_is_taken_back_first(watched: Settings) -> None:
    url = watched.postgres_url
    plan_id = running_plan(watched, "c")
    die(watched, "c")
    for _ in range(2):
        found = propose_repair(watched, url)
        assert found.plan_id == ""
        assert found.sentence == f"c dead; waits for plan {plan_id} to be rolled back"
    record = transitions.read_plan(url, "usage", plan_id)
    assert record.rollback_reason == "it leads to c, dead since it was made"
    asked = [e for e in transitions.read_events(url, "usage", plan_id) if e.stage == "rollback asked for"]
    assert len(asked) == 1
    transitions.set_plan_state(url, "usage", plan_id, "rolled_back", "test")
    repair = propose_repair(watched, url)
    assert layout_nodes(watched, repair.plan_id) == {"a", "b"}


def test_an_approved_repair_is_replaced_when_a_node_dies_that_it_leads_to(watched: Settings) -> None:
    url = watched.postgres_url
    pool.register(url, replace(watched, nodes=(*watched.nodes, replace(watched.nodes[2], node_id="d"))))
    die(watched, "c")
    first = propose_repair(watched, url)
    assert "d" in layout_nodes(watched, first.plan_id)
    die(watched, "d")
    second = propose_repair(watched, url)
    assert second.plan_id not in ("", first.plan_id)
    assert not layout_nodes(watched, second.plan_id) & {"c", "d"}


def test_without_a_forecast_it_says_what_is_missing(registered: str, pool_settings: Settings, snapshot: object) -> None:
    from foreshard.routing.snapshot import Snapshot

    assert isinstance(snapshot, Snapshot)
    store.publish(registered, snapshot, expected_epoch=0, published_by="test", reason="first layout")
    die(replace(pool_settings, postgres_url=registered), "c")
    with pytest.raises(ForeshardError, match="no load_forecast to plan from"):
        propose_repair(pool_settings, registered)


def test_two_that_repair_at_once_make_one_plan(watched: Settings) -> None:
    url = watched.postgres_url
    die(watched, "c")
    with lease.held(url, "usage/repair", "somebody else", 60):
        assert "usage/repair is held by somebody else" in propose_repair(watched, url).sentence
    assert transitions.latest_plan(url, "usage") is None


def test_a_plan_still_fits_when_a_node_that_joined_is_ready_and_no_more_when_it_died(watched: Settings) -> None:
    url = watched.postgres_url
    pool.register(url, replace(watched, nodes=(*watched.nodes, replace(watched.nodes[2], node_id="d"))))
    pool.set_node_state(url, "usage", "d", NodeState.JOINING)
    die(watched, "c")
    record = transitions.read_plan(url, "usage", propose_repair(watched, url).plan_id)
    pool.set_node_state(url, "usage", "d", NodeState.ACTIVE)
    assert drift(watched, url, record) == ""
    die(watched, "d")
    assert drift(watched, url, record) == "node d was joining when it was made, and is dead"


def overload(settings: Settings, earlier: Earlier, load: float) -> None:
    store.write_heartbeat(settings.postgres_url, "usage", "a", load, {})
    watch_once(settings, settings.postgres_url)
    earlier("node_overload.since", "a", 301)


def test_a_lasting_overload_is_relieved_by_a_plan_and_not_again_before_that_could_work(
    watched: Settings, earlier: Earlier
) -> None:
    url = watched.postgres_url
    overload(watched, earlier, 15.0)
    found = propose_repair(watched, url)
    assert found.sentence.startswith("node a carries 15.0 of 10.0 for 5 minutes; plan ")
    document = transitions.read_plan(url, "usage", found.plan_id).document
    plan = codec.plan_from_document(document)
    assert share_on(plan.layout, "a") < share_on(current_layout(watched), "a"), "a carries less afterwards"
    transitions.set_plan_state(url, "usage", found.plan_id, "running", "test")
    transitions.set_plan_state(url, "usage", found.plan_id, "done", "test")
    assert propose_repair(watched, url).sentence == "", "it has just ended"


def current_layout(settings: Settings) -> Layout:
    current = store.current(settings.postgres_url, "usage")
    assert current is not None
    return current.layout


def share_on(layout: Layout, node_id: str) -> float:
    """How many shards' worth of queries go to the node."""
    sums = {s: sum(r.weight for r in layout.of_shard(s)) for s in range(4)}
    return sum(r.weight / sums[r.shard_id] for r in layout.of_node(node_id))


# Pure parts


def problem(means: tuple[float, ...], weights: tuple[float, float]) -> PlacementProblem:
    return PlacementProblem(
        pool_id="p",
        layout=Layout(1, (Replica(0, "a", weights[0]), Replica(0, "b", weights[1]))),
        nodes=(Node("a", 10.0), Node("b", 10.0)),
        shards=(ShardLoad(0, means, (0.0,) * len(means)),),
        policy=Policy(),
        steps=tuple(NOW.replace(minute=0) + timedelta(hours=h) for h in range(len(means))),
        covers_from=NOW.date(),
    )


@pytest.mark.parametrize(
    ("observed", "capacity"),
    [
        ({}, 10.0),
        ({"a": 3.0}, 10.0),  # as predicted: 4 × 3 / 4
        ({"a": 6.0}, 5.0),  # twice of it
        ({"a": 2.0}, 10.0),  # less: never larger than declared
        ({"a": 1000.0}, 10.0 * LEAST_SHARE),
    ],
)
def test_a_node_that_carries_more_than_predicted_counts_as_smaller(observed: dict[str, float], capacity: float) -> None:
    made = as_observed(problem((4.0, 100.0), (3.0, 1.0)), observed, NOW)
    assert [n.capacity for n in made.nodes] == pytest.approx([capacity, 10.0])
    assert made.shards == problem((4.0, 100.0), (3.0, 1.0)).shards


def test_the_step_of_now_is_the_one_that_counts() -> None:
    later = as_observed(problem((4.0, 8.0), (3.0, 1.0)), {"a": 12.0}, NOW + timedelta(hours=1))
    assert later.nodes[0].capacity == pytest.approx(5.0)
    before = as_observed(problem((4.0, 8.0), (3.0, 1.0)), {"a": 6.0}, NOW - timedelta(days=1))
    assert before.nodes[0].capacity == pytest.approx(5.0)


def count(hours: int, nodes: int, start_hours: int | None = None) -> NodeCount:
    start = None if start_hours is None else NOW + timedelta(hours=start_hours)
    return NodeCount(NOW + timedelta(hours=hours), nodes, start, "")


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ((), None),
        ((count(0, 3),), 3),
        ((count(1, 3),), 3),
        ((count(-1, 3), count(2, 5, 0)), 5),  # growth must begin now
        ((count(-1, 3), count(2, 5, 1)), 3),
        ((count(-3, 3), count(-2, 5, -4), count(1, 2, 1)), 5),
    ],
)
def test_the_count_wanted_now_is_the_last_whose_change_must_have_begun(
    counts: tuple[NodeCount, ...], wanted: int | None
) -> None:
    assert wanted_now(counts, NOW) == wanted


def test_the_pool_records_what_the_newest_plan_wants(watched: Settings) -> None:
    url = watched.postgres_url
    assert refresh_desired(watched, url) == ""
    plan = solve(placement_problem(watched, url, newest_forecasts(watched)))
    plan = replace(plan, node_counts=(count(-1, 3), count(2, 5, 0)))
    transitions.save_plan(url, plan, codec.plan_to_document(plan))
    assert refresh_desired(watched, url, NOW - timedelta(hours=1)) == "3 nodes are wanted from now on"
    assert refresh_desired(watched, url, NOW) == "5 nodes are wanted from now on, 3 were before"
    assert refresh_desired(watched, url, NOW) == ""
    assert pool.read_pool(url, "usage").desired_nodes == 5
