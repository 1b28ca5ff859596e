"""Carrying out what was decided, where that needs no Spark: advance, publish, retire, roll back, finish.

What a decision was made from may have changed since: each act checks in its own transaction what must not, under the fence of
the controller's lease. A repeat after a kill does nothing, or goes on.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from foreshard.checks.epochs import require_epoch
from foreshard.routing import database
from foreshard.routing import store as routing_store
from foreshard.routing.pool import read_pool
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.transition import lease as leases
from foreshard.transition import progress, store
from foreshard.transition.decision import Act, Decision
from foreshard.transition.lease import Lease
from foreshard.transition.machine import MoveState
from foreshard.transition.picture import Picture
from foreshard.transition.progress import PlanKey
from foreshard.transition.publishing import Course, course_of, full_replicas_now, return_snapshot, step_snapshot
from foreshard.transition.retire import compact, drop_shards
from foreshard.transition.standstill import standstill

# Short, so that a controller that was killed is soon replaced; it is renewed every third of it.
LEASE_SECONDS = 20
WAIT_SECONDS = 180


@dataclass(frozen=True)
class Hold:
    """What an act is done with: the pool's settings and database, the plan, and the controller's lease."""

    settings: Settings
    url: str
    key: PlanKey
    lease: Lease


def serving_lease(url: str, pool_id: str, node_id: str, actor: str) -> AbstractContextManager[Lease]:
    """The turn to write a node's serving table; waits minutes for another process that has it."""
    name = f"{pool_id}/serving/{node_id}"
    return leases.held(url, name, leases.process_name(actor), LEASE_SECONDS, WAIT_SECONDS)


def perform(hold: Hold, picture: Picture, decision: Decision) -> None:
    """Does what was decided; Refused if it may not be done any more. Nothing for a wait, nor for what needs Spark."""
    act = decision.act
    if act is Act.ADVANCE and decision.state:
        progress.advance_alone(hold.url, hold.lease, hold.key, decision.positions, decision.state, detail=decision.sentence)
    elif act is Act.PUBLISH:
        course = course_of(hold.settings, hold.url, hold.key.plan_id)
        _publish(hold, course, picture, decision, step_snapshot(hold.settings, hold.url, course, picture, decision))
    elif act is Act.ROLL_BACK:
        _roll_back(hold, picture, decision)
    elif act is Act.RETIRE:
        _retire(hold, picture, decision)
    elif act is Act.FINISH:
        progress.finish(hold.url, hold.lease, hold.key, decision.plan_state, decision.sentence)


def _publish(hold: Hold, course: Course, picture: Picture, decision: Decision, snapshot: Snapshot) -> None:
    """The epoch and the moves' new state, in one transaction."""
    policy = read_pool(hold.url, hold.settings.pool_id).policy
    now = full_replicas_now(hold.settings, hold.url, snapshot.nodes)
    before = routing_store.current(hold.url, hold.settings.pool_id)
    # Going back to where the plan began is no worse than having begun it; and before the first epoch there is nothing to spare.
    foreseen = course.plan.metrics.overloaded_nodes if before and decision.act is Act.PUBLISH else None
    require_epoch(hold.settings, snapshot, policy, now=now, before=before, foreseen=foreseen)
    # In the history of epochs the last step of a plan says what the plan is about.
    last_wave = max((m.wave for m in picture.moves), default=decision.wave)
    is_whole = not picture.moves or decision.step == len(hold.settings.transition.cut_over) - 1
    is_last = decision.act is Act.PUBLISH and decision.wave == last_wave and is_whole
    advanced = partial(
        progress.advance,
        key=hold.key,
        positions=decision.positions,
        state=decision.state or MoveState.DONE,
        epoch=snapshot.epoch,
        step=max(decision.step, 0),
        detail=decision.reason or decision.sentence,
    )
    routing_store.publish(
        hold.url,
        snapshot,
        expected_epoch=picture.current_epoch,
        published_by=hold.key.actor,
        reason=course.plan.summary if is_last and course.plan.summary else decision.sentence,
        plan_id=hold.key.plan_id,
        lease=hold.lease,
        within=advanced,
    )


def _roll_back(hold: Hold, picture: Picture, decision: Decision) -> None:
    if picture.base_epoch < picture.last_epoch == picture.current_epoch:
        course = course_of(hold.settings, hold.url, hold.key.plan_id)
        back = return_snapshot(hold.settings, hold.url, course, picture, decision.wave)
        if back is not None:
            _publish(hold, course, picture, decision, back)
            return
    progress.advance_alone(hold.url, hold.lease, hold.key, decision.positions, MoveState.ROLLED_BACK, detail=decision.reason)


def _retire(hold: Hold, picture: Picture, decision: Decision) -> None:
    """Marks the copies as going, drops their rows, forgets them; each node by itself, so that a kill leaves whole nodes."""
    pool_id, chosen = hold.settings.pool_id, set(decision.positions)
    leaving: dict[str, list[int]] = {}
    for move in picture.moves:
        if move.position in chosen and move.retires:
            leaving.setdefault(move.source, []).append(move.shard_id)
    for node_id, shards in sorted(leaving.items()):
        with serving_lease(hold.url, pool_id, node_id, hold.key.actor):
            idle = _mark_retiring(hold, node_id, shards)
            drop_shards(hold.settings, node_id, idle, partial(_still_held, hold))
            store.delete_replicas(hold.url, pool_id, [(shard, node_id) for shard in idle], hold.lease)
            compact(hold.settings, node_id)
    progress.advance_alone(hold.url, hold.lease, hold.key, decision.positions, MoveState.DONE)


def _still_held(hold: Hold) -> None:
    with database.transaction(hold.url) as cursor:
        leases.check(cursor, hold.lease)


def _mark_retiring(hold: Hold, node_id: str, shards: list[int]) -> list[int]:
    """The copies that may go, to which no epoch may route from here on; one that an epoch routes to again stays.

    Refused while a gateway may still ask for them.
    """
    with standstill(hold.url, hold.settings.pool_id, node_id, hold.lease) as now:
        now.refuse_unfollowed()
        routed = now.routed(shards)
        idle = [shard for shard in shards if shard not in routed]
        now.mark_retiring(idle)
    return idle
