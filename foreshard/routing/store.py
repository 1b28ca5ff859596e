"""Epochs in Postgres: published by compare-and-set, read, rolled back, and what gateways and nodes report about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg2 import errors
from psycopg2.extras import Json, RealDictCursor

from foreshard.errors import ForeshardError, Refused
from foreshard.routing import database, pool
from foreshard.routing.corrections import factors_now
from foreshard.routing.database import KeptConnection
from foreshard.routing.pool import Pool
from foreshard.routing.publication import check_plan, refuse_unready, refuse_unverified, write_epoch
from foreshard.routing.snapshot import Snapshot
from foreshard.routing.subscription import decoded
from foreshard.transition import lease as leases
from foreshard.transition.lease import Lease

_NO_EPOCH = -1


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One line of a pool's routing history."""

    epoch: int
    parent: int
    plan_id: str
    checksum: str
    published_at: datetime
    published_by: str
    reason: str
    is_current: bool
    removed_at: datetime | None = None  # when retention took its content
    removed_because: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A node's latest report; `age_seconds` by the database's clock, `load` in weighted requests per second."""

    node_id: str
    at: datetime
    age_seconds: float
    load: float
    shards: dict[int, int]  # shard → applied version
    capacity: float | None = None  # in the unit of load; None if the node did not say
    incarnation: str = ""  # of the process that reports: another one, another start
    service_seconds: float | None = None  # that a query takes at present; None if the node did not say


def publish(
    url: str,
    snapshot: Snapshot,
    *,
    expected_epoch: int,
    published_by: str,
    reason: str,
    plan_id: str = "",
    lease: Lease | None = None,
    within: Callable[[RealDictCursor], object] | None = None,
) -> None:
    """Makes the snapshot the pool's current epoch, in one transaction, and notifies the gateways.

    `within` is done in the same transaction, after the rest: if it raises, nothing is published.

    Refused, with nothing written: when `expected_epoch` is no longer current; when the lease is lost; when a shard lacks full
    replicas on live nodes; and, for a plan's epoch, when the plan is not approved, goes on from another epoch, or adds a
    replica that is not verified. Replicas that were verified are serving from then on.
    """
    with database.transaction(url) as cursor:
        if lease is not None:
            leases.check(cursor, lease)
        if plan_id:
            check_plan(cursor, snapshot.pool_id, plan_id, expected_epoch)
        write_epoch(cursor, snapshot, expected_epoch, published_by, reason, plan_id)
        if plan_id:
            refuse_unverified(cursor, snapshot, snapshot.parent)
            database.run(
                cursor,
                "mark_plan_published",
                {
                    "pool_id": snapshot.pool_id,
                    "plan_id": plan_id,
                    "actor": published_by,
                    "epoch": snapshot.epoch,
                    "detail": reason,
                },
            )
        if within is not None:
            within(cursor)


def rollback(
    url: str,
    pool_id: str,
    to_epoch: int,
    actor: str,
    *,
    at_least: int = 0,
    check: Callable[[Snapshot, Pool], object] | None = None,
) -> int:
    """Publishes the content of an older epoch as a new one and returns its number.

    The nodes' addresses, capacities, states and corrections are those of now. Refused, naming the replicas, unless each is
    verified or serving, on a node that lives, and has applied version `at_least` of the source. `check` gets the new epoch and
    the pool before anything is written, and may raise.
    """
    old = epoch(url, pool_id, to_epoch)
    nodes = {node.node_id: node for node in pool.read_nodes(url, pool_id)}
    of_now = pool.read_pool(url, pool_id)
    if to_epoch == of_now.current_epoch:
        raise Refused(f"epoch {to_epoch} is already current in pool {pool_id}")
    new = replace(
        old,
        epoch=of_now.current_epoch + 1,
        parent=of_now.current_epoch,
        nodes=tuple(nodes.get(node.node_id, node) for node in old.nodes),
        shadows=(),  # what was compared then may be gone
        corrections=factors_now(url, pool_id),
    )
    if check is not None:
        check(new, of_now)
    with database.transaction(url) as cursor:
        write_epoch(cursor, new, of_now.current_epoch, actor, f"rolled back to epoch {to_epoch}", "")
        refuse_unverified(cursor, new, _NO_EPOCH)
        refuse_unready(cursor, new, at_least)
    return new.epoch


def current(url: str | KeptConnection, pool_id: str) -> Snapshot | None:
    """The current snapshot, None before the first; raises ForeshardError if it is damaged."""
    rows = database.query(url, "read_current_snapshot", {"pool_id": pool_id})
    return decoded(rows[0], pool_id) if rows else None


def isolated_entities(url: str, pool_id: str) -> dict[str, int]:
    """Entity → its own shard, of the current epoch; empty before the first."""
    snapshot = current(url, pool_id)
    return dict(snapshot.isolated) if snapshot else {}


def epoch(url: str, pool_id: str, n: int) -> Snapshot:
    """The snapshot of one epoch; raises ForeshardError if it was never published, Refused if its content was removed."""
    rows = database.query(url, "read_snapshot", {"pool_id": pool_id, "epoch": n})
    if not rows:
        raise ForeshardError(f"pool {pool_id} has no epoch {n}; `foreshard routes history` lists them")
    if rows[0]["snapshot"] is None:
        raise Refused(f"the content of epoch {n} of pool {pool_id} was removed: {rows[0]['removed_because']}")
    return decoded(rows[0], pool_id)


def history(url: str, pool_id: str, limit: int = 20) -> list[EpochRecord]:
    """The newest epochs first."""
    return [EpochRecord(**row) for row in database.query(url, "list_epochs", {"pool_id": pool_id, "limit": limit})]


def register_gateway(url: str | KeptConnection, pool_id: str, gateway_id: str, lease_seconds: float) -> None:
    """Starts or prolongs a gateway's lease: while it lasts, no copy is retired before the gateway has acknowledged."""
    try:
        database.query(url, "register_gateway", {"pool_id": pool_id, "gateway_id": gateway_id, "lease_seconds": lease_seconds})
    except errors.ForeignKeyViolation:
        raise ForeshardError(f"pool {pool_id} is not registered; run `foreshard init`") from None


