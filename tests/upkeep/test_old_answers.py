"""Answers and reports go with plans that ended long ago, and stay with those that may still be decided by them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foreshard.model import Move, MoveKind, Plan, PlanMetrics
from foreshard.routing import database as control_plane
from foreshard.routing import store as epochs
from foreshard.routing.snapshot import Snapshot
from foreshard.transition import store
from foreshard.transition.negotiation import answer as say
from foreshard.transition.negotiation import answers, open_transfers
from foreshard.transition.shadowing import ShadowReport, read_shadows, write_shadow
from foreshard.upkeep.old_answers import KEPT_DAYS, remove_old_answers

MOVES = (Move(MoveKind.MOVE, 0, "b", "c", None, 70, "b is full"),)


@pytest.fixture
def told(published: str, snapshot: Snapshot) -> str:
    """Plan p1, whose two nodes have answered, and which published epoch 2, of which a gateway has reported."""
    plan = Plan("p1", "usage", 1, "digest", MOVES, snapshot.layout, PlanMetrics(1, 1, 1, 0, 0, 1, "test"))
    store.save_plan(published, plan, {})
    store.record_approval(published, "usage", "p1", "approved", "test")
    shadowed = replace(snapshot, epoch=2, parent=1)
    epochs.publish(published, shadowed, expected_epoch=1, published_by="test", reason="test", plan_id="p1")
    put(published, "running", 0)
    for node_id in ("b", "c"):
        for transfer in open_transfers(published, "usage", node_id):
            say(published, "usage", transfer, True)
    write_shadow(published, "usage", "g/1", ShadowReport(2, 0, "c", compared=5))
    return published


def put(url: str, state: str, days: float, published_days: float | None = None) -> None:
    """The plan is in this state, and its last event so many days old, as is its epoch unless another age is given."""
    with control_plane.transaction(url) as cursor:
        cursor.execute("UPDATE plan SET state = %s", [state])
        cursor.execute("UPDATE transition_event SET at = clock_timestamp() - %s * interval '1 day'", [days])
        age = days if published_days is None else published_days
        cursor.execute("UPDATE routing_epoch SET published_at = clock_timestamp() - %s * interval '1 day'", [age])


def kept(url: str) -> tuple[int, int]:
    """How many answers and reports there are."""
    return len(answers(url, "usage", "p1")), len(read_shadows(url, "usage", 2))


@pytest.mark.parametrize("state", ["done", "rejected", "failed", "rolled_back"])
def test_what_was_said_of_a_plan_that_ended_long_ago_goes(told: str, state: str) -> None:
    put(told, state, KEPT_DAYS + 1)
    assert remove_old_answers(told, "other") == "no plan ended long enough ago."
    assert kept(told) == (2, 1), "of this pool only"
    assert remove_old_answers(told, "usage").startswith("2 answers of nodes and 1 reports of shadows removed")
    assert kept(told) == (0, 0)
    assert remove_old_answers(told, "usage") == "no plan ended long enough ago."


@pytest.mark.parametrize(
    ("state", "days", "published_days"),
    [
        ("done", KEPT_DAYS - 1, None),
        ("rolled_back", KEPT_DAYS - 1, KEPT_DAYS + 1),  # it shadowed for long
        ("running", KEPT_DAYS + 1, None),
        ("approved", KEPT_DAYS + 1, None),
    ],
)
def test_what_was_said_of_a_plan_that_goes_on_or_ended_of_late_stays(
    told: str, state: str, days: float, published_days: float | None
) -> None:
    put(told, state, days, published_days)
    assert remove_old_answers(told, "usage") == "no plan ended long enough ago."
    assert kept(told) == (2, 1)


def test_a_failed_plan_that_is_taken_up_again_asks_its_nodes_anew(told: str) -> None:
    put(told, "failed", KEPT_DAYS + 1)
    remove_old_answers(told, "usage")
    put(told, "running", 0)
    assert [t.role for t in open_transfers(told, "usage", "c")] == ["target"]
