"""One epoch's publication inside a transaction: the compare-and-set, the rows, and the checks against plan and replicas."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import date

from psycopg2.extras import RealDictCursor

from foreshard.errors import ForeshardError, Refused
from foreshard.model import Replica
from foreshard.routing import database, pool
from foreshard.routing.database import Row
from foreshard.routing.invariants import check_snapshot
from foreshard.routing.snapshot import Snapshot, encode

# How many replicas a refusal names.
_NAMED = 5


def write_epoch(
    cursor: RealDictCursor, snapshot: Snapshot, expected_epoch: int, published_by: str, reason: str, plan_id: str
) -> None:
    """Writes all rows of an epoch and notifies at commit; Refused as `store.publish` says.

    The compare-and-set comes first: its row lock lets one publisher through at a time.
    """
    key = {"pool_id": snapshot.pool_id, "epoch": snapshot.epoch}
    if (snapshot.epoch, snapshot.parent) != (expected_epoch + 1, expected_epoch):
        raise Refused(
            f"epoch {snapshot.epoch} with parent {snapshot.parent} does not follow epoch {expected_epoch}; take the next number"
        )
    moved = database.run(cursor, "move_current_epoch", {**key, "expected_epoch": expected_epoch})
    if not moved:
        raise Refused(_not_current(cursor, snapshot.pool_id, expected_epoch))
    target = pool.from_row(moved[0])
    if target.slot_bits != snapshot.slot_bits:
        raise Refused(
            f"epoch {snapshot.epoch} has slot_bits {snapshot.slot_bits}, pool {target.pool_id} has {target.slot_bits}"
        )
    nodes = [pool.as_node(row) for row in database.run(cursor, "read_nodes", key)]
    now = None
    if plan_id and expected_epoch:
        before = database.run(cursor, "count_full_replicas", {**key, "epoch": expected_epoch})
        now = {row["shard_id"]: int(row["replicas"]) for row in before}
    check_snapshot(snapshot, target.policy, {node.node_id for node in nodes if node.is_live}, now)
    packed, checksum = encode(snapshot)
    database.run(
        cursor,
        "insert_routing_epoch",
        {
            **key,
            "parent": snapshot.parent,
            "plan_id": plan_id,
            "snapshot": packed,
            "checksum": checksum,
            "published_by": published_by,
            "reason": reason,
        },
    )
    database.run(cursor, "insert_routing_entries", {**key, **_entries(snapshot.replicas)})
    isolated = {"entity_ids": [e for e, _ in snapshot.isolated], "shard_ids": [s for _, s in snapshot.isolated]}
    database.run(cursor, "replace_isolated_entities", {**key, **isolated})
    database.run(cursor, "mark_replicas_serving", key)
    # Delivered at commit, and only then.
    database.run(cursor, "notify_epoch", {"channel": channel(snapshot.pool_id), "payload": str(snapshot.epoch)})


def _entries(replicas: Sequence[Replica]) -> dict[str, object]:
    """The parameters of insert_routing_entries."""
    names: dict[str, int] = {}
    days: dict[date | None, int] = {}
    return {
        "shard": _array(str(r.shard_id) for r in replicas),
        "node": _array(str(names.setdefault(r.node_id, len(names) + 1)) for r in replicas),
        "weight": _array(repr(float(r.weight)) for r in replicas),
        "day": _array(str(days.setdefault(r.covers_from, len(days) + 1)) for r in replicas),
        "names": list(names),
        "days": list(days),
    }


def _array(numbers: Iterable[str]) -> str:
    return "{" + ",".join(numbers) + "}"


def check_plan(cursor: RealDictCursor, pool_id: str, plan_id: str, expected_epoch: int) -> None:
    """Locks the plan; Refused unless it is carried out and the epoch to be replaced is its own last one."""
    rows = database.run(cursor, "lock_plan", {"pool_id": pool_id, "plan_id": plan_id})
    if not rows:
        raise ForeshardError(f"pool {pool_id} has no plan {plan_id}; `foreshard plan show` lists them")
    if rows[0]["state"] not in ("approved", "running"):
        raise Refused(f"plan {plan_id} is {rows[0]['state']}, and only an approved or running plan is published")
    if rows[0]["last_epoch"] != expected_epoch:
        raise Refused(f"plan {plan_id} goes on from epoch {rows[0]['last_epoch']}, not {expected_epoch}; plan again")


def refuse_unverified(cursor: RealDictCursor, snapshot: Snapshot, trusted_epoch: int) -> None:
    """Every replica must be verified or serving, but for those that `trusted_epoch` already routes to as widely."""
    key = {"pool_id": snapshot.pool_id, "epoch": snapshot.epoch, "trusted_epoch": trusted_epoch}
    rows = database.run(cursor, "find_unverified_entries", key)
    if rows:
        shard_id, node_id, state = rows[0]["shard_id"], rows[0]["node_id"], rows[0]["state"]
        raise Refused(
            f"shard {shard_id} on {node_id} is not verified for the days that epoch {snapshot.epoch} routes to it "
            f"(its replica is {state}); copy and verify it first"
        )


def refuse_unready(cursor: RealDictCursor, snapshot: Snapshot, at_least: int) -> None:
    """Every replica must be on a live node and have applied this version of the source; Refused names those that have not."""
    key = {"pool_id": snapshot.pool_id, "epoch": snapshot.epoch, "at_least": at_least}
    rows = database.run(cursor, "find_unready_entries", key)
    if rows:
        said = "; ".join(_unready(row, at_least) for row in rows[:_NAMED])
        more = f"; and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        raise Refused(f"nothing was published, because replicas of that layout cannot serve now: {said}{more}")


def _unready(row: Row, at_least: int) -> str:
    name = f"shard {row['shard_id']} on {row['node_id']}"
    if row["node_state"] in ("dead", "gone"):
        return f"{name} is on a node that is {row['node_state']}"
    return f"{name} has applied version {row['applied_version']} of the source and needs {at_least}"


def _not_current(cursor: RealDictCursor, pool_id: str, expected_epoch: int) -> str:
    rows = database.run(cursor, "read_pool", {"pool_id": pool_id})
    if not rows:
        return f"pool {pool_id} is not registered; run `foreshard init`"
    now = rows[0]["current_epoch"]
    return f"epoch {expected_epoch} is no longer current in pool {pool_id}: epoch {now} is; nothing was published, plan again"


def channel(pool_id: str) -> str:
    """The NOTIFY channel of a pool; a name that Postgres would refuse or that two pools would share gets a hash."""
    plain = re.sub(r"[^a-z0-9_]", "_", pool_id.lower())[:40]
    suffix = "" if plain == pool_id else "_" + hashlib.sha256(pool_id.encode("utf-8")).hexdigest()[:12]
    return f"foreshard_{plain}{suffix}"
