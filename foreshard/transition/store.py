"""Plans, their moves and events, and what nodes and tables hold, in Postgres: all that a transition resumes from.

Every function is one transaction and safe to repeat, so that a killed run carries on by doing its step again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, Literal

from psycopg2.extras import Json

from foreshard.errors import ForeshardError, Refused
from foreshard.model import Goal, MoveKind, Plan
from foreshard.routing import database
from foreshard.routing.database import KeptConnection
from foreshard.transition import lease as leases
from foreshard.transition.lease import Lease
from foreshard.transition.plan_state import append_event, move_on, no_plan


@dataclass(frozen=True, slots=True)
class PlanRecord:
    pool_id: str
    plan_id: str
    state: str
    base_epoch: int
    input_digest: str
    summary: str
    document: dict[str, Any]
    created_at: datetime
    last_epoch: int  # that it published, `base_epoch` before its first
    rollback_reason: str


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """A move and how far it has come; `rows_copied` and `source_version` are None until known.

    `goal`, `gain` and `wave` are None for moves stored before they were kept. `since`: in its state; `step`: of the cut-over.
    """

    position: int
    kind: MoveKind
    shard_id: int
    source: str
    target: str
    covers_from: date | None
    bytes: int
    reason: str
    state: str
    rows_copied: int | None
    source_version: int | None
    goal: Goal | None = None
    gain: float | None = None
    wave: int | None = None
    start_by: datetime | None = None
    since: datetime | None = None
    paused_from: str | None = None
    attempts: int = 0
    step: int = 0
    bytes_copied: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One step of a move, or of the plan as a whole where `position` is None."""

    position: int | None
    stage: str
    at: datetime
    actor: str
    epoch: int | None
    source_version: int | None
    rows: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    """What one node holds of one shard; state is copying, verified, serving or retiring."""

    shard_id: int
    node_id: str
    state: str
    covers_from: date | None = None
    applied_version: int | None = None
    verified_version: int | None = None
    verified_at: datetime | None = None


def save_plan(url: str, plan: Plan, document: Mapping[str, Any], problem: bytes | None = None) -> str:
    """Stores a plan as proposed, with its moves and the problem it was made from; one already stored stays as it is.

    Returns the state that it is in.
    """
    key = {"pool_id": plan.pool_id, "plan_id": plan.plan_id}
    with database.transaction(url) as cursor:
        head = {"base_epoch": plan.base_epoch, "input_digest": plan.input_digest, "summary": plan.summary}
        if not database.run(cursor, "insert_plan", {**key, **head, "document": Json(document), "problem": problem}):
            state: str = database.run(cursor, "read_plan", key)[0]["state"]
            return state
        moves = [{"position": position, **asdict(move)} for position, move in enumerate(plan.moves)]
        database.run(cursor, "insert_plan_moves", {**key, "moves": Json(moves, dumps=_json)})
        append_event(cursor, key, "proposed", "planner", plan.summary)
    return "proposed"


def read_plan(url: str | KeptConnection, pool_id: str, plan_id: str) -> PlanRecord:
    """Raises ForeshardError if the pool has no such plan."""
    rows = database.query(url, "read_plan", {"pool_id": pool_id, "plan_id": plan_id})
    if not rows:
        raise ForeshardError(no_plan(pool_id, plan_id))
    return PlanRecord(**rows[0])


def read_problem(url: str, pool_id: str, plan_id: str) -> bytes | None:
    """The problem kept beside a plan, as plan_problem.packed wrote it; None if there is none."""
    rows = database.query(url, "read_plan_problem", {"pool_id": pool_id, "plan_id": plan_id})
    kept = rows[0]["problem"] if rows else None
    return None if kept is None else bytes(kept)


def latest_plan(url: str, pool_id: str) -> PlanRecord | None:
    """The plan stored last, whatever its state."""
    rows = database.query(url, "read_latest_plan", {"pool_id": pool_id})
    return PlanRecord(**rows[0]) if rows else None


def running_plan(url: str, pool_id: str) -> PlanRecord | None:
    """The plan that is being carried out, if there is one."""
    rows = database.query(url, "read_running_plan", {"pool_id": pool_id})
    return PlanRecord(**rows[0]) if rows else None


def set_plan_state(url: str, pool_id: str, plan_id: str, state: str, actor: str, detail: str = "") -> None:
    """Moves a plan on and records it; a plan already in that state stays. Refused unless plan_state.STATES allows the step."""
    key = {"pool_id": pool_id, "plan_id": plan_id}
    with database.transaction(url) as cursor:
        move_on(cursor, key, state, actor, detail)


def record_approval(url: str, pool_id: str, plan_id: str, decision: Literal["approved", "rejected"], decided_by: str) -> None:
    """Records who decided, and moves the plan to that state; Refused if the other was decided before."""
    key = {"pool_id": pool_id, "plan_id": plan_id}
    with database.transaction(url) as cursor:
        move_on(cursor, key, decision, decided_by, "")
        database.run(cursor, "insert_approval", {**key, "decision": decision, "decided_by": decided_by})


