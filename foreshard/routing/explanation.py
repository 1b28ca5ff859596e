"""Where the queries of an entity go by what is published, replica by replica, for people: no gateway is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time

from foreshard.hashing import entity_slot
from foreshard.model import Node, NodeState, Replica
from foreshard.routing.expected import expected_loads
from foreshard.routing.snapshot import Snapshot


@dataclass(frozen=True)
class ExplainedReplica:
    """One replica that holds the entity's rows. `weight` as published; loads and capacities in weighted requests per second.

    `share`: the part of the queries that it gets, about, before gateways look at who is busy: its weight, as far as the
    forecast is trusted, divided by its correction, beside the others that can answer. `predicted_load`: what its node is
    expected to carry now, of all shards; None without a forecast of now. `covers`: whether it holds the time that is asked for.
    """

    shard_id: int
    node_id: str
    weight: float
    covers_from: date | None
    state: str
    capacity: float
    predicted_load: float | None
    correction: float
    covers: bool
    share: float
    sentence: str = ""


def explained(
    snapshot: Snapshot,
    entity_id: str,
    nodes: Mapping[str, Node],
    corrections: Mapping[str, float],
    range_start: datetime,
    now: datetime,
) -> list[ExplainedReplica]:
    """Every replica of the entity, for a query from `range_start` on (UTC). `nodes` and `corrections` are those of now.

    Gateways also know who is slow, fails or was started just now, and leave those out or ask them less: `GET /v1/routes`.
    """
    held = _replicas(snapshot, entity_id)
    known = {n.node_id: nodes.get(n.node_id, n) for n in snapshot.nodes}
    expected = expected_loads(snapshot, now, [n.node_id for n in known.values() if n.is_live])
    total = sum(r.weight for r in held) or 1.0
    trusted = {r.node_id: snapshot.skill * r.weight / total + (1.0 - snapshot.skill) / len(held) for r in held}
    asked = {n: trusted[n] / corrections.get(n, 1.0) for n in _able(held, known, range_start)}
    whole = sum(asked.values()) or 1.0
    found = [
        ExplainedReplica(
            r.shard_id,
            r.node_id,
            r.weight,
            r.covers_from,
            known[r.node_id].state.value,
            known[r.node_id].capacity,
            expected.get(r.node_id),
            corrections.get(r.node_id, 1.0),
            _covers(r, range_start),
            asked.get(r.node_id, 0.0) / whole,
        )
        for r in held
    ]
    return [replace(r, sentence=_sentence(r, snapshot.skill, len(held), range_start)) for r in found]


def _replicas(snapshot: Snapshot, entity_id: str) -> list[Replica]:
    """One a node: an isolated entity's own, and those of its slot at other nodes or that reach further back."""
    found: dict[str, Replica] = {}
    for shard_id in (snapshot.shard_of(entity_id), entity_slot(entity_id, snapshot.slot_bits)):
        for replica in snapshot.layout.of_shard(shard_id):
            before = found.get(replica.node_id)
            if before is None or (before.covers_from or date.min) > (replica.covers_from or date.min):
                found[replica.node_id] = replica
    return list(found.values())


def _able(held: list[Replica], nodes: Mapping[str, Node], range_start: datetime) -> list[str]:
    """The nodes that queries go to: live ones that cover the range; draining ones only where there is no other."""
    live = [r.node_id for r in held if nodes[r.node_id].is_live and _covers(r, range_start)]
    return [n for n in live if nodes[n].state is not NodeState.DRAINING] or live


def _covers(replica: Replica, range_start: datetime) -> bool:
    return replica.covers_from is None or range_start >= datetime.combine(replica.covers_from, time(), UTC)


def _sentence(replica: ExplainedReplica, skill: float, replicas: int, range_start: datetime) -> str:
    name = f"{replica.node_id}:"
    if replica.state == NodeState.DEAD:
        return f"{name} gets none, as the node is dead."
    if not replica.covers:
        return f"{name} gets none, as it holds the days from {replica.covers_from} on and {range_start:%Y-%m-%d} is asked for."
    if not replica.share:
        return f"{name} gets none while others can answer, as the node is draining."
    said = f"{name} gets about {100 * replica.share:.0f} % of the queries, by its weight of {replica.weight:.2f}"
    if replicas > 1 and skill < 1.0:
        said += f", drawn toward even as the forecast has a skill of {100 * skill:.0f} %"
    if abs(replica.correction - 1.0) >= 0.005:
        more = "more" if replica.correction > 1.0 else "less"
        said += f", corrected as the node has {100 * abs(replica.correction - 1.0):.0f} % {more} to do than was expected"
    if replica.predicted_load is not None:
        said += f"; the node is expected to carry {replica.predicted_load:.1f} of {replica.capacity:.1f}"
    return said + "."
