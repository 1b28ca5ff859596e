"""What nodes find to answer, and what the controller reads of it, against a real Postgres."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from foreshard.errors import Refused
from foreshard.model import Goal, Move, MoveKind, Plan, PlanMetrics
from foreshard.routing import database as control_plane
from foreshard.routing.snapshot import Snapshot
from foreshard.transition import store
from foreshard.transition.machine import MoveState
from foreshard.transition.negotiation import Transfer, answer, answers, open_transfers
from foreshard.transition.picture import Answer

HOT = date(2013, 11, 20)
MOVES = (
    Move(MoveKind.MOVE, 0, "b", "c", None, 70, "b is full", Goal.BALANCE, 1.0, 0, datetime(2013, 11, 27, tzinfo=UTC)),
    Move(MoveKind.REPLICATE, 1, "", "a", HOT, 10, "hot"),
    Move(MoveKind.WIDEN, 3, "", "c", None, 20, "older data"),
    Move(MoveKind.DROP, 2, "a", "", None, 0, "cold"),
)
ANSWERED_IN = ("planned", "copying", "catching_up", "verified", "shadowing", "failed")


@pytest.fixture
def running(published: str, snapshot: Snapshot) -> str:
    """The database with one running plan."""
    metrics = PlanMetrics(0.9, 0.7, 0.6, 100, 90, len(MOVES), "optimum")
    store.save_plan(published, Plan("p1", "usage", 1, "digest", MOVES, snapshot.layout, metrics, summary="four moves"), {})
    with control_plane.transaction(published) as cursor:
        cursor.execute("UPDATE plan SET state = 'running'")
    return published


def put_in_state(url: str, state: str) -> None:
    with control_plane.transaction(url) as cursor:
        cursor.execute("UPDATE plan_move SET state = %s", [state])


def test_each_end_of_a_move_is_asked_and_a_move_of_one_end_only_once(running: str) -> None:
    assert open_transfers(running, "usage", "a") == [
        Transfer("p1", 1, "target", "a", 1, HOT, 10, ""),
        Transfer("p1", 3, "source", "a", 2, None, 0, ""),
    ]
    assert open_transfers(running, "usage", "b") == [Transfer("p1", 0, "source", "b", 0, None, 70, "c")]
    assert open_transfers(running, "usage", "c") == [
        Transfer("p1", 0, "target", "c", 0, None, 70, "b"),
        Transfer("p1", 2, "target", "c", 3, None, 20, ""),
    ]
    assert open_transfers(running, "usage", "") == []
    assert open_transfers(running, "other", "a") == []


def test_what_was_answered_is_no_longer_open_and_is_read_by_the_controller(running: str) -> None:
    to_take, to_give = open_transfers(running, "usage", "a")
    answer(running, "usage", to_take, False, "disk is full")
    answer(running, "usage", to_take, False, "disk is full")
    assert open_transfers(running, "usage", "a") == [to_give]
    answer(running, "usage", to_give, True)
    assert open_transfers(running, "usage", "a") == []
    assert answers(running, "usage", "p1") == {
        (1, "target"): Answer(False, "disk is full"),
        (3, "source"): Answer(True, ""),
    }
    answer(running, "usage", to_take, True)
    assert answers(running, "usage", "p1")[1, "target"] == Answer(True, "")
    assert answers(running, "usage", "other") == {}


@pytest.mark.parametrize("change", [{"node_id": "c"}, {"role": "source"}, {"position": 0}, {"position": 9}, {"plan_id": "p9"}])
def test_a_node_that_is_not_at_that_end_of_the_move_is_refused(running: str, change: dict[str, object]) -> None:
    transfer = replace(open_transfers(running, "usage", "a")[0], **change)
    with pytest.raises(Refused, match="only the two ends"):
        answer(running, "usage", transfer, True)
    assert answers(running, "usage", "p1") == {}


def test_an_end_that_has_no_node_cannot_be_answered_for(running: str) -> None:
    nobody = replace(open_transfers(running, "usage", "a")[0], node_id="", role="source")
    with pytest.raises(Refused):
        answer(running, "usage", nobody, True)


@pytest.mark.parametrize("state", list(MoveState))
def test_answers_are_asked_for_up_to_the_cut_over(running: str, state: MoveState) -> None:
    put_in_state(running, state)
    assert bool(open_transfers(running, "usage", "c")) == (state in ANSWERED_IN)


def test_only_a_running_plan_is_answered(running: str) -> None:
    with control_plane.transaction(running) as cursor:
        cursor.execute("UPDATE plan SET state = 'failed'")
    assert open_transfers(running, "usage", "a") == []
