"""The states of a move, which may follow which, and what each may still lead to.

    planned → copying → catching_up → verified → shadowing → cutting_over → reversible → retiring → done

A move that copies nothing (a drop) goes from planned to cutting_over. Up to and through `reversible` a move can be paused, can
fail, and can be rolled back; after that it only goes forward, because the old copy is going.
"""

from __future__ import annotations

from enum import StrEnum


class MoveState(StrEnum):
    PLANNED = "planned"
    COPYING = "copying"
    CATCHING_UP = "catching_up"
    VERIFIED = "verified"
    SHADOWING = "shadowing"
    CUTTING_OVER = "cutting_over"
    REVERSIBLE = "reversible"
    RETIRING = "retiring"
    DONE = "done"
    PAUSED = "paused"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


S = MoveState
# In the order in which a move goes through them.
PATH = (*(S.PLANNED, S.COPYING, S.CATCHING_UP, S.VERIFIED, S.SHADOWING, S.CUTTING_OVER, S.REVERSIBLE, S.RETIRING, S.DONE),)
ENDED = frozenset({S.DONE, S.ROLLED_BACK})
# Whoever is in one of these may still go back to the old layout.
REVOCABLE = frozenset(PATH[: PATH.index(S.RETIRING)])
# Published layouts may already name what these moves bring.
ROUTED = frozenset({S.CUTTING_OVER, S.REVERSIBLE})

_ASIDE = {S.PAUSED, S.FAILED, S.ROLLED_BACK}
FOLLOWS: dict[MoveState, frozenset[MoveState]] = {
    S.PLANNED: frozenset({S.COPYING, S.CUTTING_OVER} | _ASIDE),
    S.COPYING: frozenset({S.CATCHING_UP} | _ASIDE),
    # Back to copying: the change feed no longer reaches to the copy's version.
    S.CATCHING_UP: frozenset({S.VERIFIED, S.COPYING} | _ASIDE),
    # Back to catching up: the verification is too old, or the source has moved on.
    S.VERIFIED: frozenset({S.SHADOWING, S.CUTTING_OVER, S.CATCHING_UP} | _ASIDE),
    S.SHADOWING: frozenset({S.CUTTING_OVER, S.CATCHING_UP} | _ASIDE),
    S.CUTTING_OVER: frozenset({S.REVERSIBLE} | _ASIDE),
    S.REVERSIBLE: frozenset({S.RETIRING} | _ASIDE),
    S.RETIRING: frozenset({S.DONE}),
    S.DONE: frozenset(),
    S.PAUSED: frozenset(set(PATH[: PATH.index(S.RETIRING)]) | {S.ROLLED_BACK}),  # only to the state it was paused in
    S.FAILED: frozenset({S.COPYING, S.CATCHING_UP, S.ROLLED_BACK}),
    S.ROLLED_BACK: frozenset(),
}


def may_follow(now: MoveState, after: MoveState, paused_from: MoveState | None = None) -> bool:
    """Whether a move may go from one state to the other; a paused one goes back to where it was paused, or is rolled back."""
    if now is S.PAUSED and after is not S.ROLLED_BACK:
        return after is paused_from
    return after in FOLLOWS[now]
