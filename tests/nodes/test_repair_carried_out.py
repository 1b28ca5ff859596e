"""A repair is carried out wave by wave although no layout on the way has all full replicas, and none has fewer than before."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from foreshard.errors import Refused
from foreshard.model import Layout, Move, MoveKind, NodeState, Replica
from foreshard.nodes.repair import propose_repair
from foreshard.placement import codec, solve
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.routing.invariants import full_replicas
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.transition import progress, steps
from foreshard.transition import store as transitions
from foreshard.transition.inputs import newest_forecasts, placement_problem


@pytest.fixture
def in_waves(watched: Settings) -> Settings:
    """One copy at a time, and no waiting between the steps."""
    quick = replace(watched.transition, reverse_seconds=0, step_seconds=0, shadow_share=0, cut_over=(0.5, 1.0))
    settings = replace(watched, policy=replace(watched.policy, max_moves_in_flight=1), transition=quick)
    url = settings.postgres_url
    pool.register(url, settings)
    first = store.epoch(url, "usage", 1)
    halves = replace(first, epoch=2, parent=1, replicas=tuple(replace(r, weight=0.5) for r in first.replicas))
    store.publish(url, halves, expected_epoch=1, published_by="test", reason="weights that sum to 1")
    return settings


def as_if_copied(settings: Settings, plan_id: str) -> None:
    """What the Spark steps would leave: every copy verified."""
    url = settings.postgres_url
    rows = [
        transitions.ReplicaRecord(m.shard_id, m.target, "verified", m.covers_from, 0, 0)
        for m in transitions.read_moves(url, "usage", plan_id)
        if m.target
    ]
    transitions.upsert_replicas(url, "usage", rows)
    with control_plane.transaction(url) as cursor:
        cursor.execute("UPDATE plan_move SET state = 'verified' WHERE plan_id = %s AND target <> ''", (plan_id,))


def counts(settings: Settings, epoch: int) -> dict[int, int]:
    live = {n.node_id for n in pool.read_nodes(settings.postgres_url, "usage") if n.is_live}
    return full_replicas(store.epoch(settings.postgres_url, "usage", epoch).replicas, live)


def test_each_wave_of_a_repair_is_published_and_no_shard_ever_has_fewer_full_replicas(in_waves: Settings) -> None:
    url = in_waves.postgres_url
    pool.set_node_state(url, "usage", "c", NodeState.DEAD)
    repair = propose_repair(in_waves, url)
    waves = {m.wave for m in transitions.read_moves(url, "usage", repair.plan_id)}
    assert len(waves) > 1
    as_if_copied(in_waves, repair.plan_id)
    ended = steps.carry_on(in_waves, repair.plan_id, "test", lambda _: None)
    assert ended.is_over, ended.decision.sentence
    assert transitions.read_plan(url, "usage", repair.plan_id).state == "done"
    newest = pool.read_pool(url, "usage").current_epoch
    assert newest > 3
    seen = [counts(in_waves, epoch) for epoch in range(2, newest + 1)]
    assert all(after[s] >= min(before[s], 2) for before, after in itertools.pairwise(seen) for s in range(4)), seen
    assert seen[-1] == dict.fromkeys(range(4), 2)
    assert propose_repair(in_waves, url).sentence == ""


def shifting(settings: Settings) -> str:
    """A plan that moves shard 0 from b to c, half cut over: queries go to a, b and c."""
    url = settings.postgres_url
    problem = placement_problem(settings, url, newest_forecasts(settings))
    others = [r for r in problem.layout.replicas if (r.shard_id, r.node_id) != (0, "b")]
    move = Move(MoveKind.MOVE, 0, "b", "c", None, 10, "test")
    plan: Any = replace(solve(problem), moves=(move,), layout=Layout(problem.layout.epoch + 1, (*others, Replica(0, "c", 0.5))))
    plan = replace(plan, plan_id=codec.plan_id_of(plan.input_digest, plan.moves))
    transitions.save_plan(url, plan, codec.plan_to_document(plan))
    transitions.record_approval(url, "usage", plan.plan_id, "approved", "test")
    as_if_copied(settings, plan.plan_id)
    return str(plan.plan_id)


def test_a_plan_taken_back_after_a_death_keeps_the_copies_that_stand_in_for_the_dead(in_waves: Settings) -> None:
    url = in_waves.postgres_url
    store.register_gateway(url, "usage", "g1", 600)
    store.acknowledge(url, "usage", "g1", 2)
    plan_id = shifting(in_waves)
    begun = steps.carry_on(in_waves, plan_id, "test", lambda _: None)
    assert "g1 to follow epoch 3" in begun.decision.sentence
    assert nodes_of(in_waves, 0) == {"a", "b", "c"}
    pool.set_node_state(url, "usage", "a", NodeState.DEAD)
    progress.request_rollback(url, progress.PlanKey("usage", plan_id, "repair"), "a died")
    ended = steps.carry_on(in_waves, plan_id, "test", lambda _: None)
    assert ended.is_over, ended.decision.sentence
    assert transitions.read_plan(url, "usage", plan_id).state == "rolled_back"
    assert {"b", "c"} <= nodes_of(in_waves, 0), "the layout before had b and the dead a alone"


def nodes_of(settings: Settings, shard: int) -> set[str]:
    current = store.current(settings.postgres_url, "usage")
    assert current is not None
    return {r.node_id for r in current.layout.of_shard(shard)}


def test_without_a_plan_no_epoch_is_published_that_lacks_full_replicas(watched: Settings, snapshot: Snapshot) -> None:
    url = watched.postgres_url
    pool.set_node_state(url, "usage", "c", NodeState.DEAD)
    again = replace(snapshot, epoch=2, parent=1)
    with pytest.raises(Refused, match="shard 1 has 1 full replicas on live nodes and needs 2"):
        store.publish(url, again, expected_epoch=1, published_by="test", reason="test")
