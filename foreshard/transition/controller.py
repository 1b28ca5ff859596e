"""The controller of a transition: look, decide, act once, and say one sentence; as often as it takes.

Any process may be the controller: the Spark job for the steps that copy, a task of the DAG or the command line for the others.
A lease with a fence lets one act at a time, and what it does is in Postgres before the next step begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from foreshard.errors import Refused
from foreshard.settings import Settings
from foreshard.transition import lease as leases
from foreshard.transition import progress, store
from foreshard.transition.acts import LEASE_SECONDS, Hold, perform
from foreshard.transition.decide import decide
from foreshard.transition.decision import NEEDS_SPARK, Act, Decision
from foreshard.transition.drift import drift
from foreshard.transition.observe import observe
from foreshard.transition.picture import Picture
from foreshard.transition.progress import PlanKey

Say = Callable[[str], None]
SparkStep = Callable[[Hold, Picture, Decision], None]


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle came to. `acted` is False for a wait, and for a step that needs Spark where there is none."""

    decision: Decision
    acted: bool

    @property
    def is_over(self) -> bool:
        """Whether the plan has ended, by this cycle or before."""
        return self.decision.act is Act.STOP or (self.decision.act is Act.FINISH and self.acted)

    @property
    def needs_spark(self) -> bool:
        return self.decision.act in NEEDS_SPARK and not self.acted


def lease_name(pool_id: str) -> str:
    """The lease of whoever carries the pool's plan out."""
    return f"{pool_id}/transition"


@contextmanager
def controlling(settings: Settings, url: str, plan_id: str, actor: str, wait_seconds: float = 0.0) -> Iterator[Hold]:
    """The controller's lease for the block; Refused, naming who has it, after `wait_seconds`. Begins an approved plan.

    A plan whose inputs have drifted is marked failed and refused.
    """
    key = PlanKey(settings.pool_id, plan_id, actor)
    with leases.held(url, lease_name(settings.pool_id), leases.process_name(actor), LEASE_SECONDS, wait_seconds) as held:
        hold = Hold(settings, url, key, held)
        record = store.read_plan(url, settings.pool_id, plan_id)
        if record.state == "approved":
            why = drift(settings, url, record)
            if why:
                progress.finish(url, held, key, "failed", why)
                raise Refused(f"plan {plan_id} no longer fits: {why}; plan again")
        if record.state in ("approved", "failed"):
            progress.start(url, held, key)
        yield hold


def cycle(hold: Hold, spark_step: SparkStep | None = None, only: Collection[Act] = frozenset(Act)) -> Cycle:
    """Looks, decides and acts once. An act refused because something changed meanwhile is a wait: the next cycle sees it."""
    picture = observe(hold.settings, hold.url, hold.key.plan_id)
    decision = decide(picture)
    is_for_others = decision.act not in only or (decision.act in NEEDS_SPARK and spark_step is None)
    if is_for_others or decision.act in (Act.WAIT, Act.STOP):
        return Cycle(decision, False)
    try:
        if spark_step is not None and decision.act in NEEDS_SPARK:
            spark_step(hold, picture, decision)
        else:
            perform(hold, picture, decision)
    except Refused as error:
        return Cycle(Decision(Act.WAIT, str(error), wave=decision.wave), False)
    return Cycle(decision, True)


def carry_out(
    hold: Hold,
    say: Say,
    *,
    seconds: float,
    only: Collection[Act] = frozenset(Act),
    poll_seconds: float = 0.5,
    spark_step: SparkStep | None = None,
) -> Cycle:
    """Cycles until the plan has ended, or needs Spark where there is none, or `seconds` went by without a change.

    Also ends before an act that is not among `only`. Says each sentence once.
    """
    said = ""
    until = time.monotonic() + seconds
    while True:
        done = cycle(hold, spark_step, only)
        if done.decision.act not in only:
            return done
        if done.decision.sentence != said:
            said = done.decision.sentence
            say(said)
        if done.is_over or done.needs_spark:
            return done
        if done.acted:
            until = time.monotonic() + seconds
        elif time.monotonic() >= until:
            return done
        else:
            time.sleep(poll_seconds)
