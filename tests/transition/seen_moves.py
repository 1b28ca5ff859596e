"""Moves and pictures as a controller sees them, with what a test does not say left at what makes the plan go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from foreshard.model import MoveKind, NodeState
from foreshard.transition.decide import decide
from foreshard.transition.decision import Decision
from foreshard.transition.machine import MoveState
from foreshard.transition.picture import Answer, CopyView, MoveView, NodeView, Picture
from foreshard.transition_settings import TransitionSettings

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def move_view(
    position: int,
    kind: MoveKind,
    shard_id: int,
    source: str,
    target: str,
    *,
    state: MoveState,
    wave: int = 0,
    age_seconds: float = 0.0,
    covers_from: date | None = None,
    **more: Any,
) -> MoveView:
    """A move of 1,000 bytes that has been in its state for `age_seconds`."""
    since = NOW - timedelta(seconds=age_seconds)
    return MoveView(position, kind, shard_id, source, target, covers_from, 1000, wave, state, since, **more)


def picture_of(moves: Sequence[MoveView], **other: Any) -> Picture:
    """A running plan over epoch 4 with one gateway, which follows, and nodes n1 to n3, which answer, agree and serve it all.

    Copies are at version 10, as the source is, and were verified there an hour ago.
    """
    parts: dict[str, Any] = {
        "plan_id": "p",
        "plan_state": "running",
        "base_epoch": 4,
        "last_epoch": 4,
        "current_epoch": other.get("last_epoch", 4),
        "now": NOW,
        "moves": tuple(moves),
        "nodes": {name: node_view(name, applied={m.shard_id: 10 for m in moves}) for name in ("n1", "n2", "n3")},
        "copies": {(m.shard_id, m.target): CopyView(10, 10, NOW - timedelta(hours=1)) for m in moves if m.target},
        "source_version": 10,
        "gateways": 1,
        "lagging": (),
        "answers": {(m.position, role): Answer(True) for m in moves for role in ("source", "target")},
        "shadows": {},
        "settings": TransitionSettings(),
    }
    return Picture(**{**parts, **other})


def node_view(
    name: str, state: NodeState = NodeState.ACTIVE, silent_seconds: float | None = 1.0, applied: Mapping[int, int] | None = None
) -> NodeView:
    return NodeView(name, state, silent_seconds, applied or {})


def a_move(state: MoveState, position: int = 0, **more: Any) -> MoveView:
    """Shard 7 goes from n1 to n2."""
    return move_view(position, MoveKind.MOVE, 7, "n1", "n2", state=state, **more)


def a_drop(state: MoveState, position: int = 1, **more: Any) -> MoveView:
    """Shard 8 leaves n1."""
    return move_view(position, MoveKind.DROP, 8, "n1", "", state=state, **more)


def decided(*moves: MoveView, **other: Any) -> Decision:
    return decide(picture_of(moves, **other))
