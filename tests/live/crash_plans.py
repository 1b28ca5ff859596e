"""Plans over the current layout: one or two moves of different shards, drawn."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date

from crash_platform import NODES

from foreshard.model import Layout, Move, MoveKind, Plan, PlanMetrics, Replica


@dataclass(frozen=True)
class Drawing:
    """What is drawn: of `slots` shards, hot replicas from `since` on. `copies`: the first move brings something;
    `retires`: and takes something away."""

    random: random.Random
    slots: int
    since: date
    copies: bool
    retires: bool


def plan_of(pool_id: str, plan_id: str, now: Layout, drawing: Drawing) -> Plan:
    """A plan whose shards get equal weights; those of the other shards stay as they are."""
    shards = drawing.random.sample(range(drawing.slots), drawing.slots)
    if drawing.copies:  # first the shards to which something can be brought
        shards.sort(key=lambda shard: not _can_gain(now, shard, drawing))
    shards = shards[: drawing.random.choice((1, 1, 2))]
    moves = tuple(_move(now, shard, drawing, drawing.copies and number == 0) for number, shard in enumerate(shards))
    held = {(r.shard_id, r.node_id): r for r in now.replicas}
    for move in moves:
        if move.source:
            del held[move.shard_id, move.source]
        if move.target:
            held[move.shard_id, move.target] = Replica(move.shard_id, move.target, 1.0, move.covers_from)
    counts = {s: sum(shard == s for shard, _ in held) for s in shards}
    replicas = tuple(
        Replica(r.shard_id, r.node_id, 1 / counts[r.shard_id], r.covers_from) if r.shard_id in counts else r
        for r in held.values()
    )
    metrics = PlanMetrics(1, 1, 1, 0, 0, len(moves), "test")
    return Plan(plan_id, pool_id, now.epoch, "", moves, Layout(now.epoch + 1, replicas), metrics)


def _can_gain(layout: Layout, shard: int, drawing: Drawing) -> bool:
    replicas = layout.of_shard(shard)
    return len(replicas) < len(NODES) or (not drawing.retires and not all(r.is_full for r in replicas))


def _move(layout: Layout, shard: int, drawing: Drawing, copies: bool) -> Move:
    replicas = layout.of_shard(shard)
    full = [r.node_id for r in replicas if r.is_full]
    hot = [r.node_id for r in replicas if not r.is_full]
    idle = [node_id for node_id in NODES if node_id not in full + hot]
    kinds: list[tuple[MoveKind, str, str, date | None]] = []
    if idle:
        kinds += [(MoveKind.MOVE, drawing.random.choice(full), idle[0], None)] * 3
    if idle and not drawing.retires:
        kinds += [(MoveKind.REPLICATE, "", idle[0], drawing.since), (MoveKind.REPLICATE, "", idle[0], None)]
    if hot and not drawing.retires:
        kinds += [(MoveKind.WIDEN, "", hot[0], None)] * 2
    if len(replicas) > 2 and not (copies and kinds):
        kinds.append((MoveKind.DROP, hot[0] if hot else drawing.random.choice(full), "", None))
    kind, source, target, day = drawing.random.choice(kinds)
    return Move(kind, shard, source, target, day, 1_000, "a drill")
