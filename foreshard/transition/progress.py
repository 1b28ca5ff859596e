"""How far a plan's moves have come, written in Postgres: legal steps only, each with its event.

Safe to repeat: a move that is already where it is sent stays, without an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psycopg2 import errors
from psycopg2.extras import RealDictCursor

from foreshard.errors import ForeshardError, Refused
from foreshard.routing import database, pool
from foreshard.transition import lease as leases
from foreshard.transition.lease import Lease
from foreshard.transition.machine import REVOCABLE, MoveState, may_follow
from foreshard.transition.plan_state import move_on


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Which plan, and who acts on it."""

    pool_id: str
    plan_id: str
    actor: str

    def parameters(self) -> dict[str, object]:
        return {"pool_id": self.pool_id, "plan_id": self.plan_id, "actor": self.actor}


def advance(
    cursor: RealDictCursor,
    key: PlanKey,
    positions: Iterable[int],
    state: MoveState,
    *,
    epoch: int | None = None,
    source_version: int | None = None,
    rows: Mapping[int, int] | None = None,
    step: int | None = None,
    detail: str = "",
    resuming: bool = False,
) -> list[int]:
    """Moves on, in the caller's transaction, and returns the positions that changed.

    Only with `resuming` does a paused move go on from where it was: a controller that had read it before it was paused may not.

    Refused, with nothing changed, if one of them may not go there from where it is (machine.FOLLOWS); raises ForeshardError
    if the plan has no such position.
    """
    wanted = sorted(set(positions))
    found = database.run(cursor, "lock_plan_moves", {**key.parameters(), "positions": wanted})
    if len(found) != len(wanted):
        missing = min(set(wanted) - {row["position"] for row in found})
        raise ForeshardError(f"plan {key.plan_id} of pool {key.pool_id} has no move at position {missing}")
    changing = []
    for row in found:
        now = MoveState(row["state"])
        if now is state and step in (None, row["step"]) and state is not MoveState.FAILED:
            continue
        before = MoveState(row["paused_from"]) if resuming and row["paused_from"] else None
        if now is not state and not may_follow(now, state, before):
            raise Refused(f"move {row['position']} of plan {key.plan_id} is {now} and cannot become {state}")
        changing.append(row["position"])
    if changing:
        counted = rows or {}
        parameters = {"state": state.value, "epoch": epoch, "source_version": source_version, "step": step, "detail": detail}
        counts = [counted.get(position) for position in changing]
        database.run(cursor, "advance_plan_moves", {**key.parameters(), **parameters, "positions": changing, "rows": counts})
    return changing


def advance_alone(url: str, lease: Lease, key: PlanKey, positions: Iterable[int], state: MoveState, **figures: object) -> None:
    """`advance` in a transaction of its own, under the lease's fence."""
    with database.transaction(url) as cursor:
        leases.check(cursor, lease)
        advance(cursor, key, positions, state, **figures)  # type: ignore[arg-type]


def start(url: str, lease: Lease, key: PlanKey) -> None:
    """Begins to carry a plan out, or takes a failed one up again.

    Refused while another plan of the pool is carried out: its shards are frozen until then. Refused in shadow mode, but for the
    first layout; a plan that was running when shadow mode began goes on to its end.
    """
    try:
        with database.transaction(url) as cursor:
            leases.check(cursor, lease)
            _refuse_in_shadow_mode(cursor, key)
            move_on(cursor, key.parameters(), "running", key.actor, "")
            # A plan that is taken up again asks anew: what kept a node from it may be over.
            database.run(cursor, "forget_refusals", key.parameters())
    except errors.UniqueViolation:
        raise Refused(
            f"another plan of pool {key.pool_id} is being carried out; plan {key.plan_id} waits until it is done or rolled back"
        ) from None


def _refuse_in_shadow_mode(cursor: RealDictCursor, key: PlanKey) -> None:
    # The pool before the plan, as a publication locks them.
    found = database.run(cursor, "share_pool", key.parameters())
    shadow_mode = pool.from_row(found[0]).shadow_mode if found else ""
    rows = database.run(cursor, "lock_plan", key.parameters()) if shadow_mode else []
    if rows and rows[0]["state"] != "running" and rows[0]["base_epoch"] > 0:
        raise Refused(f"{shadow_mode}: plan {key.plan_id} is recorded and not carried out; `foreshard shadow end` enables it")


def finish(url: str, lease: Lease, key: PlanKey, state: str, detail: str) -> None:
    """Ends a plan and gives up its pins."""
    with database.transaction(url) as cursor:
        leases.check(cursor, lease)
        move_on(cursor, key.parameters(), state, key.actor, detail)
        database.run(cursor, "unpin_version", {"pool_id": key.pool_id, "table_name": "usage_hourly", "holder": key.plan_id})


def record_bytes(url: str, lease: Lease, key: PlanKey, copied: Mapping[int, int]) -> bool:
    """Notes how many bytes of each move are copied; False if one of them is no longer being copied, or the lease is lost."""
    with database.transaction(url) as cursor:
        try:
            leases.check(cursor, lease)
        except Refused:
            return False
        pairs = {"positions": list(copied), "bytes": list(copied.values())}
        updated = database.run(cursor, "record_copied_bytes", {**key.parameters(), **pairs})
    return len(updated) == len(copied)


def pause(url: str, key: PlanKey, detail: str = "") -> list[int]:
    """Holds every move that may still be taken back, where it is; what is being copied stops at its next commit."""
    return _all_of(url, key, MoveState.PAUSED, detail)


def resume(url: str, key: PlanKey, detail: str = "") -> list[int]:
    """Lets paused moves go on from where they were; failed ones begin again from their copy."""
    changed = []
    with database.transaction(url) as cursor:
        for row in database.run(cursor, "read_plan_moves", key.parameters()):
            if row["state"] == MoveState.PAUSED.value:
                changed += advance(cursor, key, [row["position"]], MoveState(row["paused_from"]), detail=detail, resuming=True)
    return changed


def request_rollback(url: str, key: PlanKey, reason: str) -> None:
    """Asks the controller to take the plan back as far as it still can be; Refused once nothing of it can."""
    with database.transaction(url) as cursor:
        rows = database.run(cursor, "lock_plan", key.parameters())
        if not rows:
            raise ForeshardError(f"pool {key.pool_id} has no plan {key.plan_id}; `foreshard plan show` lists them")
        state = rows[0]["state"]
        moves = database.run(cursor, "read_plan_moves", key.parameters())
        if state not in ("approved", "running") or not any(_is_open(row["state"]) for row in moves):
            raise Refused(f"plan {key.plan_id} is {state} and has no move that can be taken back; make a new plan instead")
        database.run(cursor, "request_rollback", {**key.parameters(), "reason": reason})


def _all_of(url: str, key: PlanKey, state: MoveState, detail: str) -> list[int]:
    with database.transaction(url) as cursor:
        moves = database.run(cursor, "read_plan_moves", key.parameters())
        chosen = [row["position"] for row in moves if MoveState(row["state"]) in REVOCABLE]
        if not chosen:
            raise Refused(f"plan {key.plan_id} has no move that can be {state.value}; `foreshard transition status` shows them")
        return advance(cursor, key, chosen, state, detail=detail)


def _is_open(state: str) -> bool:
    return MoveState(state) in REVOCABLE or state in (MoveState.PAUSED.value, MoveState.FAILED.value)
