"""One epoch as a gateway reads it: everything a query needs is looked up, nothing is searched."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time

from xxhash import xxh64_intdigest

from foreshard.errors import ForeshardError
from foreshard.hashing import SEED, entity_slot
from foreshard.model import Node
from foreshard.routing.predicted_peaks import predicted_node_loads
from foreshard.routing.snapshot import Shadow, Snapshot


@dataclass(slots=True, unsafe_hash=True)  # not frozen: tens of thousands are made at once, and that takes three times as long
class Candidate:
    """One replica with its node: `shard_id` is what to ask the node for; `covers_from` None covers all time. Never changed."""

    shard_id: int
    node: Node
    weight: float
    covers_from: datetime | None

    def covers(self, range_start: datetime) -> bool:
        return self.covers_from is None or range_start >= self.covers_from


class RoutingTable:
    """Immutable after construction, so that readers need no lock. Building takes O(replicas × predicted intervals)."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Raises ForeshardError if the snapshot contradicts itself."""
        self.snapshot = snapshot
        self.epoch = snapshot.epoch
        self.nodes = {node.node_id: node for node in snapshot.nodes}
        self._slot_mask = (1 << snapshot.slot_bits) - 1
        self._shards = self._by_shard(snapshot)
        self._isolated = {entity: (shard, self._isolated_candidates(entity, shard)) for entity, shard in snapshot.isolated}
        self._predicted = self._predicted_by_interval(snapshot)
        self._shadows: dict[int, list[Shadow]] = defaultdict(list)
        for shadow in snapshot.shadows:
            since = shadow.since_epoch or snapshot.epoch
            self._shadows[shadow.shard_id].append(replace(shadow, since_epoch=since))
        # Shards that are still to become their entities' own.
        self._to_be_own = {s.entity_id: s.shard_id for s in snapshot.shadows if s.entity_id}

    def shard_of(self, entity_id: str) -> int:
        isolated = self._isolated.get(entity_id)
        return isolated[0] if isolated else entity_slot(entity_id, self.snapshot.slot_bits)

    def candidates(self, entity_id: str) -> tuple[Candidate, ...]:
        """Every replica that holds the entity's rows, one per node; an isolated entity is also in its slot's replicas."""
        return self.candidates_of(self.key(entity_id))

    def key(self, entity_id: str) -> int | str:
        """What entities with the same candidates have in common: their slot, or an isolated entity itself."""
        if entity_id in self._isolated:
            return entity_id
        return xxh64_intdigest(entity_id.encode(), SEED) & self._slot_mask

    def candidates_of(self, key: int | str) -> tuple[Candidate, ...]:
        return self._shards.get(key, ()) if isinstance(key, int) else self._isolated[key][1]

    def shadows(self, entity_id: str, range_start: datetime) -> list[Shadow]:
        """The new copies that could answer for the entity from this time on; `since_epoch` is always set."""
        if not self._shadows:
            return []
        own, slot = self.shard_of(entity_id), entity_slot(entity_id, self.snapshot.slot_bits)
        found = [
            shadow for shard in {own, slot, self._to_be_own.get(entity_id, own)} for shadow in self._shadows.get(shard, ())
        ]
        return [s for s in found if s.covers_from is None or range_start >= _midnight(s.covers_from)]

    def is_shadowed(self, since_epoch: int, shard_id: int, node_id: str) -> bool:
        """Whether the epoch still lists the shadow that began then."""
        return any((s.since_epoch, s.node_id) == (since_epoch, node_id) for s in self._shadows.get(shard_id, ()))

    def predicted_load(self, node_id: str, now: datetime) -> float | None:
        """Predicted load of a node in the interval that holds `now`; None if no forecast reaches it."""
        loads = self._predicted.get(self._interval(now))
        return None if loads is None else loads.get(node_id, 0.0)

    def _interval(self, moment: datetime) -> int:
        return int(moment.timestamp()) // self.snapshot.interval_seconds

    def _by_shard(self, snapshot: Snapshot) -> dict[int, tuple[Candidate, ...]]:
        shards: dict[int, list[Candidate]] = defaultdict(list)
        for replica in snapshot.replicas:
            node = self.nodes.get(replica.node_id)
            if node is None or not replica.weight > 0:
                fault = "is on an unknown node" if node is None else "has no positive weight"
                raise ForeshardError(
                    f"epoch {snapshot.epoch}: the replica of shard {replica.shard_id} on {replica.node_id} {fault}"
                )
            covers_from = _midnight(replica.covers_from) if replica.covers_from else None
            shards[replica.shard_id].append(Candidate(replica.shard_id, node, replica.weight, covers_from))
        return {shard: tuple(found) for shard, found in shards.items()}

    def _isolated_candidates(self, entity_id: str, shard_id: int) -> tuple[Candidate, ...]:
        slot = entity_slot(entity_id, self.snapshot.slot_bits)
        best: dict[str, Candidate] = {}
        for candidate in self._shards.get(shard_id, ()) + self._shards.get(slot, ()):
            held = best.get(candidate.node.node_id)
            if held is None or _covers_more(candidate, held):
                best[candidate.node.node_id] = candidate
        return tuple(best.values())

    def _predicted_by_interval(self, snapshot: Snapshot) -> dict[int, dict[str, float]]:
        """Interval → node → Σ predicted shard means × the node's share of the shard's weight."""
        if not snapshot.predicted:
            return {}
        starts, loads = predicted_node_loads(
            snapshot.nodes, snapshot.replicas, dict(snapshot.isolated), snapshot.predicted, snapshot.slot_bits
        )
        names = [node.node_id for node in snapshot.nodes]
        return {self._interval(start): dict(zip(names, loads[:, at].tolist(), strict=True)) for at, start in enumerate(starts)}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _covers_more(one: Candidate, other: Candidate) -> bool:
    if other.covers_from is None:
        return False
    return one.covers_from is None or one.covers_from < other.covers_from
