"""The pool and its nodes as registered in Postgres: what is sharded, over which nodes, under which policy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from psycopg2.extras import Json, RealDictCursor
from pydantic import TypeAdapter

from foreshard.errors import ForeshardError, Refused
from foreshard.model import Node, NodeState, Policy
from foreshard.routing import database
from foreshard.routing.database import KeptConnection, Row
from foreshard.settings import NodeSettings, Settings

_POLICY: TypeAdapter[Policy] = TypeAdapter(Policy)


@dataclass(frozen=True, slots=True)
class Pool:
    """One thing that is sharded; `current_epoch` is 0 before anything is published.

    `desired_nodes`: how many nodes the newest plan asks for, None before one says. `shadow_since`: since when its plans are
    only recorded, begun by `shadow_by`; None: they are carried out.
    """

    pool_id: str
    kind: str
    slot_bits: int
    policy: Policy
    current_epoch: int
    desired_nodes: int | None = None
    shadow_since: datetime | None = None
    shadow_by: str = ""

    @property
    def shadow_mode(self) -> str:
        """Since when the pool only records its plans, as the beginning of a sentence; empty if they are carried out."""
        if self.shadow_since is None:
            return ""
        return f"pool {self.pool_id} has been in shadow mode since {self.shadow_since.astimezone(UTC):%F %H:%M} UTC"


def register(url: str, settings: Settings) -> Pool:
    """Writes the pool, its policy and its declared nodes; safe to repeat.

    A node's state stays as it is, and its URL unless the settings name one. Nodes that are no longer declared stay too:
    they may hold data. Refused if slot_bits differs from the registered pool's, as every stored slot depends on it.
    """
    policy = Json(asdict(settings.policy))
    with database.transaction(url) as cursor:
        rows = database.run(
            cursor, "upsert_pool", {"pool_id": settings.pool_id, "slot_bits": settings.slot_bits, "policy": policy}
        )
        pool = from_row(rows[0])
        if pool.slot_bits != settings.slot_bits:
            raise Refused(
                f"pool {pool.pool_id} has slot_bits {pool.slot_bits}, not {settings.slot_bits}: stored slots depend on it; "
                "restore the setting or make a new pool"
            )
        for node in settings.nodes:
            _upsert_node(cursor, settings.pool_id, node)
    return pool


def _upsert_node(cursor: RealDictCursor, pool_id: str, node: NodeSettings) -> None:
    parameters = {"node_id": node.node_id, "capacity": node.capacity, "url": node.url, "zone": node.zone}
    database.run(cursor, "upsert_node", {"pool_id": pool_id, **parameters})


def read_pool(url: str | KeptConnection, pool_id: str) -> Pool:
    """The pool; raises ForeshardError if it is not registered."""
    rows = database.query(url, "read_pool", {"pool_id": pool_id})
    if not rows:
        raise ForeshardError(f"pool {pool_id} is not registered; run `foreshard init`")
    return from_row(rows[0])


def read_nodes(url: str | KeptConnection, pool_id: str) -> tuple[Node, ...]:
    """The pool's nodes by name, the dead ones included."""
    return tuple(as_node(row) for row in database.query(url, "read_nodes", {"pool_id": pool_id}))


def set_node_state(url: str, pool_id: str, node_id: str, state: NodeState) -> None:
    """Raises ForeshardError if the pool has no such node."""
    _require(
        database.query(url, "set_node_state", {"pool_id": pool_id, "node_id": node_id, "state": state.value}), pool_id, node_id
    )


def set_node_url(url: str, pool_id: str, node_id: str, node_url: str) -> None:
    """Where the node answers from now on; raises ForeshardError if the pool has no such node."""
    _require(database.query(url, "set_node_url", {"pool_id": pool_id, "node_id": node_id, "url": node_url}), pool_id, node_id)


def set_desired_nodes(url: str, pool_id: str, n: int | None) -> None:
    """How many nodes the pool should have, for whoever provides them; None: nobody says. ForeshardError without the pool."""
    if n is not None and n < 1:
        raise ForeshardError(f"pool {pool_id} cannot do with {n} nodes; name at least 1")
    if not database.query(url, "set_desired_nodes", {"pool_id": pool_id, "desired_nodes": n}):
        raise ForeshardError(f"pool {pool_id} is not registered; run `foreshard init`")


def set_shadow(url: str, pool_id: str, by: str | None) -> Pool:
    """Begins shadow mode in the name of `by`, or ends it (None): in it plans are recorded and none is begun.

    Safe to repeat: who began it first, and when, stays. A plan that is running goes on to its end. ForeshardError without the
    pool.
    """
    rows = database.query(url, "set_shadow_mode", {"pool_id": pool_id, "by": by})
    if not rows:
        raise ForeshardError(f"pool {pool_id} is not registered; run `foreshard init`")
    return from_row(rows[0])


def as_node(row: Row) -> Node:
    """A node from a row of table `node`."""
    return Node(row["node_id"], row["capacity"], NodeState(row["state"]), row["url"], row["zone"])


def _require(rows: list[Row], pool_id: str, node_id: str) -> None:
    if not rows:
        raise ForeshardError(
            f"pool {pool_id} has no node {node_id}; add it to `nodes` in the settings and run `foreshard init`"
        )


def from_row(row: Row) -> Pool:
    """A pool from a row of table `pool`."""
    policy = _POLICY.validate_python(row["policy"])
    head = (row["pool_id"], row["kind"], row["slot_bits"], policy)
    return Pool(*head, row["current_epoch"], row["desired_nodes"], row["shadow_since"], row["shadow_by"])
