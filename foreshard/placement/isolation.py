"""Which entities get a shard of their own, and which lose it again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from foreshard.model import HeavyEntity, Isolation, Layout, PlacementProblem, ShardLoad


def isolations(problem: PlacementProblem) -> tuple[Isolation, ...]:
    """An entity is isolated when its peak exceeds `isolate_share` of a mean node and `isolate_slot_share` of its slot then.

    It is consolidated back only when its peak is below `cold_factor` of the same share, so that a load near it does not make it
    come and go. The hottest come first and get the number reserved for them, or the next free one. Time O(entities × steps).
    """
    accepting = [n.capacity for n in problem.nodes if n.accepts_shards]
    if not accepting:
        return ()
    threshold = problem.policy.isolate_share * sum(accepting) / len(accepting)
    slots = {s.shard_id: s for s in problem.shards}
    reserved = [e.reserved for e in problem.heavy if e.reserved is not None]
    known = [*slots, *reserved, *(r.shard_id for r in problem.layout.replicas)]
    free = max([(1 << max((s.shard_id for s in problem.shards if s.parent is None), default=0).bit_length()) - 1, *known]) + 1
    found = []
    for entity in sorted(problem.heavy, key=lambda e: (-max(e.mean, default=0.0), e.entity_id)):
        peak = max(entity.mean, default=0.0)
        if entity.shard_id is not None and entity.shard_id in slots and peak < threshold * problem.policy.cold_factor:
            found.append(_ended(entity, entity.shard_id, peak, threshold * problem.policy.cold_factor))
        elif entity.shard_id is None and _is_hot(entity, slots.get(entity.slot), problem, threshold):
            found.append(_begun(entity, free if entity.reserved is None else entity.reserved, peak, threshold))
            free += entity.reserved is None
    return tuple(found)


def _is_hot(entity: HeavyEntity, slot: ShardLoad | None, problem: PlacementProblem, threshold: float) -> bool:
    peak = max(entity.mean, default=0.0)
    if slot is None or slot.parent is not None or peak <= threshold:
        return False
    return peak > problem.policy.isolate_slot_share * slot.mean[entity.mean.index(peak)]


def _begun(entity: HeavyEntity, shard_id: int, peak: float, threshold: float) -> Isolation:
    reason = f"predicted at {peak:.4g}/s at most, above {threshold:.4g}/s and most of its slot {entity.slot}"
    return Isolation(entity.entity_id, entity.slot, shard_id, reason)


def _ended(entity: HeavyEntity, shard_id: int, peak: float, cold: float) -> Isolation:
    reason = f"predicted at {peak:.4g}/s at most, below {cold:.4g}/s: its slot {entity.slot} carries it again"
    return Isolation(entity.entity_id, entity.slot, shard_id, reason, ends=True)


def retired(problem: PlacementProblem, ended: Sequence[Isolation]) -> tuple[ShardLoad, ...]:
    """Shards without load in place of those that end, so that their replicas are dropped."""
    zeros = (0.0,) * len(problem.steps)
    layout: Layout = problem.layout
    held = {r.shard_id for r in layout.replicas}
    sizes = {s.shard_id: s for s in problem.shards}
    return tuple(
        ShardLoad(
            i.shard_id,
            zeros,
            zeros,
            bytes_full=sizes[i.shard_id].bytes_full,
            bytes_hot=sizes[i.shard_id].bytes_hot,
            max_replicas=0,
            parent=i.slot,
        )
        for i in ended
        if i.shard_id in held
    )


def loads_after(
    shards: Sequence[ShardLoad], heavy: Sequence[HeavyEntity], isolations: Sequence[Isolation]
) -> tuple[ShardLoad, ...]:
    """The shards once these entities have shards of their own, or have them no longer. What begins takes its load off its slot
    and needs its HeavyEntity, what ends gives its load back. Time O(shards + isolations × steps)."""
    loads = {s.shard_id: s for s in shards}
    entities = {(h.slot, h.entity_id): h for h in heavy}
    for isolation in isolations:
        slot, own = loads.get(isolation.slot), loads.get(isolation.shard_id)
        entity = entities.get((isolation.slot, isolation.entity_id))
        if isolation.ends and own is not None and slot is not None:
            del loads[own.shard_id]
            loads[slot.shard_id] = _combined(slot, own, 1.0)
        elif not isolation.ends and own is None and slot is not None and entity is not None:
            loads[slot.shard_id] = _combined(slot, entity, -1.0)
            loads[isolation.shard_id] = ShardLoad(
                isolation.shard_id,
                entity.mean,
                entity.spread_own,
                entity.spread_common,
                entity.bytes_full,
                entity.bytes_hot,
                entity.recent_share,
                parent=isolation.slot,
            )
    return tuple(loads.values())


def _combined(slot: ShardLoad, entity: ShardLoad | HeavyEntity, sign: float) -> ShardLoad:
    """The slot's load with the entity's added or taken off; own spreads add up by their squares."""
    common = slot.spread_common
    if common and entity.spread_common:
        common = tuple(
            tuple(a + sign * b for a, b in zip(x, y, strict=False)) for x, y in zip(common, entity.spread_common, strict=True)
        )
    return replace(
        slot,
        mean=tuple(max(0.0, a + sign * b) for a, b in zip(slot.mean, entity.mean, strict=True)),
        spread_own=tuple(
            math.sqrt(max(0.0, a * a + sign * b * b)) for a, b in zip(slot.spread_own, entity.spread_own, strict=True)
        ),
        spread_common=common,
    )


def isolated_after(isolated: Mapping[str, int], isolations: Sequence[Isolation]) -> dict[str, int]:
    """Entity → its own shard, once a plan is published."""
    ended = {i.entity_id for i in isolations if i.ends}
    begun = {i.entity_id: i.shard_id for i in isolations if not i.ends}
    return {entity: shard for entity, shard in isolated.items() if entity not in ended} | begun
