"""What the controller does next, as a pure function of what it sees: one action, and one sentence that says why.

A wave of moves acts as one. Its way is cut into stages: a stage asks the guards whether it may go on, then does what is next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foreshard.transition.decision import SHADOW_STEP, Act, Decision, advance, positions, roll_back, some, wait
from foreshard.transition.guards import GUARDS
from foreshard.transition.machine import ENDED, PATH, MoveState
from foreshard.transition.picture import CopyView, MoveView, Picture
from foreshard.transition.shadow_limits import shadow_verdict

S = MoveState


def decide(picture: Picture) -> Decision:
    """The next action for the plan; time O(moves)."""
    if picture.plan_state not in ("approved", "running"):
        return Decision(Act.STOP, f"plan {picture.plan_id} is {picture.plan_state}; only an approved plan is carried out")
    wave = current_wave(picture)
    if not wave:
        return _end(picture)
    for guard in GUARDS:
        stopped = guard(picture, wave)
        if stopped is not None:
            return stopped
    return _STAGES[_stage(wave)](picture, wave)


def current_wave(picture: Picture) -> list[MoveView]:
    """The moves of the first wave that has not ended; empty once all have."""
    still = [m for m in picture.moves if m.state not in ENDED]
    if not still:
        return []
    number = min(m.wave for m in still)
    return [m for m in picture.moves if m.wave == number and m.state is not S.ROLLED_BACK]


def _end(picture: Picture) -> Decision:
    back = [m for m in picture.moves if m.state is S.ROLLED_BACK]
    if back:
        why = picture.rollback_reason or back[0].detail or "it could not be carried out"
        return Decision(Act.FINISH, f"plan {picture.plan_id} is rolled back: {why}", plan_state="rolled_back")
    if picture.last_epoch == picture.base_epoch:
        if picture.current_epoch != picture.base_epoch:
            why = f"epoch {picture.current_epoch} was published since plan {picture.plan_id} was made; plan again"
            return Decision(Act.FINISH, why, plan_state="failed")
        return Decision(Act.PUBLISH, f"publishes the weights of plan {picture.plan_id}, which moves nothing")
    return Decision(Act.FINISH, f"plan {picture.plan_id} is done, {len(picture.moves)} moves", plan_state="done")


def _stage(wave: Sequence[MoveView]) -> MoveState:
    """The stage of a wave is that of its hindmost copy; drops wait for the copies."""
    if any(m.state is S.RETIRING for m in wave):
        return S.RETIRING
    open_moves = [m for m in wave if m.state is not S.DONE]
    copies = [m for m in open_moves if m.copies] or open_moves
    return min((S.COPYING if m.state is S.FAILED else m.state for m in copies), key=PATH.index)


def _begin(picture: Picture, wave: Sequence[MoveView]) -> Decision:
    to_copy = [m for m in wave if m.copies and m.state in (S.PLANNED, S.COPYING, S.FAILED)]
    if not to_copy:  # drops only
        return _cut_over(picture, wave, 0)
    nodes = ", ".join(sorted({m.target for m in to_copy}))
    sentence = f"copies {some(to_copy)} to {nodes}, {sum(m.bytes for m in to_copy):,} bytes"
    return Decision(Act.COPY, sentence, positions(to_copy), wave[0].wave, S.CATCHING_UP)


def _catch_up(picture: Picture, wave: Sequence[MoveView]) -> Decision:
    chosen = [m for m in wave if m.state is S.CATCHING_UP]
    applied = [picture.copies.get((m.shard_id, m.target), CopyView()).applied_version for m in chosen]
    bound = picture.source_version - picture.settings.catch_up_versions
    if all(version is not None and version >= bound for version in applied):
        sentence = f"verifies {some(chosen)} against the source"
        return Decision(Act.VERIFY, sentence, positions(chosen), wave[0].wave, S.VERIFIED)
    sentence = f"brings {some(chosen)} up to version {picture.source_version} of the source"
    return Decision(Act.CATCH_UP, sentence, positions(chosen), wave[0].wave, S.CATCHING_UP)


def _shadow(picture: Picture, wave: Sequence[MoveView]) -> Decision:
    copies = [m for m in wave if m.copies and m.state is S.VERIFIED]
    if not picture.settings.shadow_share or not picture.gateways or not picture.current_epoch:
        return _cut_over(picture, wave, 0)
    sentence = f"sends {picture.settings.shadow_share:.0%} of the queries of {some(copies)} to the new replicas as well"
    return Decision(Act.PUBLISH, sentence, positions(copies), wave[0].wave, S.SHADOWING, SHADOW_STEP)


def _judge(picture: Picture, wave: Sequence[MoveView]) -> Decision:
    verdict = shadow_verdict(picture, [m for m in wave if m.state is S.SHADOWING])
    if verdict.fault:
        return roll_back(picture, wave, verdict.fault)
    return wait(verdict.waits, wave) if verdict.waits else _cut_over(picture, wave, 0)


def _step(picture: Picture, wave: Sequence[MoveView]) -> Decision:
    moving = [m for m in wave if m.state is S.CUTTING_OVER]
    steps, at = picture.settings.cut_over, max(m.step for m in moving)
    if at + 1 < len(steps):
        left = _left(picture, moving, picture.settings.step_seconds)
        return wait(f"{left:.0f} s more at {steps[at]:.0%}", wave) if left > 0 else _cut_over(picture, wave, at + 1)
    return advance(f"{some(moving)} can be taken back without copying for a while", moving, S.REVERSIBLE)


def _hold(picture: Picture, wave: Sequence[MoveView]) -> Decision:
    moving = [m for m in wave if m.state is S.REVERSIBLE]
    # Nothing was there before the first layout that could be gone back to.
    left = _left(picture, moving, picture.settings.reverse_seconds if picture.base_epoch else 0.0)
    if left > 0:
        return wait(f"{left:.0f} s more, in which {some(moving)} can be taken back without copying", wave)
    return advance(f"the time in which {some(moving)} could be taken back is over", moving, S.RETIRING)


def _retire(picture: Picture, wave: Sequence[MoveView]) -> Decision:
    leaving = [m for m in wave if m.state is S.RETIRING]
    dropped = sum(m.retires for m in leaving)
    sentence = f"drops {dropped} copies that no gateway asks for any more" if dropped else f"{some(leaving)} done"
    return Decision(Act.RETIRE, sentence, positions(leaving), wave[0].wave, S.DONE)


_STAGES: dict[MoveState, Callable[[Picture, Sequence[MoveView]], Decision]] = {
    S.PLANNED: _begin,
    S.COPYING: _begin,
    S.CATCHING_UP: _catch_up,
    S.VERIFIED: _shadow,
    S.SHADOWING: _judge,
    S.CUTTING_OVER: _step,
    S.REVERSIBLE: _hold,
    S.RETIRING: _retire,
}


def _cut_over(picture: Picture, wave: Sequence[MoveView], step: int) -> Decision:
    if not picture.gateways or not picture.base_epoch:  # nobody to take over step by step
        step = len(picture.settings.cut_over) - 1
    share = picture.settings.cut_over[step]
    sentence = f"publishes {share:.0%} of the new weights of {some(wave)}"
    return Decision(Act.PUBLISH, sentence, positions(wave), wave[0].wave, S.CUTTING_OVER, step)


def _left(picture: Picture, moves: Sequence[MoveView], seconds: float) -> float:
    return seconds - (picture.now - max(m.since for m in moves)).total_seconds()
