"""Where an entity's queries go by what is published: shares, and a sentence for each replica."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from foreshard.hashing import entity_slot
from foreshard.model import Node, NodeState, Replica
from foreshard.routing.explanation import ExplainedReplica, explained
from foreshard.routing.snapshot import PredictedLoad, Snapshot

NOW = datetime(2013, 11, 28, 5, 30, tzinfo=UTC)
ENTITY = "e"
BITS = 2
SLOT = entity_slot(ENTITY, BITS)
NODES = tuple(Node(n, 10.0) for n in "abc")


def epoch(*replicas: Replica, **fields: object) -> Snapshot:
    plain = Snapshot("usage", 1, 0, BITS, 3600, 7, 90, NODES, replicas)
    return replace(plain, **fields)  # type: ignore[arg-type]


def shown(
    snapshot: Snapshot, start: datetime = NOW, states: dict[str, NodeState] | None = None, **corrections: float
) -> dict[str, ExplainedReplica]:
    nodes = {n.node_id: replace(n, state=(states or {}).get(n.node_id, n.state)) for n in NODES}
    return {r.node_id: r for r in explained(snapshot, ENTITY, nodes, corrections, start, NOW)}


THREE_TO_ONE = (Replica(SLOT, "a", 0.75), Replica(SLOT, "b", 0.25))


@pytest.mark.parametrize(("skill", "expected"), [(1.0, 0.75), (0.5, 0.625), (0.0, 0.5)])
def test_shares_follow_weights_as_far_as_the_forecast_is_trusted(skill: float, expected: float) -> None:
    found = shown(epoch(*THREE_TO_ONE, skill=skill))
    assert found["a"].share == pytest.approx(expected)
    assert ("toward even" in found["a"].sentence) == (skill < 1)


def test_a_correction_takes_queries_away_and_is_told() -> None:
    found = shown(epoch(*THREE_TO_ONE), a=1.5)
    assert found["a"].share == pytest.approx(0.5 / 0.75)
    assert "50 % more to do than was expected" in found["a"].sentence
    assert found["a"].weight == 0.75


def test_who_does_not_cover_the_range_gets_none_and_says_since_when_it_holds_days() -> None:
    hot = date(2013, 11, 20)
    snapshot = epoch(Replica(SLOT, "a"), Replica(SLOT, "b", 1.0, hot))
    assert shown(snapshot)["b"].share == 0.5
    old = shown(snapshot, NOW - timedelta(days=30))
    assert (old["a"].share, old["b"].share, old["b"].covers) == (1.0, 0.0, False)
    assert "from 2013-11-20 on" in old["b"].sentence
    midnight = datetime(2013, 11, 20, tzinfo=UTC)
    assert shown(snapshot, midnight)["b"].covers
    assert not shown(snapshot, midnight - timedelta(seconds=1))["b"].covers


def test_dead_and_draining_nodes_are_named() -> None:
    both = {"a": NodeState.DEAD, "b": NodeState.DRAINING}
    snapshot = epoch(*THREE_TO_ONE, Replica(SLOT, "c"))
    found = shown(snapshot, states=both)
    assert [found[n].share for n in "abc"] == [0.0, 0.0, 1.0]
    assert "is dead" in found["a"].sentence
    assert "is draining" in found["b"].sentence
    assert shown(epoch(*THREE_TO_ONE), states=both)["b"].share == 1.0, "there is nobody else"
    assert not any(r.share for r in shown(epoch(*THREE_TO_ONE), states=dict.fromkeys("ab", NodeState.DEAD)).values())


def test_an_isolated_entity_is_in_its_slots_replicas_too() -> None:
    hot = date(2013, 11, 20)
    replicas = (Replica(SLOT, "a"), Replica(SLOT, "b"), Replica(4, "b", 1.0, hot), Replica(4, "c"))
    found = shown(epoch(*replicas, isolated=((ENTITY, 4),)))
    assert {n: r.shard_id for n, r in found.items()} == {"a": SLOT, "b": SLOT, "c": 4}


def test_the_nodes_load_of_this_hour_is_shown() -> None:
    hour = NOW.replace(minute=0)
    coming = (PredictedLoad(SLOT, hour, 8.0), PredictedLoad(SLOT, hour + timedelta(hours=1), 80.0))
    found = shown(epoch(*THREE_TO_ONE, predicted=coming))
    assert found["a"].predicted_load == pytest.approx(6.0)
    assert "expected to carry 6.0 of 10.0" in found["a"].sentence
    assert shown(epoch(*THREE_TO_ONE))["a"].predicted_load is None
