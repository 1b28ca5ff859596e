"""Who is killed in a drill, and when, by its seed.

The first ten seeds cover the states of a move one by one, the others are drawn.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from foreshard.transition.machine import PATH, MoveState

S = MoveState


class Victim(StrEnum):
    BOTH = "the controller with its Spark job"
    SPARK = "the Spark job"
    CONTROLLER = "the controller, whose Spark job goes on"
    POSTGRES = "Postgres"


@dataclass(frozen=True)
class Blow:
    """Who is killed, and when: so many seconds after a move came into a state, or after the beginning."""

    victim: Victim
    state: MoveState | None
    seconds: float = 0.0
    step: int = 0

    def __str__(self) -> str:
        where = "a run began" if self.state is None else f"a move is {self.state}"
        return f"{self.victim}, {self.seconds:.2f} s after {where}" + (f" at step {self.step}" if self.step else "")


@dataclass(frozen=True)
class Drill:
    """`copies`: whether the plan must bring something. `is_asked_back`: the plan is to be taken back after the first blow.

    `waits_for_leases`: else those of the dead are taken to have expired.
    """

    seed: int
    blows: tuple[Blow, ...]
    copies: bool = True
    is_throttled: bool = False
    is_asked_back: bool = False
    waits_for_leases: bool = False

    def __str__(self) -> str:
        more = [name for name in ("is_throttled", "is_asked_back", "waits_for_leases") if getattr(self, name)]
        return f"seed {self.seed}: kills {'; then '.join(map(str, self.blows))} {' '.join(more)}".rstrip()


_COVERED = (
    Drill(0, (Blow(Victim.SPARK, S.COPYING),)),
    Drill(1, (Blow(Victim.BOTH, S.CATCHING_UP),)),
    Drill(2, (Blow(Victim.CONTROLLER, S.VERIFIED),)),
    Drill(3, (Blow(Victim.POSTGRES, S.SHADOWING, 0.3),)),
    Drill(4, (Blow(Victim.BOTH, S.CUTTING_OVER),)),
    Drill(5, (Blow(Victim.POSTGRES, S.CUTTING_OVER, step=1),), is_asked_back=True),
    Drill(6, (Blow(Victim.BOTH, S.REVERSIBLE),)),
    Drill(7, (Blow(Victim.BOTH, S.RETIRING),), waits_for_leases=True),
    Drill(8, (Blow(Victim.POSTGRES, S.COPYING, 0.5),), is_throttled=True),
    Drill(9, (Blow(Victim.CONTROLLER, S.COPYING), Blow(Victim.BOTH, None, 6.0))),
)


COVERED = len(_COVERED)


def drill_of(seed: int) -> Drill:
    """The drill of a seed."""
    if seed < COVERED:
        return _COVERED[seed]
    rng = random.Random(seed)

    def blow() -> Blow:
        victim = rng.choice(list(Victim))
        if rng.random() < 0.4:
            return Blow(victim, None, rng.uniform(0.5, 30))
        # A Spark job is at work in these states only.
        states = PATH[1:3] if victim is Victim.SPARK else PATH[1:-1]
        state = rng.choice(states)
        return Blow(victim, state, rng.choice((0.0, rng.uniform(0, 3))), rng.randrange(3) if state is S.CUTTING_OVER else 0)

    # In the order in which a move comes through its states, so that each can meet somebody.
    blows = sorted((blow() for _ in range(rng.choice((1, 1, 2, 3)))), key=lambda b: PATH.index(b.state) if b.state else 0)
    return Drill(
        seed,
        tuple(blows),
        copies=rng.random() < 0.85,
        is_throttled=rng.random() < 0.1,
        is_asked_back=rng.random() < 0.25,
        waits_for_leases=rng.random() < 0.15,
    )
