"""The immutable snapshot of one epoch: what gateways hold, and its compressed, checksummed form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import zstandard

from foreshard.errors import ForeshardError
from foreshard.hashing import entity_slot
from foreshard.model import Layout, Node, NodeState, Replica
from foreshard.routing.packing import packed_loads, packed_replicas, unpacked_loads, unpacked_replicas
from foreshard.routing.predicted import PredictedLoad, PredictedLoads, from_timestamps

# What is read besides, from before replicas and loads were written as columns.
ROWS_FORMAT = 1
FORMAT = 2
__all__ = ["PredictedLoad", "Shadow", "Snapshot", "decode", "encode"]


@dataclass(frozen=True, slots=True)
class Shadow:
    """A copy that gets a `share` (0 to 1) of its shard's queries beside the replica that answers them, to be compared with it.

    It is no replica yet. `covers_from` None covers all time. `since_epoch`: the epoch that began the shadowing; 0: this one.
    `entity_id`: whose own shard it is, if this epoch does not isolate the entity yet.
    """

    shard_id: int
    node_id: str
    covers_from: date | None
    share: float
    since_epoch: int = 0
    entity_id: str = ""


@dataclass(frozen=True)
class Snapshot:
    """One epoch, whole: nodes, shard → replicas, isolated entities, and the forecast that gateways weigh by.

    `shadows` change nothing about who answers. `skill` (0 to 1) is the forecast's measured skill: how far gateways trust the
    published weights and loads; at 0 they route as if nothing were known. `corrections`: node, factor on its score; above 1
    for a node that does worse than its declared capacity says.
    """

    pool_id: str
    epoch: int
    parent: int
    slot_bits: int
    interval_seconds: int
    recent_days: int
    months_days: int
    nodes: tuple[Node, ...]
    replicas: tuple[Replica, ...]
    isolated: tuple[tuple[str, int], ...] = ()  # (entity_id, shard_id)
    predicted: Sequence[PredictedLoad] = ()
    shadows: tuple[Shadow, ...] = ()
    skill: float = 1.0
    corrections: tuple[tuple[str, float], ...] = ()

    @property
    def layout(self) -> Layout:
        return Layout(self.epoch, self.replicas)

    def shard_of(self, entity_id: str) -> int:
        """The shard of an entity: its own if it is isolated, else its slot. Builds a map; gateways keep their own."""
        return dict(self.isolated).get(entity_id, entity_slot(entity_id, self.slot_bits))


def encode(snapshot: Snapshot) -> tuple[bytes, str]:
    """The compressed canonical JSON and the hex SHA-256 of it."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "pool_id": snapshot.pool_id,
        "epoch": snapshot.epoch,
        "parent": snapshot.parent,
        "slot_bits": snapshot.slot_bits,
        "interval_seconds": snapshot.interval_seconds,
        "recent_days": snapshot.recent_days,
        "months_days": snapshot.months_days,
        "nodes": [[n.node_id, n.capacity, n.state.value, n.url, n.zone] for n in snapshot.nodes],
        "replicas": packed_replicas(snapshot.replicas),
        "isolated": [list(pair) for pair in snapshot.isolated],
        "predicted": packed_loads(snapshot.predicted),
    }
    if snapshot.shadows:  # left out otherwise, as in epochs from before there were any
        document["shadows"] = [
            [s.shard_id, s.node_id, s.covers_from.isoformat() if s.covers_from else None, s.share, s.since_epoch, s.entity_id]
            for s in snapshot.shadows
        ]
    # Left out likewise where nothing was measured yet.
    if snapshot.skill != 1.0:
        document["skill"] = snapshot.skill
    if snapshot.corrections:
        document["corrections"] = [list(pair) for pair in snapshot.corrections]
    packed = zstandard.ZstdCompressor(level=3).compress(json.dumps(document, separators=(",", ":"), sort_keys=True).encode())
    return packed, hashlib.sha256(packed).hexdigest()


def decode(packed: bytes, checksum: str) -> Snapshot:
    """The snapshot; raises ForeshardError if the bytes do not match the checksum, are of another format or no snapshot."""
    if hashlib.sha256(packed).hexdigest() != checksum:
        raise ForeshardError("routing snapshot does not match its checksum; it was damaged or changed after publication")
    try:
        return _read(json.loads(zstandard.ZstdDecompressor().decompress(packed)))
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, zstandard.ZstdError) as error:
        raise ForeshardError(f"routing snapshot cannot be read, although its checksum is right: {error!r}") from None


def _read(document: dict[str, Any]) -> Snapshot:
    if document.get("format") == ROWS_FORMAT:
        replicas, predicted = _replicas_of_rows(document), _loads_of_rows(document)
    elif document.get("format") == FORMAT:
        replicas, predicted = unpacked_replicas(document["replicas"]), unpacked_loads(document["predicted"])
    else:
        raise ForeshardError(f"routing snapshot has format {document.get('format')}; this version reads up to {FORMAT}")
    return Snapshot(
        pool_id=document["pool_id"],
        epoch=document["epoch"],
        parent=document["parent"],
        slot_bits=document["slot_bits"],
        interval_seconds=document["interval_seconds"],
        recent_days=document["recent_days"],
        months_days=document["months_days"],
        nodes=tuple(Node(i, c, NodeState(s), url, zone) for i, c, s, url, zone in document["nodes"]),
        replicas=replicas,
        isolated=tuple((e, s) for e, s in document["isolated"]),
        predicted=predicted,
        shadows=tuple(
            Shadow(s, n, date.fromisoformat(c) if c else None, share, since or document["epoch"], entity)
            for s, n, c, share, since, entity in document.get("shadows", ())
        ),
        skill=document.get("skill", 1.0),
        corrections=tuple((n, factor) for n, factor in document.get("corrections", ())),
    )


def _replicas_of_rows(document: dict[str, Any]) -> tuple[Replica, ...]:
    return tuple(Replica(s, n, w, date.fromisoformat(c) if c else None) for s, n, w, c in document["replicas"])


def _loads_of_rows(document: dict[str, Any]) -> PredictedLoads:
    rows = document["predicted"]
    return PredictedLoads.of(
        PredictedLoad(s, t, m) for (s, _, m), t in zip(rows, from_timestamps(r[1] for r in rows), strict=True)
    )