def read_moves(url: str | KeptConnection, pool_id: str, plan_id: str) -> list[MoveRecord]:
    """The moves of a plan in their order; raises ForeshardError if the pool has no such plan."""
    rows = database.query(url, "read_plan_moves", {"pool_id": pool_id, "plan_id": plan_id})
    if not rows:
        read_plan(url, pool_id, plan_id)
    return [MoveRecord(**{**row, "kind": MoveKind(row["kind"]), "goal": row["goal"] and Goal(row["goal"])}) for row in rows]


def record_event(
    url: str,
    pool_id: str,
    plan_id: str,
    stage: str,
    actor: str,
    *,
    position: int | None = None,
    source_version: int | None = None,
    rows: int | None = None,
    detail: str = "",
) -> None:
    """Appends one event. Unlike the rest of this module it appends again when repeated."""
    with database.transaction(url) as cursor:
        append_event(cursor, {"pool_id": pool_id, "plan_id": plan_id}, stage, actor, detail, position, source_version, rows)


def read_events(url: str, pool_id: str, plan_id: str) -> list[EventRecord]:
    """A plan's events, oldest first."""
    return [EventRecord(**row) for row in database.query(url, "read_events", {"pool_id": pool_id, "plan_id": plan_id})]


def upsert_replicas(url: str, pool_id: str, rows: Iterable[ReplicaRecord]) -> None:
    """Writes what nodes hold. A `verified_version` of None keeps the stored one, except while the replica is copied anew.

    `verified_at` is the database's time when the verified version changed, unless given.
    """
    records = list(rows)
    parameters: dict[str, Any] = {"pool_id": pool_id}
    for name in ReplicaRecord.__dataclass_fields__:
        parameters[name] = [getattr(record, name) for record in records]
    database.query(url, "upsert_replicas", parameters)


def read_replicas(url: str | KeptConnection, pool_id: str) -> list[ReplicaRecord]:
    """All replicas by shard and node."""
    return [ReplicaRecord(**row) for row in database.query(url, "read_replicas", {"pool_id": pool_id})]


def of_replicas(pool_id: str, replicas: Sequence[tuple[int, str]]) -> dict[str, object]:
    """The parameters of statements about replicas (shard, node)."""
    return {"pool_id": pool_id, "shard_ids": [s for s, _ in replicas], "node_ids": [n for _, n in replicas]}


def delete_replicas(url: str, pool_id: str, replicas: Sequence[tuple[int, str]], lease: Lease | None = None) -> None:
    """Forgets the replicas (shard, node): their node no longer holds them. Under the lease's fence if one is given.

    Refused while the current epoch routes to one.
    """
    parameters = of_replicas(pool_id, replicas)
    with database.transaction(url) as cursor:
        if lease is not None:
            leases.check(cursor, lease)
        routed = database.run(cursor, "find_routed_replicas", parameters)
        if routed:
            shard_id, node_id, epoch = routed[0]["shard_id"], routed[0]["node_id"], routed[0]["epoch"]
            raise Refused(
                f"shard {shard_id} on {node_id} is routed to by the current epoch {epoch}; publish one without it first"
            )
        database.run(cursor, "delete_replicas", parameters)


def pin_version(url: str, pool_id: str, table: str, version: int, holder: str) -> None:
    """Keeps VACUUM from this version of a Delta table until unpinned; each holder has one pin a table, the newest call's."""
    database.query(url, "pin_version", {"pool_id": pool_id, "table_name": table, "version": version, "holder": holder})


def unpin(url: str, pool_id: str, table: str, holder: str) -> None:
    """Gives up a holder's pin, if there is one."""
    database.query(url, "unpin_version", {"pool_id": pool_id, "table_name": table, "holder": holder})


def oldest_pin(url: str, pool_id: str, table: str) -> int | None:
    """The oldest version that somebody still reads; None if nobody does."""
    rows = database.query(url, "read_oldest_pin", {"pool_id": pool_id, "table_name": table})
    oldest: int | None = rows[0]["version"]
    return oldest


def record_landed_file(url: str, pool_id: str, file_name: str, landed_at: datetime) -> None:
    """Makes a landed file known, pending; `file_name` is its path below the landing folder. One already known stays."""
    database.query(url, "insert_landed_file", {"pool_id": pool_id, "file_name": file_name, "landed_at": landed_at})


def mark_files_applied(url: str, pool_id: str, file_names: Iterable[str], version: int) -> None:
    """Records the first version of usage_hourly with the files in it; one recorded before stays, unknown names are left out."""
    database.query(url, "mark_files_applied", {"pool_id": pool_id, "file_names": list(file_names), "version": version})


def applied_version_of(url: str, pool_id: str, file_name: str) -> int | None:
    """The first version of usage_hourly that includes the file, None while pending; Refused if no such file landed."""
    rows = database.query(url, "read_applied_version", {"pool_id": pool_id, "file_name": file_name})
    if not rows:
        raise Refused(f"no file {file_name} has landed in pool {pool_id}; its token is of another pool or too old")
    version: int | None = rows[0]["applied_version"]
    return version


def _json(value: object) -> str:
    return json.dumps(value, default=str)
