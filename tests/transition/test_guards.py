"""What stops a wave from going on, guard by guard, in the order in which they are asked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from seen_moves import NOW, a_move, decided, move_view, node_view

from foreshard.model import MoveKind, NodeState
from foreshard.transition.decision import Act
from foreshard.transition.machine import REVOCABLE, MoveState, may_follow
from foreshard.transition.picture import Answer, CopyView

S = MoveState
_LONG = 3600.0


def test_a_paused_wave_waits_and_says_how_to_go_on() -> None:
    said = decided(a_move(S.PAUSED, paused_from=S.VERIFIED))
    assert said.sentence == "waits for `foreshard transition resume p`; shard 7 paused since 12:00:00 UTC"


@pytest.mark.parametrize("state", sorted(REVOCABLE))
def test_an_epoch_of_somebody_else_ends_the_plan(state: MoveState) -> None:
    said = decided(a_move(state), last_epoch=5, current_epoch=6)
    assert said.act is Act.ROLL_BACK
    assert said.reason == "epoch 6 was published by somebody else; plan again from it"


def test_what_is_retiring_goes_on_under_an_epoch_of_somebody_else() -> None:
    assert decided(a_move(S.RETIRING), last_epoch=5, current_epoch=6).act is Act.RETIRE


def test_a_copy_that_failed_is_repeated_so_often_and_then_rolled_back() -> None:
    assert decided(a_move(S.FAILED, attempts=2, detail="disk full")).act is Act.COPY
    said = decided(a_move(S.FAILED, attempts=3, detail="disk full"))
    assert (said.act, said.reason) == (Act.ROLL_BACK, "shard 7 to n2 failed 3 times: disk full")


@pytest.mark.parametrize(("role", "name"), [("source", "n1"), ("target", "n2")])
def test_a_node_that_refuses_ends_the_plan_before_the_cut_over(role: str, name: str) -> None:
    answers = {(0, "source"): Answer(True), (0, "target"): Answer(True), (0, role): Answer(False, "no room")}
    for state in (S.PLANNED, S.CATCHING_UP, S.SHADOWING):
        said = decided(a_move(state), answers=answers)
        assert (said.act, said.reason) == (Act.ROLL_BACK, f"{name} refuses shard 7: no room")
    assert decided(a_move(S.CUTTING_OVER), answers=answers).act is Act.WAIT  # for its step: nobody is asked any more


def test_nothing_is_copied_before_the_nodes_that_send_heartbeats_agree() -> None:
    said = decided(a_move(S.PLANNED), answers={})
    assert (said.act, said.sentence) == (Act.WAIT, "waits for n1, n2 to agree to the transfer")
    mute = {name: node_view(name, silent_seconds=None) for name in ("n1", "n2")}
    assert decided(a_move(S.PLANNED), answers={}, nodes=mute).act is Act.COPY


@pytest.mark.parametrize("state", sorted(REVOCABLE))
def test_a_silent_target_is_waited_for_and_a_lost_one_given_up(state: MoveState) -> None:
    nodes = {"n1": node_view("n1"), "n2": node_view("n2", silent_seconds=16)}
    said = decided(a_move(state), nodes=nodes)
    assert (said.act, said.sentence) == (Act.WAIT, "waits for a node: n2 has not answered for 16 s")
    for lost in (node_view("n2", silent_seconds=901), node_view("n2", NodeState.DEAD)):
        assert decided(a_move(state), nodes={**nodes, "n2": lost}).act is Act.ROLL_BACK
    assert decided(a_move(state), nodes={"n1": nodes["n1"]}).reason == "n2 is gone"


def test_a_silent_source_is_waited_for_only_while_queries_depend_on_it_and_a_dead_one_never() -> None:
    silent = {"n1": node_view("n1", silent_seconds=20), "n2": node_view("n2", applied={7: 10})}
    assert "n1 has not answered for 20 s" in decided(a_move(S.CATCHING_UP), nodes=silent).sentence
    assert decided(a_move(S.CUTTING_OVER, age_seconds=60), nodes=silent).act is Act.PUBLISH
    dead = {**silent, "n1": node_view("n1", NodeState.DEAD)}
    assert decided(a_move(S.CATCHING_UP), nodes=dead).act is Act.VERIFY


@pytest.mark.parametrize("state", [S.CUTTING_OVER, S.REVERSIBLE, S.RETIRING])
def test_a_step_is_held_until_every_gateway_follows_the_last(state: MoveState) -> None:
    said = decided(a_move(state, age_seconds=_LONG), lagging=("g1", "g2"), last_epoch=6)
    assert (said.act, said.sentence) == (Act.WAIT, "waits for gateways g1, g2 to follow epoch 6")
    assert decided(a_move(S.CATCHING_UP), lagging=("g1",)).act is Act.VERIFY


def test_an_old_copy_stays_while_what_took_its_place_does_not_answer() -> None:
    other = move_view(1, MoveKind.MOVE, 9, "n1", "n3", state=S.RETIRING)
    nodes = {name: node_view(name) for name in ("n1", "n3")}
    silent = decided(a_move(S.RETIRING), other, nodes={**nodes, "n2": node_view("n2", silent_seconds=20)})
    assert (silent.act, silent.sentence) == (Act.WAIT, "waits for a node: n2 has not answered for 20 s")
    lost = decided(a_move(S.RETIRING), other, nodes={**nodes, "n2": node_view("n2", NodeState.DEAD)})
    assert (lost.act, lost.positions, lost.state) == (Act.ADVANCE, (0,), S.DONE)
    assert lost.sentence == "keeps the old copy of shard 7 on n1: n2 is dead"
    rest = decided(a_move(S.DONE), other, nodes={**nodes, "n2": node_view("n2", NodeState.DEAD)})
    assert (rest.act, rest.positions) == (Act.RETIRE, (1,))


@pytest.mark.parametrize("state", [S.VERIFIED, S.SHADOWING])
@pytest.mark.parametrize(
    ("copy", "words"),
    [
        (CopyView(10), "is not verified"),
        (CopyView(10, 10, NOW - timedelta(hours=25)), "was verified more than 24 hours ago"),
        (CopyView(7, 7, NOW), "is 3 versions behind"),
    ],
)
def test_what_was_verified_too_long_ago_or_is_behind_is_verified_again(state: MoveState, copy: CopyView, words: str) -> None:
    said = decided(a_move(state), copies={(7, "n2"): copy})
    assert (said.act, said.positions, said.state) == (Act.ADVANCE, (0,), S.CATCHING_UP)
    assert said.sentence == f"shard 7 on n2 {words}; it catches up and is verified again"
    assert may_follow(state, S.CATCHING_UP)


def test_weights_are_not_shifted_on_while_the_new_copy_is_behind() -> None:
    copies = {(7, "n2"): CopyView(7, 7, NOW)}
    said = decided(a_move(S.CUTTING_OVER, age_seconds=_LONG), copies=copies)
    assert (said.act, said.sentence) == (Act.WAIT, "waits for shard 7 on n2, which is 3 versions behind")


def test_a_node_is_asked_once_it_says_that_it_serves_what_was_verified() -> None:
    for applied in ({}, {7: 9}):
        nodes = {"n1": node_view("n1"), "n2": node_view("n2", applied=applied)}
        said = decided(a_move(S.VERIFIED), nodes=nodes)
        assert (said.act, said.sentence) == (Act.WAIT, "waits for n2 to load shard 7")
    mute = {"n1": node_view("n1"), "n2": node_view("n2", silent_seconds=None)}
    assert decided(a_move(S.VERIFIED), nodes=mute).act is Act.PUBLISH
