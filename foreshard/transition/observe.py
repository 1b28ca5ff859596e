"""Taking the picture of a transition that the controller decides by: one read of Postgres, and the source's newest version."""

from __future__ import annotations

from contextlib import closing

from foreshard.errors import ForeshardError
from foreshard.lake import log
from foreshard.model import NodeState
from foreshard.routing import database
from foreshard.routing import store as routing_store
from foreshard.routing.database import KeptConnection
from foreshard.routing.pool import read_nodes
from foreshard.settings import Settings
from foreshard.transition import negotiation, shadowing, store
from foreshard.transition.machine import MoveState
from foreshard.transition.picture import CopyView, MoveView, NodeView, Picture
from foreshard.transition.store import MoveRecord

_STATEMENT_SECONDS = 60.0


def observe(settings: Settings, url: str, plan_id: str) -> Picture:
    """The transition of a plan as of now.

    What is read is not of one instant: what matters is checked again in the transaction that acts on it.
    """
    return look(settings, url, plan_id)[0]


def look(settings: Settings, url: str, plan_id: str) -> tuple[Picture, list[MoveRecord]]:
    """The picture, and the moves as they are stored, with what is of no account for a decision."""
    with closing(KeptConnection(url, _STATEMENT_SECONDS)) as connection:
        return _taken(settings, connection, plan_id)


def _taken(settings: Settings, connection: KeptConnection, plan_id: str) -> tuple[Picture, list[MoveRecord]]:
    pool_id = settings.pool_id
    record = store.read_plan(connection, pool_id, plan_id)
    rows = database.query(connection, "read_transition", {"pool_id": pool_id, "plan_id": plan_id})
    if not rows:
        raise ForeshardError(f"pool {pool_id} is not registered; run `foreshard init`")
    moves = store.read_moves(connection, pool_id, plan_id)
    picture = Picture(
        plan_id=plan_id,
        plan_state=record.state,
        base_epoch=record.base_epoch,
        last_epoch=record.last_epoch,
        current_epoch=rows[0]["current_epoch"],
        now=rows[0]["now"],
        moves=tuple(_view(move) for move in moves),
        nodes=_nodes(connection, pool_id, rows[0]["unheard_seconds"]),
        copies={
            (r.shard_id, r.node_id): CopyView(r.applied_version, r.verified_version, r.verified_at)
            for r in store.read_replicas(connection, pool_id)
        },
        source_version=log.latest_version(settings.table("usage_hourly")),
        gateways=rows[0]["gateways"],
        lagging=tuple(routing_store.unacknowledged(connection, pool_id, rows[0]["current_epoch"])),
        answers=negotiation.answers(connection, pool_id, plan_id),
        shadows=shadowing.read_shadows(connection, pool_id, record.last_epoch),
        settings=settings.transition,
        rollback_reason=record.rollback_reason,
    )
    return picture, moves


def _nodes(connection: KeptConnection, pool_id: str, unheard_seconds: float | None) -> dict[str, NodeView]:
    """Where no node ever sent a heartbeat there are none to wait for; where one did, those that never did are silent too."""
    beats = routing_store.read_heartbeats(connection, pool_id)
    seen = {}
    for node in read_nodes(connection, pool_id):
        beat = beats.get(node.node_id)
        silence, applied = (beat.age_seconds, beat.shards) if beat else (unheard_seconds, {})
        seen[node.node_id] = NodeView(node.node_id, NodeState(node.state), silence, applied)
    return seen


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
        source_version=move.source_version,
    )
