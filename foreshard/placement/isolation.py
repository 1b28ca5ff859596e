"""Which entities get a shard of their own, and which lose it again."""

from __future__ import annotations

from collections.abc import Sequence

from foreshard.model import HeavyEntity, Isolation, Layout, PlacementProblem, ShardLoad


def isolations(problem: PlacementProblem) -> tuple[Isolation, ...]:
    """An entity is isolated when its peak exceeds `isolate_share` of a mean node and `isolate_slot_share` of its slot then.

    It is consolidated back only when its peak is below `cold_factor` of the same share, so that a load near it does not make it
    come and go. The hottest come first and get the next free ids. Time O(entities × steps).
    """
    accepting = [n.capacity for n in problem.nodes if n.accepts_shards]
    if not accepting:
        return ()
    threshold = problem.policy.isolate_share * sum(accepting) / len(accepting)
    slots = {s.shard_id: s for s in problem.shards}
    known = [*slots, *(r.shard_id for r in problem.layout.replicas)]
    free = max([(1 << max((s.shard_id for s in problem.shards if s.parent is None), default=0).bit_length()) - 1, *known]) + 1
    found = []
    for entity in sorted(problem.heavy, key=lambda e: (-max(e.mean, default=0.0), e.entity_id)):
        peak = max(entity.mean, default=0.0)
        if entity.shard_id is not None and entity.shard_id in slots and peak < threshold * problem.policy.cold_factor:
            found.append(_ended(entity, entity.shard_id, peak, threshold * problem.policy.cold_factor))
        elif entity.shard_id is None and _is_hot(entity, slots.get(entity.slot), problem, threshold):
            found.append(_begun(entity, free, peak, threshold))
            free += 1
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
