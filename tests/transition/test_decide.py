"""What the controller does next: every stage of a wave, the way back, and the sentence that says so."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from seen_moves import a_drop, a_move, decided, move_view, picture_of

from foreshard.model import MoveKind
from foreshard.transition.decide import decide
from foreshard.transition.decision import SHADOW_STEP, Act
from foreshard.transition.machine import FOLLOWS, PATH, REVOCABLE, MoveState, may_follow
from foreshard.transition.picture import CopyView, ShadowFigures
from foreshard.transition_settings import TransitionSettings

S = MoveState
_LONG = 3600.0


# The stages.


def test_a_wave_begins_with_the_copies_and_drops_wait_for_them() -> None:
    said = decided(a_move(S.PLANNED), a_drop(S.PLANNED))
    assert (said.act, said.positions, said.state) == (Act.COPY, (0,), S.CATCHING_UP)
    assert said.sentence == "copies shard 7 to n2, 1,000 bytes"


@pytest.mark.parametrize("state", [S.PLANNED, S.COPYING, S.FAILED])
def test_a_copy_that_did_not_come_to_its_end_is_taken_up_again(state: MoveState) -> None:
    assert decided(a_move(state, attempts=1)).act is Act.COPY


def test_the_wave_waits_for_its_hindmost_copy() -> None:
    ahead = move_view(1, MoveKind.REPLICATE, 9, "", "n3", state=S.VERIFIED)
    said = decided(a_move(S.CATCHING_UP), ahead)
    assert (said.act, said.positions) == (Act.VERIFY, (0,))


def test_a_copy_behind_the_bound_catches_up_and_one_within_it_is_verified() -> None:
    move = a_move(S.CATCHING_UP)
    behind = decided(move, copies={(7, "n2"): CopyView(7)})
    assert (behind.act, behind.sentence) == (Act.CATCH_UP, "brings shard 7 up to version 10 of the source")
    unknown = decided(move, copies={})
    assert unknown.act is Act.CATCH_UP
    within = decided(move, copies={(7, "n2"): CopyView(8)})
    assert (within.act, within.state, within.sentence) == (Act.VERIFY, S.VERIFIED, "verifies shard 7 against the source")


def test_what_is_verified_is_shadowed_before_any_query_depends_on_it() -> None:
    said = decided(a_move(S.VERIFIED), a_drop(S.PLANNED))
    assert (said.act, said.positions, said.state, said.step) == (Act.PUBLISH, (0,), S.SHADOWING, SHADOW_STEP)
    assert said.sentence == "sends 10% of the queries of shard 7 to the new replicas as well"


@pytest.mark.parametrize("other", [{"settings": TransitionSettings(shadow_share=0)}, {"gateways": 0}])
def test_without_a_share_or_without_gateways_there_is_no_shadowing(other: dict[str, Any]) -> None:
    said = decided(a_move(S.VERIFIED), **other)
    assert (said.act, said.state) == (Act.PUBLISH, S.CUTTING_OVER)


def test_without_gateways_the_cut_over_is_one_step() -> None:
    said = decided(a_move(S.VERIFIED), gateways=0)
    assert (said.step, said.sentence) == (2, "publishes 100% of the new weights of shard 7")


def test_shadowing_lasts_until_enough_answers_were_compared_or_the_time_is_over() -> None:
    few, enough = {(7, "n2"): ShadowFigures(compared=99)}, {(7, "n2"): ShadowFigures(compared=100)}
    waiting = decided(a_move(S.SHADOWING, age_seconds=100), shadows=few)
    assert (waiting.act, waiting.sentence) == (
        Act.WAIT,
        "waits for compared answers of shard 7 on n2 (99 of 100), 200 s at most",
    )
    for said in (
        decided(a_move(S.SHADOWING, age_seconds=100), shadows=enough),
        decided(a_move(S.SHADOWING, age_seconds=300), shadows=few),
    ):
        assert (said.act, said.state, said.step) == (Act.PUBLISH, S.CUTTING_OVER, 0)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (ShadowFigures(compared=50, mismatched=1, example="e1 in May"), "answered 1 of 50 queries otherwise than the old"),
        (ShadowFigures(compared=100, failed=2), "failed to answer 2 of 102 queries"),
        (ShadowFigures(compared=100, old_p95_ms=20, new_p95_ms=61), "took 61 ms at p95, the old replicas 20 ms"),
    ],
)
def test_a_shadow_outside_its_limits_is_rolled_back_and_says_why(seen: ShadowFigures, words: str) -> None:
    said = decided(a_move(S.SHADOWING), shadows={(7, "n2"): seen})
    assert said.act is Act.ROLL_BACK
    assert said.sentence.startswith("rolls shard 7 back: shard 7 on n2 ")
    assert words in said.reason
    assert seen.example in said.reason


@pytest.mark.parametrize(
    "seen",
    [
        ShadowFigures(compared=100, failed=1),
        ShadowFigures(compared=100, old_p95_ms=1, new_p95_ms=50),
        ShadowFigures(compared=19, old_p95_ms=1, new_p95_ms=900),
    ],
)
def test_one_failure_a_fast_answer_and_few_answers_are_no_fault(seen: ShadowFigures) -> None:
    assert decided(a_move(S.SHADOWING, age_seconds=_LONG), shadows={(7, "n2"): seen}).state is S.CUTTING_OVER


def test_each_step_of_the_cut_over_is_held_for_its_time() -> None:
    young = decided(a_move(S.CUTTING_OVER, step=0, age_seconds=4))
    assert (young.act, young.sentence) == (Act.WAIT, "waits for 6 s more at 10%")
    old = decided(a_move(S.CUTTING_OVER, step=0, age_seconds=10), a_drop(S.CUTTING_OVER, age_seconds=10))
    assert (old.act, old.positions, old.step) == (Act.PUBLISH, (0, 1), 1)
    assert old.sentence == "publishes 50% of the new weights of shards 7, 8"


def test_after_the_last_step_the_wave_can_be_taken_back_for_a_while() -> None:
    said = decided(a_move(S.CUTTING_OVER, step=2))
    assert (said.act, said.state) == (Act.ADVANCE, S.REVERSIBLE)
    held = decided(a_move(S.REVERSIBLE, age_seconds=60))
    assert held.sentence == "waits for 240 s more, in which shard 7 can be taken back without copying"
    over = decided(a_move(S.REVERSIBLE, age_seconds=300))
    assert (over.act, over.state) == (Act.ADVANCE, S.RETIRING)


def test_the_first_layout_is_not_held_for_a_way_back_that_is_not_there() -> None:
    said = decided(a_move(S.REVERSIBLE), base_epoch=0, last_epoch=1)
    assert said.state is S.RETIRING


def test_retiring_drops_what_left_and_says_how_much() -> None:
    said = decided(a_move(S.RETIRING), a_drop(S.RETIRING))
    assert (said.act, said.positions, said.state) == (Act.RETIRE, (0, 1), S.DONE)
    assert said.sentence == "drops 2 copies that no gateway asks for any more"
    brought = decided(move_view(0, MoveKind.REPLICATE, 7, "", "n2", state=S.RETIRING))
    assert brought.sentence == "shard 7 done"


def test_drops_alone_are_cut_over_without_copies() -> None:
    said = decided(a_drop(S.PLANNED, position=0))
    assert (said.act, said.state, said.step) == (Act.PUBLISH, S.CUTTING_OVER, 0)


def test_a_wave_begins_when_the_one_before_has_ended() -> None:
    first, second = a_move(S.REVERSIBLE, age_seconds=1), a_move(S.PLANNED, 1, wave=1)
    assert decided(first, second).act is Act.WAIT
    assert decided(replace(first, state=S.DONE), second).positions == (1,)


def test_a_plan_ends_as_its_moves_did() -> None:
    done = decided(a_move(S.DONE), last_epoch=7)
    assert (done.act, done.plan_state, done.sentence) == (Act.FINISH, "done", "plan p is done, 1 moves")
    back = decided(a_move(S.DONE), a_move(S.ROLLED_BACK, 1, wave=1), last_epoch=7, rollback_reason="too slow")
    assert (back.act, back.plan_state, back.sentence) == (Act.FINISH, "rolled_back", "plan p is rolled back: too slow")


def test_a_plan_without_moves_publishes_its_weights_once_over_the_epoch_it_was_made_from() -> None:
    assert decided().act is Act.PUBLISH
    assert decided(last_epoch=5).plan_state == "done"
    late = decided(current_epoch=6)
    assert (late.act, late.plan_state) == (Act.FINISH, "failed")
    assert "epoch 6 was published since" in late.sentence


@pytest.mark.parametrize("state", ["proposed", "rejected", "done", "failed", "rolled_back"])
def test_only_an_approved_plan_is_carried_out(state: str) -> None:
    said = decided(a_move(S.PLANNED), plan_state=state)
    assert said.act not in (Act.COPY, Act.PUBLISH, Act.WAIT)
    assert said.sentence == f"plan p is {state}; only an approved plan is carried out"


# Rolling back, from every state.


@pytest.mark.parametrize("state", [*sorted(REVOCABLE), S.FAILED])
def test_a_rollback_is_heeded_up_to_and_through_reversible(state: MoveState) -> None:
    later = a_move(S.PLANNED, 1, wave=1)
    said = decided(a_move(state), later, rollback_reason="asked for by ann")
    assert (said.act, said.positions, said.state) == (Act.ROLL_BACK, (0, 1), S.ROLLED_BACK)
    assert said.sentence == "rolls shard 7 back: asked for by ann"
    assert may_follow(state, S.ROLLED_BACK)


@pytest.mark.parametrize("state", sorted(REVOCABLE))
def test_a_paused_plan_is_rolled_back_too(state: MoveState) -> None:
    assert decided(a_move(S.PAUSED, paused_from=state), rollback_reason="no").act is Act.ROLL_BACK


def test_after_reversible_a_wave_goes_forward_only_and_the_waves_after_it_are_taken_back() -> None:
    later = a_move(S.PLANNED, 1, wave=1)
    assert decided(a_move(S.RETIRING), later, rollback_reason="no").act is Act.RETIRE
    said = decided(a_move(S.DONE), later, rollback_reason="no")
    assert (said.act, said.positions) == (Act.ROLL_BACK, (1,))


def test_a_move_that_is_retiring_or_has_ended_may_not_be_taken_aside() -> None:
    for state in (S.RETIRING, S.DONE, S.ROLLED_BACK):
        assert not FOLLOWS[state] & {S.PAUSED, S.FAILED, S.ROLLED_BACK}


def test_a_paused_move_goes_back_only_to_where_it_was_paused() -> None:
    for origin in sorted(REVOCABLE):
        allowed = {state for state in S if may_follow(S.PAUSED, state, origin)}
        assert allowed == {origin, S.ROLLED_BACK}
    assert {state for state in S if may_follow(S.PAUSED, state)} == {S.ROLLED_BACK}


def test_the_way_through_is_legal_step_by_step_and_never_leads_back_from_retiring() -> None:
    for now, after in itertools.pairwise(PATH):
        assert may_follow(now, after)
    assert not any(may_follow(S.RETIRING, state) for state in S if state is not S.DONE)


# All together.


@pytest.mark.parametrize("state", [state for state in PATH if state is not S.DONE])
def test_whatever_is_decided_of_a_move_is_legal_and_is_said_in_one_sentence(state: MoveState) -> None:
    for age in (0.0, _LONG):
        for moves in ([a_move(state, age_seconds=age)], [a_move(state, age_seconds=age), a_move(state, 1, age_seconds=age)]):
            said = decided(*moves)
            assert said.sentence
            assert "\n" not in said.sentence
            if said.act is Act.WAIT or said.state is state:
                continue
            assert said.state is not None
            via = [S.COPYING] if said.act is Act.COPY else []
            way = [state, *(s for s in via if s is not state), said.state]
            assert all(may_follow(now, after) for now, after in itertools.pairwise(way))


def test_the_same_picture_gives_the_same_decision() -> None:
    picture = picture_of([a_move(S.SHADOWING), a_drop(S.PLANNED)])
    assert decide(picture) == decide(picture)
