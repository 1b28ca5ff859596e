"""Taking the picture of a transition that the controller decides by: one read of Postgres, and the source's newest version."""

from __future__ import annotations

from foreshard.errors import ForeshardError
from foreshard.lake import log
from foreshard.model import NodeState
from foreshard.routing import database
from foreshard.routing import store as routing_store
from foreshard.routing.pool import read_nodes
from foreshard.settings import Settings
from foreshard.transition import negotiation, shadowing, store
from foreshard.transition.machine import MoveState
from foreshard.transition.picture import CopyView, MoveView, NodeView, Picture
from foreshard.transition.store import MoveRecord


def observe(settings: Settings, url: str, plan_id: str) -> Picture:
    """The transition of a plan as of now.

    What is read is not of one instant: what matters is checked again in the transaction that acts on it.
    """
    pool_id = settings.pool_id
    record = store.read_plan(url, pool_id, plan_id)
    rows = database.query(url, "read_transition", {"pool_id": pool_id})
    if not rows:
        raise ForeshardError(f"pool {pool_id} is not registered; run `foreshard init`")
    beats = routing_store.read_heartbeats(url, pool_id)
    nodes = {}
    for node in read_nodes(url, pool_id):
        beat = beats.get(node.node_id)
        nodes[node.node_id] = NodeView(
            node.node_id, NodeState(node.state), beat.age_seconds if beat else None, beat.shards if beat else {}
        )
    return Picture(
        plan_id=plan_id,
        plan_state=record.state,
        base_epoch=record.base_epoch,
        last_epoch=record.last_epoch,
        current_epoch=rows[0]["current_epoch"],
        now=rows[0]["now"],
        moves=tuple(_view(move) for move in store.read_moves(url, pool_id, plan_id)),
        nodes=nodes,
        copies={
            (r.shard_id, r.node_id): CopyView(r.applied_version, r.verified_version, r.verified_at)
            for r in store.read_replicas(url, pool_id)
        },
        source_version=log.latest_version(settings.table("usage_hourly")),
        gateways=rows[0]["gateways"],
        lagging=tuple(routing_store.unacknowledged(url, pool_id, rows[0]["current_epoch"])),
        answers=negotiation.answers(url, pool_id, plan_id),
        shadows=shadowing.read_shadows(url, pool_id, record.last_epoch),
        settings=settings.transition,
        rollback_reason=record.rollback_reason,
    )


def _view(move: MoveRecord) -> MoveView:
    assert move.since is not None
    return MoveView(
        position=move.position,
        kind=move.kind,
        shard_id=move.shard_id,
        source=move.source,
        target=move.target,
        covers_from=move.covers_from,
        bytes=move.bytes,
        wave=move.wave or 0,
        state=MoveState(move.state),
        since=move.since,
        paused_from=MoveState(move.paused_from) if move.paused_from else None,
        attempts=move.attempts,
        step=move.step,
        detail=move.detail,
    )
