"""Adding, emptying and removing nodes: the row in Postgres says what is wanted, the provisioner does it, plans move the data.

Each call takes the lease `<pool>/nodes`, and repeating it after a kill goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import RealDictCursor

from foreshard import settings as configuration
from foreshard.errors import ForeshardError, Refused
from foreshard.model import Node, NodeState
from foreshard.nodes.operations import is_open, operation
from foreshard.nodes.provisioner import Operation, Verb, provisioner_of
from foreshard.routing import database, pool
from foreshard.routing import store as routing_store
from foreshard.settings import Settings
from foreshard.transition import lease, store
from foreshard.transition.acts import serving_lease
from foreshard.transition.retire import drop_shards, holdings_of

_LEASE_SECONDS = 60.0
_WAIT_SECONDS = 60.0
# A node that nobody provides must have been silent for so long, several heartbeats, to count as stopped.
_STOPPED_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node as `foreshard node list` shows it: `routed` shards by the current epoch, `held` as the replicas' rows say."""

    node_id: str
    state: str
    capacity: float
    zone: str
    load: float | None
    heartbeat_age_seconds: float | None
    routed: int
    held: int
    process: str  # as the provisioner sees it; empty if it does not know


def add_node(settings: Settings, url: str, node_id: str, capacity: float, zone: str = "") -> Operation:
    """Registers the node as joining and has it started; the next plan fills it. Repeating it for a running node does nothing.

    A node that was dead or being emptied joins again. Raises ForeshardError for a bad name or capacity, or if the provisioner
    could not start it: it then stays joining, and the call is repeated.
    """
    configuration.check_name("node_id", node_id)
    if not 0 < capacity < math.inf:
        raise ForeshardError(f"node {node_id}: capacity must be above 0, not {capacity}")
    pool.read_pool(url, settings.pool_id)
    provisioner = provisioner_of(settings)
    with _alone(settings, url):
        before = _states(url, settings.pool_id).get(node_id)
        if before is NodeState.DEAD:  # the heartbeats of its last life must not count for this one
            database.query(url, "delete_heartbeat", _key(settings, node_id))
        database.query(url, "upsert_joining_node", {**_key(settings, node_id), "capacity": capacity, "zone": zone})
        runs = provisioner.observe().get(node_id) == "running"
        if runs and not is_open(url, settings.pool_id, node_id, Verb.ADD):
            return Operation(Verb.ADD, node_id, "runs already")
        with operation(url, settings.pool_id, node_id, Verb.ADD) as under_way:
            made = provisioner.add_node(node_id, capacity, zone, under_way.operation_id)
            under_way.done(made)
        return made


def drain_node(settings: Settings, url: str, node_id: str) -> Operation:
    """Marks the node as draining: the next plan empties it, and it answers until then. Repeating it does nothing.

    Refused if the nodes that remain are too few for the pool's full replicas, and for a dead node.
    """
    with _alone(settings, url):
        policy = pool.read_pool(url, settings.pool_id).policy
        with database.transaction(url) as cursor:
            nodes = _locked(cursor, settings.pool_id)
            node = _known(nodes, settings.pool_id, node_id)
            if node.state is NodeState.DEAD:
                raise Refused(f"node {node_id} is dead, there is nothing to empty; `foreshard node remove {node_id}`")
            left = [n.node_id for n in nodes.values() if n.accepts_shards and n.node_id != node_id]
            if len(left) < policy.min_full_replicas:
                raise Refused(
                    f"without {node_id} the pool would have {len(left)} nodes for {policy.min_full_replicas} full replicas; "
                    "add a node first"
                )
            key = {**_key(settings, node_id), "state": NodeState.DRAINING.value}
            database.run(cursor, "set_node_state", key)
        if node.state is NodeState.DRAINING and not is_open(url, settings.pool_id, node_id, Verb.DRAIN):
            return Operation(Verb.DRAIN, node_id, "is being emptied already")
        with operation(url, settings.pool_id, node_id, Verb.DRAIN) as under_way:
            made = provisioner_of(settings).drain_node(node_id, under_way.operation_id)
            under_way.done(made)
        return made


