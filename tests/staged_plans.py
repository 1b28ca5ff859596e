"""Stored and approved plans over the current epoch, and a gateway that follows as far as a test lets it."""

from __future__ import annotations

from foreshard.model import Layout, Move, MoveKind, Plan, PlanMetrics, Replica
from foreshard.placement import codec
from foreshard.routing import store as epochs
from foreshard.settings import Settings
from foreshard.transition import store


def current(settings: Settings) -> Layout:
    """The layout of the current epoch."""
    snapshot = epochs.current(settings.postgres_url, settings.pool_id)
    assert snapshot is not None
    return snapshot.layout


def approved(settings: Settings, plan_id: str, moves: tuple[Move, ...], layout: Layout, base_epoch: int) -> Plan:
    """A stored and approved plan."""
    plan = Plan(plan_id, settings.pool_id, base_epoch, "digest", moves, layout, PlanMetrics(1, 1, 1, 0, 0, len(moves), "test"))
    store.save_plan(settings.postgres_url, plan, codec.plan_to_document(plan))
    store.record_approval(settings.postgres_url, settings.pool_id, plan_id, "approved", "test")
    return plan


def moving(settings: Settings, plan_id: str, moves: tuple[Move, ...]) -> Plan:
    """A plan of these moves over the current epoch; the weights of the shards that they touch become equal."""
    now = current(settings)
    held = {(r.shard_id, r.node_id): r for r in now.replicas}
    for move in moves:
        if move.kind in (MoveKind.MOVE, MoveKind.DROP):
            del held[move.shard_id, move.source]
        if move.target:
            held[move.shard_id, move.target] = Replica(move.shard_id, move.target, 1.0, move.covers_from)
    touched = {m.shard_id for m in moves}
    counts = {s: sum(shard == s for shard, _ in held) for s in touched}
    replicas = [
        Replica(r.shard_id, r.node_id, 1 / counts[r.shard_id], r.covers_from) if r.shard_id in touched else r
        for r in held.values()
    ]
    return approved(settings, plan_id, moves, Layout(now.epoch + 1, tuple(replicas)), now.epoch)


def follow_epochs(settings: Settings, gateway_id: str = "g") -> int:
    """The gateway acknowledges the current epoch, which is returned."""
    epoch = current(settings).epoch
    epochs.register_gateway(settings.postgres_url, settings.pool_id, gateway_id, 600)
    epochs.acknowledge(settings.postgres_url, settings.pool_id, gateway_id, epoch)
    return epoch
