"""What nodes hold, beside what the current epoch, the replicas' rows and open moves say of it.

It is not of one instant: what is done about it is checked again where it is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from foreshard.lake import log
from foreshard.model import NodeState, Replica
from foreshard.routing import database, pool
from foreshard.routing import store as routing_store
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.holdings import KEY, Contents, contents, reaches_beyond
from foreshard.transition.retire import stray_shards
from foreshard.transition.store import ReplicaRecord


@dataclass(frozen=True)
class NodeScene:
    """One node. `strays`: shards of which its table has rows and says nothing. `moving`: those of open moves."""

    node_id: str
    state: NodeState
    said: Contents
    strays: frozenset[int]
    routed: dict[int, Replica]
    known: dict[int, ReplicaRecord]
    moving: frozenset[int]

    @property
    def held(self) -> set[int]:
        """Shards of which the table has anything, whole or not."""
        return set(self.said.holdings) | set(self.said.copies) | self.strays

    @property
    def orphans(self) -> list[int]:
        return sorted(self.held - set(self.routed) - self.moving)

    @property
    def too_wide(self) -> dict[int, date]:
        """Shard → the first day that queries may ask for, of hot replicas that have older rows."""
        found = {}
        for shard in sorted(self.held & set(self.routed) - self.moving):
            first = self.routed[shard].covers_from
            held, copy = self.said.holdings.get(shard), self.said.copies.get(shard)
            reach = [part.covers_from for part in (held, copy) if part is not None]
            if first is not None and any(reaches_beyond(day, first) for day in reach):
                found[shard] = first
        return found

    @property
    def absent(self) -> list[int]:
        """Routed to and not held: queries for them are refused here."""
        return sorted(set(self.routed) - set(self.said.holdings))

    @property
    def unrecorded(self) -> list[int]:
        return sorted(set(self.said.holdings) & set(self.routed) - set(self.known))

    @property
    def empty_rows(self) -> list[int]:
        """Rows of replicas that the table does not have, and that nobody counts on."""
        return sorted(set(self.known) - self.held - set(self.routed) - self.moving)


def look_at_nodes(settings: Settings, url: str) -> list[NodeScene]:
    """Every node of the pool by name, the dead ones included."""
    nodes = pool.read_nodes(url, settings.pool_id)
    said = {n.node_id: contents(log.newest_commit(settings.table(f"serving/{n.node_id}"), KEY)) for n in nodes}
    replicas = store.read_replicas(url, settings.pool_id)
    moves = database.query(url, "list_open_moves", {"pool_id": settings.pool_id})
    current = routing_store.current(url, settings.pool_id)
    entries = current.replicas if current else ()
    return [
        NodeScene(
            n.node_id,
            n.state,
            said[n.node_id],
            frozenset(stray_shards(settings, n.node_id)),
            {r.shard_id: r for r in entries if r.node_id == n.node_id},
            {r.shard_id: r for r in replicas if r.node_id == n.node_id},
            frozenset(m["shard_id"] for m in moves if n.node_id in (m["source"], m["target"])),
        )
        for n in nodes
    ]


def look_at(settings: Settings, url: str, node_id: str) -> NodeScene:
    return next(n for n in look_at_nodes(settings, url) if n.node_id == node_id)
