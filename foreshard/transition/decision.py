"""What a cycle of the controller may do, and the words in which it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from foreshard.placement.explanation.wording import numbers
from foreshard.transition.machine import ENDED, REVOCABLE, MoveState
from foreshard.transition.picture import MoveView, Picture


class Act(StrEnum):
    """What a cycle does. The first three need Spark."""

    COPY = "copy"
    CATCH_UP = "catch up"
    VERIFY = "verify"
    ADVANCE = "advance"  # moves → `state`, nothing else
    PUBLISH = "publish"  # the layout of `step` of the wave, and moves → `state`
    RETIRE = "retire"  # drop what is no longer routed to, and moves → done
    ROLL_BACK = "roll back"  # publish the layout before the wave, if it was left, and moves → rolled back
    FINISH = "finish"  # the plan → `plan_state`
    WAIT = "wait"
    STOP = "stop"  # the plan is not to be carried out, or has ended


NEEDS_SPARK = frozenset({Act.COPY, Act.CATCH_UP, Act.VERIFY})
SHADOW_STEP = -1
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Decision:
    """`positions`: the moves that it is about, `state` what they come to. `step`: of the cut-over, SHADOW_STEP before it."""

    act: Act
    sentence: str
    positions: tuple[int, ...] = ()
    wave: int = 0
    state: MoveState | None = None
    step: int = 0
    reason: str = ""  # of a rollback
    plan_state: str = ""


def wait(what: str, wave: Sequence[MoveView]) -> Decision:
    return Decision(Act.WAIT, f"waits for {what}", wave=wave[0].wave)


def advance(sentence: str, moves: Sequence[MoveView], state: MoveState) -> Decision:
    return Decision(Act.ADVANCE, sentence, positions(moves), moves[0].wave, state)


def roll_back(picture: Picture, wave: Sequence[MoveView], why: str) -> Decision:
    """All of the wave, and of those after it, which have not begun."""
    later = [m for m in picture.moves if m.wave > wave[0].wave and m.state not in ENDED]
    sentence = f"rolls {some(wave)} back: {why}"
    return Decision(Act.ROLL_BACK, sentence, positions([*wave, *later]), wave[0].wave, MoveState.ROLLED_BACK, reason=why)


def positions(moves: Sequence[MoveView]) -> tuple[int, ...]:
    return tuple(m.position for m in moves)


def some(moves: Sequence[MoveView]) -> str:
    """The moves' shards, as a sentence names them."""
    shards = sorted({m.shard_id for m in moves})
    return f"shard{'s' if len(shards) > 1 else ''} {numbers(shards, _NAMED)}"


def is_revocable(move: MoveView) -> bool:
    """Whether the move may still be taken back; a paused one may if it could where it was paused."""
    state = move.paused_from if move.state is MoveState.PAUSED and move.paused_from else move.state
    return state in REVOCABLE or state is MoveState.FAILED
