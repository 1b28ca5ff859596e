"""The picture of a transition: which nodes count as silent, from when on, and what the controller makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foreshard.model import Move, MoveKind, Plan, PlanMetrics
from foreshard.routing import database as control_plane
from foreshard.routing import store as epochs
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.transition import lease as leases
from foreshard.transition import progress, store
from foreshard.transition.decide import decide
from foreshard.transition.decision import Act
from foreshard.transition.negotiation import answer, open_transfers
from foreshard.transition.observe import observe
from foreshard.transition.progress import PlanKey

MOVES = (Move(MoveKind.MOVE, 0, "b", "c", None, 70, "b is full", wave=0),)


@pytest.fixture
def begun(tmp_path: Path, published: str, snapshot: Snapshot, pool_settings: Settings) -> Settings:
    """A pool of which no node was ever heard, with a plan that has begun: shard 0 from b to c."""
    plan = Plan("p", "usage", 1, "digest", MOVES, snapshot.layout, PlanMetrics(1, 1, 1, 0, 0, 1, "test"))
    store.save_plan(published, plan, {})
    store.record_approval(published, "usage", "p", "approved", "test")
    with leases.held(published, "usage/transition", "test", 60) as held:
        progress.start(published, held, PlanKey("usage", "p", "test"))
    return replace(pool_settings, home=tmp_path, lake=str(tmp_path / "lake"), postgres_url=published)


def beat(settings: Settings, *node_ids: str) -> None:
    for node_id in node_ids:
        epochs.write_heartbeat(settings.postgres_url, "usage", node_id, 1.0, {})


def ago(settings: Settings, begun: float, first_heard: float) -> None:
    """The plan began, and each node that was heard was heard first, so many seconds ago."""
    with control_plane.transaction(settings.postgres_url) as cursor:
        cursor.execute("UPDATE transition_event SET at = clock_timestamp() - make_interval(secs => %s)", [begun])
        cursor.execute("UPDATE heartbeat SET first_at = clock_timestamp() - make_interval(secs => %s)", [first_heard])


def silence(settings: Settings, node_id: str) -> float | None:
    return observe(settings, settings.postgres_url, "p").nodes[node_id].silent_seconds


def decided(settings: Settings) -> tuple[Act, str]:
    said = decide(observe(settings, settings.postgres_url, "p"))
    return said.act, said.reason or said.sentence


def test_where_no_node_was_ever_heard_none_is_waited_for(begun: Settings) -> None:
    ago(begun, begun=5000, first_heard=0)
    assert [silence(begun, name) for name in "abc"] == [None, None, None]
    assert decided(begun)[0] is Act.COPY


@pytest.mark.parametrize(("began", "first_heard", "since"), [(5000, 700, 700), (700, 5000, 700), (5000, 0, 0)])
def test_a_node_that_was_never_heard_is_silent_since_the_plan_began_or_the_first_node_was_heard(
    begun: Settings, began: float, first_heard: float, since: float
) -> None:
    beat(begun, "a")
    ago(begun, began, first_heard)
    for name in "bc":
        seconds = silence(begun, name)
        assert seconds is not None
        assert since <= seconds < since + 600
    heard = silence(begun, "a")
    assert heard is not None
    assert heard < 600


def test_a_move_to_a_node_that_was_never_heard_asks_waits_and_is_given_up(begun: Settings) -> None:
    beat(begun, "a", "b")
    (transfer,) = open_transfers(begun.postgres_url, "usage", "b")
    answer(begun.postgres_url, "usage", transfer, True)
    assert decided(begun) == (Act.WAIT, "waits for c to agree to the transfer")
    ago(begun, begun=100, first_heard=5000)
    act, words = decided(begun)
    assert (act, words[:38]) == (Act.WAIT, "waits for a node: c has not answered f")
    ago(begun, begun=begun.transition.give_up_seconds + 1, first_heard=5000)
    act, words = decided(begun)
    assert (act, words[:22]) == (Act.ROLL_BACK, "c has not answered for")


def test_heartbeats_that_follow_do_not_change_since_when_a_node_is_heard(begun: Settings) -> None:
    beat(begun, "a")
    ago(begun, begun=5000, first_heard=700)
    beat(begun, "a")
    seconds = silence(begun, "c")
    assert seconds is not None
    assert seconds >= 700
