"""A hot entity gets a shard of its own and replicas for it; a cold one goes back into its slot, which copies nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from clusters import nodes, problem, shard

from foreshard.model import Goal, HeavyEntity, Layout, MoveKind, NodeState, PlacementProblem, Plan, Policy, Replica, ShardLoad
from foreshard.placement import solve
from foreshard.placement.verifier import violations

POOL = nodes(6)  # of 100/s each: an entity is hot above 30/s, cold below 18/s
SLOTS = 8  # ids 0 to 7; isolated entities get ids from 8 up
# Nodes may differ in load, so that nothing moves but for the entities.
POLICY = Policy(bounded_load=4.0)


def entity(name: str, slot: int, load: float, shard_id: int | None = None) -> HeavyEntity:
    return HeavyEntity(name, slot, (load,), (0.1 * load,), (), 500, 50, 0.0, shard_id)


def pool_with(*heavy: HeavyEntity, rest: float = 4.0, layout: Layout | None = None) -> PlacementProblem:
    """Slots of `rest` each beside their entities, which are part of them until they have shards of their own."""
    own = {h.shard_id: h for h in heavy if h.shard_id is not None}
    inside = {slot: sum(h.mean[0] for h in heavy if h.slot == slot and h.shard_id is None) for slot in range(SLOTS)}
    slots = [shard(slot, rest + inside[slot]) for slot in range(SLOTS)]
    apart = [ShardLoad(i, h.mean, h.spread_own, (), h.bytes_full, h.bytes_hot, parent=h.slot) for i, h in own.items()]
    given = problem((*slots, *apart), POOL, layout or problem(tuple(slots), POOL).layout, POLICY)
    return replace(given, heavy=heavy)


def planned(given: PlacementProblem) -> Plan:
    plan = solve(given)
    assert violations(given, plan) == []
    return plan


def after(plan: Plan, *heavy: HeavyEntity) -> PlacementProblem:
    """The next problem: these entities as the plan left them, on its layout."""
    own = {i.entity_id: None if i.ends else i.shard_id for i in plan.isolations}
    return pool_with(*(replace(h, shard_id=own.get(h.entity_id, h.shard_id)) for h in heavy), layout=plan.layout)


def test_a_hot_entity_gets_a_shard_of_its_own_with_replicas_beside_its_slots() -> None:
    given = pool_with(entity("big", 3, 50.0))
    plan = planned(given)
    assert [(i.entity_id, i.slot, i.shard_id, i.ends) for i in plan.isolations] == [("big", 3, 8, False)]
    assert "predicted at 50/s at most, above 30/s and most of its slot 3" in plan.isolations[0].reason
    assert "big gets a shard of its own." in plan.summary
    own = plan.layout.of_shard(8)
    # Half of its 50/s is its own replicas' to answer, which is once above the 15/s of a hot shard: the one and one more.
    assert len(own) == 2
    assert not {r.node_id for r in own} & {r.node_id for r in given.layout.of_shard(3)}
    assert {r.node_id for r in given.layout.of_shard(3)} <= {r.node_id for r in plan.layout.of_shard(3)}
    brought = [m for m in plan.moves if m.shard_id == 8]
    assert {(m.kind, m.bytes) for m in brought} == {(MoveKind.REPLICATE, 500)}
    assert len(brought) == len(own)


def test_the_peak_falls_by_isolating() -> None:
    plan = planned(pool_with(entity("big", 3, 50.0)))
    assert plan.metrics.peak_after < 0.6 * plan.metrics.peak_before


@pytest.mark.parametrize(("load", "rest"), [(29.0, 4.0), (32.0, 33.0)])
def test_an_entity_that_is_not_hot_or_not_most_of_its_slot_stays_in_it(load: float, rest: float) -> None:
    plan = planned(pool_with(entity("middling", 2, load), rest=rest))
    assert plan.isolations == ()
    assert {r.shard_id for r in plan.layout.replicas} == set(range(SLOTS))


@pytest.mark.parametrize("load", [18.5, 24.0, 29.5, 31.0])
def test_between_cold_and_hot_an_entity_stays_as_it_is(load: float) -> None:
    isolated = planned(pool_with(entity("big", 3, 50.0)))
    kept = planned(after(isolated, entity("big", 3, load)))
    assert kept.isolations == ()
    assert kept.layout.of_shard(8)
    if load < 30.0:
        assert planned(pool_with(entity("big", 3, load))).isolations == ()


def test_an_entity_that_went_cold_goes_back_and_its_replicas_are_dropped_without_a_copy() -> None:
    isolated = planned(pool_with(entity("big", 3, 50.0)))
    given = after(isolated, entity("big", 3, 10.0))
    plan = planned(given)
    assert [(i.entity_id, i.shard_id, i.ends) for i in plan.isolations] == [("big", 8, True)]
    assert "predicted at 10/s at most, below 18/s: its slot 3 carries it again" in plan.isolations[0].reason
    assert "big goes back into its slot." in plan.summary
    assert plan.layout.of_shard(8) == ()
    dropped = [m for m in plan.moves if m.shard_id == 8]
    assert len(dropped) == len(isolated.layout.of_shard(8))
    assert {(m.kind, m.goal, m.bytes) for m in dropped} == {(MoveKind.DROP, Goal.CONSOLIDATE, 0)}
    assert all(m.bytes == 0 for m in plan.moves if m.shard_id == 3)


def test_what_ended_is_gone_from_the_next_plan() -> None:
    isolated = planned(pool_with(entity("big", 3, 50.0)))
    ended = planned(after(isolated, entity("big", 3, 10.0)))
    again = planned(after(ended, entity("big", 3, 10.0)))
    assert again.isolations == ()
    assert again.layout.of_shard(8) == ()


def test_two_entities_are_isolated_at_once_the_hotter_first() -> None:
    plan = planned(pool_with(entity("warm", 1, 35.0), entity("hot", 6, 60.0)))
    assert [(i.entity_id, i.shard_id) for i in plan.isolations] == [("hot", 8), ("warm", 9)]
    assert "hot, warm get shards of their own." in plan.summary
    assert plan.layout.of_shard(8)
    assert plan.layout.of_shard(9)


def test_one_comes_while_another_goes_and_their_ids_differ() -> None:
    first = planned(pool_with(entity("old", 1, 60.0), entity("new", 6, 5.0)))
    assert [(i.entity_id, i.shard_id) for i in first.isolations] == [("old", 8)]
    plan = planned(after(first, entity("old", 1, 5.0), entity("new", 6, 60.0)))
    assert {(i.entity_id, i.shard_id, i.ends) for i in plan.isolations} == {("old", 8, True), ("new", 9, False)}
    assert plan.layout.of_shard(8) == ()
    assert plan.layout.of_shard(9)


def test_entities_of_one_slot_each_need_most_of_it() -> None:
    plan = planned(pool_with(entity("a", 1, 60.0), entity("b", 1, 35.0)))
    assert [i.entity_id for i in plan.isolations] == ["a"]


def test_ids_begin_above_the_slots_and_above_what_any_layout_knows() -> None:
    given = pool_with(entity("big", 3, 50.0))
    assert planned(given).isolations[0].shard_id == SLOTS
    left_over = Layout(given.layout.epoch, (*given.layout.replicas, Replica(20, "pipeline-00", 1.0)))
    assert planned(replace(given, layout=left_over)).isolations[0].shard_id == 21


def test_without_a_node_that_accepts_shards_nothing_is_isolated() -> None:
    given = pool_with(entity("big", 3, 50.0))
    draining = replace(given, nodes=tuple(replace(n, state=NodeState.DRAINING) for n in given.nodes))
    assert planned(draining).isolations == ()


def test_under_a_steady_load_with_noise_an_entity_near_a_threshold_does_not_come_and_go() -> None:
    for load in (30.0, 18.0):
        layout, own, changes = None, None, 0
        for wiggle in (0.0, 0.03, -0.03, 0.02, -0.02, 0.03, -0.01, 0.01, -0.03, 0.03):
            given = pool_with(entity("near", 3, load * (1 + wiggle), own), layout=layout)
            plan = planned(given)
            for change in plan.isolations:
                own, changes = (None if change.ends else change.shard_id), changes + 1
            layout = plan.layout
        assert changes <= 1
