"""What entities bring of their slots' predicted load, and the shards' loads with other entities isolated than in the forecast.

A forecast is of the shards that were there when it was made. Until the next one, what an entity that was isolated since brings
is its slot's forecast times the entity's share of the slot, hour of the day by hour of the day; what one that was isolated then
and is no longer brings goes back to its slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from foreshard.model import HeavyEntity, Isolation, Node, Policy, ShardLoad
from foreshard.placement.isolation import loads_after

MOST = 16  # entities that one plan weighs up anew; the next plan weighs up others
_HOURS = 24
Row = tuple[int, str, int, float]  # slot, entity ('' is the rest), UTC hour of the day, load


@dataclass(frozen=True, slots=True)
class EntityShare:
    """An entity's share of its slot's load in the last days, one value for each UTC hour of the day."""

    entity_id: str
    slot: int
    by_hour: tuple[float, ...]


def shares(rows: Iterable[Row], apart: Iterable[str]) -> list[EntityShare]:
    """The share of every entity in these rows, which are all of their slots; O(rows).

    Where a slot had no load in an hour of the day, the share is that of all hours. `apart`: entities with a forecast of their
    own, which are no part of their slots'.
    """
    own: dict[tuple[int, str], list[float]] = {}
    whole: dict[int, list[float]] = {}
    others = set(apart)
    for slot, entity, hour, load in rows:
        if entity in others:
            continue
        whole.setdefault(slot, [0.0] * _HOURS)[hour] += load
        if entity:
            own.setdefault((slot, entity), [0.0] * _HOURS)[hour] += load
    return [
        EntityShare(entity, slot, _ratios(loads, whole[slot]))
        for (slot, entity), loads in sorted(own.items())
        if sum(loads) > 0
    ]


def _ratios(own: Sequence[float], whole: Sequence[float]) -> tuple[float, ...]:
    overall = sum(own) / sum(whole)
    return tuple(min(a / b, 1.0) if b > 0 else overall for a, b in zip(own, whole, strict=True))


def part_of(slot: ShardLoad, share: EntityShare, steps: Sequence[datetime]) -> HeavyEntity:
    """The entity's part of its slot's forecast: mean and spreads in proportion to its share at each step's hour of the day."""
    at = [share.by_hour[step.hour] for step in steps]
    return HeavyEntity(
        share.entity_id,
        share.slot,
        mean=tuple(a * x for a, x in zip(at, slot.mean, strict=True)),
        spread_own=tuple(a * x for a, x in zip(at, slot.spread_own, strict=True)),
        spread_common=tuple(tuple(a * f for f in x) for a, x in zip(at, slot.spread_common, strict=False)),
        recent_share=slot.recent_share,
    )


def forecast_apart(entity_id: str, slot: int, own: ShardLoad) -> HeavyEntity:
    """The entity with the forecast of its own shard."""
    return HeavyEntity(entity_id, slot, own.mean, own.spread_own, own.spread_common, recent_share=own.recent_share)


def as_isolated(
    shards: Sequence[ShardLoad], entities: Mapping[str, HeavyEntity], then: Mapping[str, int], now: Mapping[str, int]
) -> tuple[ShardLoad, ...]:
    """The forecast's shards as they are with the entities of `now` isolated instead of those of `then`; both entity → shard.

    `entities` has all of them, with their loads by this forecast. Isolated entities' shards name their slot as their parent.
    """
    parents = {shard: entities[entity].slot for entity, shard in then.items()}
    named = [replace(s, parent=parents.get(s.shard_id)) for s in shards]
    gone = [(e, s) for e, s in sorted(then.items()) if now.get(e) != s]
    new = [(e, s) for e, s in sorted(now.items()) if then.get(e) != s]
    changes = [Isolation(e, entities[e].slot, s, "", ends) for part, ends in ((gone, True), (new, False)) for e, s in part]
    return tuple(sorted(loads_after(named, tuple(entities.values()), changes), key=lambda s: s.shard_id))


def least_peak(policy: Policy, nodes: Iterable[Node]) -> float:
    """The peak from which on an entity is weighed up: below it even one that has its own shard would lose it."""
    accepting = [n.capacity for n in nodes if n.accepts_shards]
    return policy.isolate_share * policy.cold_factor * sum(accepting) / len(accepting) if accepting else float("inf")


def weighed_up(
    entities: Iterable[HeavyEntity], shards: Sequence[ShardLoad], least: float, slot_share: float
) -> tuple[HeavyEntity, ...]:
    """The hottest MOST of those whose peak is at least `least` and, at that step, `slot_share` of their slot's load."""
    slots = {s.shard_id: s for s in shards if s.parent is None}
    found = []
    for entity in entities:
        peak = max(entity.mean, default=0.0)
        if entity.slot in slots and 0 < least <= peak >= slot_share * slots[entity.slot].mean[entity.mean.index(peak)]:
            found.append((-peak, entity.entity_id, entity))
    return tuple(entity for _, _, entity in sorted(found)[:MOST])
