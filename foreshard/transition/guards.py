"""What may stop a wave of moves from going on, in the order in which it is asked.

Each guard holds something that must not be given up (docs/transitions.md); the model check takes them away one by one and finds
what then goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from foreshard.model import MoveKind, NodeState
from foreshard.transition.decision import Decision, advance, is_revocable, roll_back, some, wait
from foreshard.transition.machine import ROUTED, MoveState
from foreshard.transition.picture import CopyView, MoveView, NodeView, Picture

S = MoveState
Guard = Callable[[Picture, Sequence[MoveView]], Decision | None]


def asked_back(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """Somebody asked for the plan to be rolled back, and it still can be."""
    return roll_back(picture, wave, picture.rollback_reason) if picture.rollback_reason and _may_go_back(wave) else None


def paused(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """Somebody paused it."""
    held = [m for m in wave if m.state is S.PAUSED]
    if not held:
        return None
    since = min(m.since for m in held)
    return wait(f"`foreshard transition resume {picture.plan_id}`; {some(held)} paused since {since:%H:%M:%S} UTC", wave)


def superseded(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """Another epoch was published meanwhile: it says where queries go, and this plan was not made from it."""
    if picture.current_epoch == picture.last_epoch or not _may_go_back(wave):
        return None
    return roll_back(picture, wave, f"epoch {picture.current_epoch} was published by somebody else; plan again from it")


def failed_too_often(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    worst = max((m for m in wave if m.state is S.FAILED), key=lambda m: m.attempts, default=None)
    if worst is None or worst.attempts < picture.settings.attempts or not _may_go_back(wave):
        return None
    return roll_back(picture, wave, f"shard {worst.shard_id} to {worst.target} failed {worst.attempts} times: {worst.detail}")


def refused(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """A node that was asked said no, before anything was routed there."""
    if not _is_before_cut_over(wave):
        return None
    for move in wave:
        for role, name in _parties(move):
            answer = picture.answers.get((move.position, role))
            if answer is not None and not answer.accepted:
                return roll_back(picture, wave, f"{name} refuses shard {move.shard_id}: {answer.detail}")
    return None


def silent(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """A node that stopped answering: its moves wait, and are rolled back when it is dead or the wait is over."""
    if not _may_go_back(wave):
        return None
    said = [_silence(picture, role, name) for move in wave for role, name in _needed(move)]
    lost = next((words for words, is_lost in said if words and is_lost), None)
    waits = next((words for words, _ in said if words), None)
    if lost:
        return roll_back(picture, wave, lost)
    return wait(f"a node: {waits}", wave) if waits else None


def unanswered(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """Nothing is copied before the nodes that send heartbeats have agreed."""
    if not _is_before_cut_over(wave):
        return None
    asked = {(m.position, role, name) for m in wave for role, name in _parties(m) if _attended(picture, name)}
    missing = sorted({name for position, role, name in asked if (position, role) not in picture.answers})
    return wait(f"{', '.join(missing)} to agree to the transfer", wave) if missing else None


def lagging(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """A step is held until every live gateway follows it, so that no query is under way by the one before it."""
    if not picture.lagging or not any(m.state in ROUTED or m.state is S.RETIRING for m in wave):
        return None
    many = "s" if len(picture.lagging) > 1 else ""
    return wait(f"gateway{many} {', '.join(picture.lagging)} to follow epoch {picture.current_epoch}", wave)


def bereft(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """An old copy stays while the node that took its place does not answer, and for good if that node is lost."""
    leaving = [m for m in wave if m.kind is MoveKind.MOVE and m.state is S.RETIRING]
    said = [(m, *_silence(picture, "target", m.target)) for m in leaving]
    for move, words, is_lost in said:
        if is_lost:
            sentence = f"keeps the old copy of shard {move.shard_id} on {move.source}: {words}"
            return advance(sentence, [m for m, why, _ in said if why == words], S.DONE)
    waits = next((words for _, words, _ in said if words), None)
    return wait(f"a node: {waits}", wave) if waits else None


def expired(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """What is to be routed to must have been verified, not long ago, and be within the catch-up bound."""
    stale = [(m, _stale(picture, m)) for m in wave if m.copies and m.state in (S.VERIFIED, S.SHADOWING)]
    found = [(m, why) for m, why in stale if why]
    if not found:
        return None
    move, why = found[0]
    return advance(
        f"shard {move.shard_id} on {move.target} {why}; it catches up and is verified again",
        [m for m, _ in found],
        S.CATCHING_UP,
    )


def behind(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """While weights are shifted, the new copies must keep up with the source."""
    for move in wave:
        if move.copies and move.state is S.CUTTING_OVER:
            late = _behind(picture, move)
            if late:
                return wait(f"shard {move.shard_id} on {move.target}, which is {late} versions behind", wave)
    return None


def unready(picture: Picture, wave: Sequence[MoveView]) -> Decision | None:
    """A node that sends heartbeats is routed to once it says that it serves the copy."""
    for move in wave:
        node = _attended(picture, move.target)
        if node is None or not move.copies or move.state not in (S.VERIFIED, S.SHADOWING):
            continue
        if node.applied.get(move.shard_id, -1) < (_copy(picture, move).verified_version or 0):
            return wait(f"{move.target} to load shard {move.shard_id}", wave)
    return None


GUARDS: tuple[Guard, ...] = (
    asked_back,
    paused,
    superseded,
    failed_too_often,
    refused,
    silent,
    unanswered,
    lagging,
    bereft,
    expired,
    behind,
    unready,
)


def _may_go_back(wave: Sequence[MoveView]) -> bool:
    return all(is_revocable(m) for m in wave)


def _is_before_cut_over(wave: Sequence[MoveView]) -> bool:
    return not any(m.state in ROUTED or m.state in (S.RETIRING, S.DONE) for m in wave)


def _parties(move: MoveView) -> list[tuple[str, str]]:
    """(role, node) of those that a move concerns."""
    return [(role, name) for role, name in (("source", move.source), ("target", move.target)) if name]


def _needed(move: MoveView) -> list[tuple[str, str]]:
    """The parties without which the move cannot go on: a source is none any more once queries go elsewhere."""
    return [(role, name) for role, name in _parties(move) if role == "target" or move.state not in ROUTED]


def _silence(picture: Picture, role: str, name: str) -> tuple[str, bool]:
    """What is wrong with a node, empty if nothing is, and whether it counts as lost."""
    node = picture.nodes.get(name)
    if node is None or node.state is NodeState.DEAD:
        # Of a dead source nothing can be asked: what it held is being replaced.
        return ("", False) if role == "source" else (f"{name} is {'dead' if node else 'gone'}", True)
    seconds = node.silent_seconds or 0.0
    if seconds <= picture.settings.silent_seconds:
        return "", False
    return f"{name} has not answered for {seconds:.0f} s", seconds > picture.settings.give_up_seconds


def _attended(picture: Picture, name: str) -> NodeView | None:
    """The node if it is one that sends heartbeats."""
    node = picture.nodes.get(name)
    return node if node is not None and node.state is not NodeState.DEAD and node.silent_seconds is not None else None


def _copy(picture: Picture, move: MoveView) -> CopyView:
    return picture.copies.get((move.shard_id, move.target), CopyView())


def _stale(picture: Picture, move: MoveView) -> str:
    copy = _copy(picture, move)
    if copy.verified_version is None or copy.verified_at is None:
        return "is not verified"
    if picture.now - copy.verified_at > timedelta(hours=picture.settings.verified_hours):
        return f"was verified more than {picture.settings.verified_hours:g} hours ago"
    late = _behind(picture, move)
    return f"is {late} versions behind" if late else ""


def _behind(picture: Picture, move: MoveView) -> int:
    """By how many versions a copy is further behind than allowed, counted from the source; 0 if it is not."""
    applied = _copy(picture, move).applied_version
    late = picture.source_version - (-1 if applied is None else applied)
    return late if late > picture.settings.catch_up_versions else 0
