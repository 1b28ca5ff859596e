"""The states of a plan, which of them may follow which, and the events that record it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg2.extras import RealDictCursor

from foreshard.errors import ForeshardError, Refused
from foreshard.routing import database

# What may follow each state of a plan. A failed plan may be taken up again.
STATES: dict[str, tuple[str, ...]] = {
    "proposed": ("approved", "rejected", "failed"),
    "approved": ("running", "rejected", "failed"),
    "rejected": (),
    "running": ("done", "failed", "rolled_back"),
    "done": (),
    "rolled_back": (),
    "failed": ("running",),
}


def move_on(cursor: RealDictCursor, key: Mapping[str, Any], state: str, actor: str, detail: str) -> None:
    """Moves a plan on and appends the event; one already there stays. Raises Refused, or ForeshardError without such a plan."""
    rows = database.run(cursor, "lock_plan", key)
    if not rows:
        raise ForeshardError(no_plan(key["pool_id"], key["plan_id"]))
    now = rows[0]["state"]
    if now == state:
        return
    if state not in STATES[now]:
        after = ", ".join(STATES[now]) or "nothing"
        raise Refused(f"plan {key['plan_id']} is {now} and cannot become {state}; after {now} comes {after}")
    database.run(cursor, "update_plan_state", {**key, "state": state})
    append_event(cursor, key, state, actor, detail)


def append_event(
    cursor: RealDictCursor,
    key: Mapping[str, Any],
    stage: str,
    actor: str,
    detail: str,
    position: int | None = None,
    source_version: int | None = None,
    rows: int | None = None,
) -> None:
    step = {"stage": stage, "actor": actor, "detail": detail}
    figures = {"position": position, "source_version": source_version, "rows": rows}
    database.run(cursor, "insert_event", {**key, **step, **figures})


def no_plan(pool_id: str, plan_id: str) -> str:
    """The sentence for a plan that is not there."""
    return f"pool {pool_id} has no plan {plan_id}; `foreshard plan show` lists them"