def remove_node(settings: Settings, url: str, node_id: str) -> Operation:
    """Has the node stopped, drops what its table still holds, and marks it dead; its row stays for the history.

    Refused unless it is draining or dead, while the current epoch routes to it, a gateway may still follow an older one, or a
    plan under way names it. Without a provisioner its process must have been stopped before.
    """
    pool_id = settings.pool_id
    with _alone(settings, url):
        with database.transaction(url) as cursor:
            node = _known(_locked(cursor, pool_id), pool_id, node_id)
        _refuse_needed(settings, url, node)
        with operation(url, pool_id, node_id, Verb.REMOVE) as under_way:
            made = provisioner_of(settings).remove_node(node_id, under_way.operation_id)
            with serving_lease(url, pool_id, node_id, "nodes"):
                drop_shards(settings, node_id, holdings_of(settings, node_id))
                kept = [(r.shard_id, node_id) for r in store.read_replicas(url, pool_id) if r.node_id == node_id]
                store.delete_replicas(url, pool_id, kept)
            pool.set_node_state(url, pool_id, node_id, NodeState.DEAD)
            # One that comes later is of a process that still runs, or runs again: the node then joins.
            database.query(url, "delete_heartbeat", _key(settings, node_id))
            under_way.done(made)
        return made


def list_nodes(settings: Settings, url: str) -> list[NodeReport]:
    """Every node of the pool by name, the dead ones included."""
    pool_id = settings.pool_id
    beats = routing_store.read_heartbeats(url, pool_id)
    current = routing_store.current(url, pool_id)
    routed = [r.node_id for r in current.replicas] if current else []
    held = [r.node_id for r in store.read_replicas(url, pool_id)]
    seen = provisioner_of(settings).observe()
    found = []
    for node in pool.read_nodes(url, pool_id):
        beat = beats.get(node.node_id)
        found.append(
            NodeReport(
                node.node_id,
                node.state.value,
                node.capacity,
                node.zone,
                beat.load if beat else None,
                round(beat.age_seconds, 1) if beat else None,
                routed.count(node.node_id),
                held.count(node.node_id),
                seen.get(node.node_id, ""),
            )
        )
    return found


def _refuse_needed(settings: Settings, url: str, node: Node) -> None:
    pool_id, name = settings.pool_id, node.node_id
    if node.state not in (NodeState.DRAINING, NodeState.DEAD):
        raise Refused(f"node {name} is {node.state}; empty it first with `foreshard node drain {name}`")
    needs = database.query(url, "find_needed_node", _key(settings, name))
    if needs:
        raise Refused(f"node {name} is still needed: {needs[0]['need']}; wait until that is over")
    epoch = pool.read_pool(url, pool_id).current_epoch
    waiting = routing_store.unacknowledged(url, pool_id, epoch)
    if waiting:
        raise Refused(f"gateways {', '.join(waiting)} have not adopted epoch {epoch} and may still ask {name}; try again")
    beat = routing_store.read_heartbeats(url, pool_id).get(name)
    if settings.provisioner.kind == "none" and beat is not None and beat.age_seconds < _STOPPED_SECONDS:
        raise Refused(f"node {name} still runs, and no provisioner is set to stop it: stop its process, then remove it")


@contextmanager
def _alone(settings: Settings, url: str) -> Iterator[lease.Lease]:
    with lease.held(url, f"{settings.pool_id}/nodes", lease.process_name("nodes"), _LEASE_SECONDS, _WAIT_SECONDS) as held:
        yield held


def _states(url: str, pool_id: str) -> dict[str, NodeState]:
    return {n.node_id: n.state for n in pool.read_nodes(url, pool_id)}


def _locked(cursor: RealDictCursor, pool_id: str) -> dict[str, Node]:
    return {row["node_id"]: pool.as_node(row) for row in database.run(cursor, "lock_nodes", {"pool_id": pool_id})}


def _known(nodes: dict[str, Node], pool_id: str, node_id: str) -> Node:
    if node_id not in nodes:
        raise ForeshardError(f"pool {pool_id} has no node {node_id}; `foreshard node list` shows those it has")
    return nodes[node_id]


def _key(settings: Settings, node_id: str) -> dict[str, Any]:
    return {"pool_id": settings.pool_id, "node_id": node_id}