def acknowledge(url: str | KeptConnection, pool_id: str, gateway_id: str, epoch: int) -> None:
    """Records that a gateway routes by this epoch and has drained its queries under older ones; safe to repeat."""
    try:
        database.query(url, "acknowledge_epoch", {"pool_id": pool_id, "gateway_id": gateway_id, "epoch": epoch})
    except errors.ForeignKeyViolation:
        raise ForeshardError(f"gateway {gateway_id} is not registered in pool {pool_id}; register it first") from None


def unacknowledged(url: str | KeptConnection, pool_id: str, epoch: int) -> list[str]:
    """The gateways with a live lease whose newest acknowledgement is below `epoch`."""
    rows = database.query(url, "list_unacknowledged", {"pool_id": pool_id, "epoch": epoch})
    return [row["gateway_id"] for row in rows]


def write_heartbeat(
    url: str,
    pool_id: str,
    node_id: str,
    load: float,
    shards: Mapping[int, int],
    *,
    capacity: float | None = None,
    incarnation: str = "",
    service_seconds: float | None = None,
) -> None:
    """A node's report: its load in weighted requests per second and the applied version of each shard it holds.

    `capacity` None: as registered. `incarnation` tells the node's processes apart. `service_seconds`: how long a query takes at
    present; None if nothing is known of it.
    """
    if not (math.isfinite(load) and load >= 0):
        raise ForeshardError(f"heartbeat of {node_id}: load {load} is not a number of at least 0")
    if service_seconds is not None and not (math.isfinite(service_seconds) and service_seconds >= 0):
        raise ForeshardError(f"heartbeat of {node_id}: service_seconds {service_seconds} is not a number of at least 0")
    report = {
        "pool_id": pool_id,
        "node_id": node_id,
        "load": load,
        "shards": Json(dict(shards)),
        "capacity": capacity,
        "incarnation": incarnation,
        "service_seconds": service_seconds,
    }
    try:
        database.query(url, "write_heartbeat", report)
    except errors.ForeignKeyViolation:
        raise ForeshardError(f"pool {pool_id} has no node {node_id}; add it to `nodes` in the settings") from None


def read_heartbeats(url: str | KeptConnection, pool_id: str) -> dict[str, Heartbeat]:
    """The latest report of each node, by node id."""
    rows = database.query(url, "read_heartbeats", {"pool_id": pool_id})
    for row in rows:
        row["shards"] = {int(shard): version for shard, version in row["shards"].items()}
    return {row["node_id"]: Heartbeat(**row) for row in rows}
