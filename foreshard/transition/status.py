"""Where a transition is: its stage, its progress in moves and bytes, its rate, when it may end, and what it waits for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from foreshard.placement.explanation.wording import size
from foreshard.settings import Settings
from foreshard.transition import throttle
from foreshard.transition.decide import current_wave, decide
from foreshard.transition.decision import Act
from foreshard.transition.machine import ENDED, PATH, MoveState
from foreshard.transition.observe import look
from foreshard.transition.store import MoveRecord

_COPIED = frozenset(PATH[PATH.index(MoveState.CATCHING_UP) :])


@dataclass(frozen=True)
class Status:
    """`next`: what the controller would do now, or what it waits for. `eta`: when the copying may end, None if unknown."""

    plan_id: str
    state: str
    epoch: int
    stages: dict[str, int]  # state → moves
    wave: int  # from 1, 0 once all have ended
    waves: int
    bytes: int
    bytes_copied: int
    rate: float  # bytes per second in the copying that goes on, 0 if none does
    throttle: float | None
    eta: datetime | None
    next: str
    waits: bool
    moves: tuple[MoveRecord, ...]

    @property
    def headline(self) -> str:
        ended = sum(self.stages.get(s.value, 0) for s in ENDED)
        return f"Plan {self.plan_id}: {self.state}, {ended} of {len(self.moves)} moves ended, epoch {self.epoch}"

    @property
    def lines(self) -> list[str]:
        """What there is to say in sentences."""
        said = []
        if self.wave:
            stages = ", ".join(f"{count} {name}" for name, count in self.stages.items())
            said.append(f"Wave {self.wave} of {self.waves}: {stages}")
        if self.bytes:
            rate = f", {size(self.rate)} per second" if self.rate else ""
            limit = f" (throttled to {size(self.throttle)})" if self.throttle else ""
            eta = f", copied at about {self.eta:%H:%M:%S} UTC" if self.eta else ""
            said.append(f"{size(self.bytes_copied)} of {size(self.bytes)} copied{rate}{limit}{eta}")
        return [*said, f"{'' if self.waits else 'Next: '}{self.next}"]

    def as_document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def status_of(settings: Settings, url: str, plan_id: str) -> Status:
    """The status as of now; nothing is changed."""
    picture, moves = look(settings, url, plan_id)
    decision = decide(picture)
    wave = current_wave(picture)
    whole = sum(m.bytes for m in moves)
    copied = sum(m.bytes if MoveState(m.state) in _COPIED else min(m.bytes_copied, m.bytes) for m in moves)
    rate = _rate(moves, picture.now)
    return Status(
        plan_id=plan_id,
        state=picture.plan_state,
        epoch=picture.current_epoch,
        stages=dict(
            sorted(Counter(m.state for m in moves).items(), key=lambda pair: list(MoveState).index(MoveState(pair[0])))
        ),
        wave=sorted({m.wave for m in picture.moves}).index(wave[0].wave) + 1 if wave else 0,
        waves=len({m.wave for m in picture.moves}),
        bytes=whole,
        bytes_copied=copied,
        rate=rate,
        throttle=throttle.read_rate(url, settings.pool_id),
        eta=picture.now + timedelta(seconds=(whole - copied) / rate) if rate and copied < whole else None,
        next=decision.sentence,
        waits=decision.act in (Act.WAIT, Act.STOP),
        moves=tuple(moves),
    )


def _rate(moves: list[MoveRecord], now: datetime) -> float:
    """Bytes of the moves being copied over the time since the first of them began."""
    copying = [m for m in moves if m.state == MoveState.COPYING.value and m.since is not None]
    if not copying:
        return 0.0
    seconds = (now - min(m.since for m in copying if m.since)).total_seconds()
    return sum(m.bytes_copied for m in copying) / seconds if seconds > 0 else 0.0
