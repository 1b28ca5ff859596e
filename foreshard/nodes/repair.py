"""Repair plans: what a dead or overloaded node makes necessary at once, without a person and before the next forecast.

One at a time: while a plan that is carried out still leads to a dead node, it is taken back first; any other is waited for.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from foreshard.errors import Refused
from foreshard.model import NodeState
from foreshard.nodes.overload import as_observed
from foreshard.nodes.watch import Overload, lasting_overloads
from foreshard.placement import codec, solve
from foreshard.routing import database, pool
from foreshard.routing import store as routing_store
from foreshard.settings import Settings
from foreshard.transition import lease, progress, store
from foreshard.transition.inputs import newest_forecasts, placement_problem
from foreshard.transition.kept_plan import keep

REPAIR = "repair"  # who approves these plans
_LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Repair:
    """Why a repair plan is wanted: dead nodes that the current epoch routes to, and nodes overloaded for too long."""

    reason: str
    dead: tuple[str, ...]
    overloaded: tuple[Overload, ...]


@dataclass(frozen=True, slots=True)
class ProposedRepair:
    """`plan_id`: an approved plan to be carried out now; empty if there is none. `sentence`: what was done or is waited for.
    `is_held_back`: by the pool's shadow mode, which waits for no plan."""

    plan_id: str = ""
    sentence: str = ""
    is_held_back: bool = False


def wanted_repair(settings: Settings, url: str) -> Repair | None:
    """What must be repaired; None if nothing. An overload counts from the end of the last repair, which takes time to work."""
    current = routing_store.current(url, settings.pool_id)
    if current is None:
        return None
    routed = {r.node_id for r in current.replicas}
    nodes = pool.read_nodes(url, settings.pool_id)
    dead = tuple(n.node_id for n in nodes if n.state is NodeState.DEAD and n.node_id in routed)
    rows = database.query(url, "read_last_repair", {"pool_id": settings.pool_id, "decided_by": REPAIR})
    is_fresh = bool(rows) and (rows[0]["quiet_seconds"] or 0.0) < 60 * settings.watch.overload_minutes
    overloaded = () if is_fresh else tuple(o for o in lasting_overloads(settings, url) if o.node_id in routed)
    if not dead and not overloaded:
        return None
    reasons = [f"node {name} is dead" for name in dead]
    reasons += [
        f"node {o.node_id} carries {o.load:.1f} of {o.capacity:.1f} for {o.seconds / 60:.0f} minutes" for o in overloaded
    ]
    return Repair("; ".join(reasons), dead, overloaded)


def propose_repair(settings: Settings, url: str) -> ProposedRepair:
    """Makes and approves the repair plan that is wanted, if any; the same one again while it has not begun.

    None in shadow mode. Raises ForeshardError without a forecast to plan from.
    """
    repair = wanted_repair(settings, url)
    shadow_mode = pool.read_pool(url, settings.pool_id).shadow_mode
    if shadow_mode:
        wanted = f", although {repair.reason}" if repair else ""
        return ProposedRepair("", f"{shadow_mode}: nothing is repaired or corrected{wanted}", is_held_back=True)
    if repair is None:
        return ProposedRepair()
    try:
        with lease.held(url, f"{settings.pool_id}/{REPAIR}", lease.process_name(REPAIR), _LEASE_SECONDS):
            return _settled(settings, url, repair) or _planned(settings, url, repair)
    except Refused as refused:
        return ProposedRepair("", f"no repair plan was made ({repair.reason}): {refused}")


def running_repair(url: str, pool_id: str) -> str:
    """The repair plan that is being carried out; empty if there is none."""
    rows = database.query(url, "read_running_repair", {"pool_id": pool_id, "decided_by": REPAIR})
    return str(rows[0]["plan_id"]) if rows else ""


def _settled(settings: Settings, url: str, repair: Repair) -> ProposedRepair | None:
    """What stands in the way of a new plan, or makes it needless; None if nothing does."""
    epoch = pool.read_pool(url, settings.pool_id).current_epoch
    dead = {n.node_id for n in pool.read_nodes(url, settings.pool_id) if n.state is NodeState.DEAD}
    for row in database.query(url, "read_open_plans", {"pool_id": settings.pool_id}):
        plan_id = row["plan_id"]
        lost = _nodes_of(row["document"]) & dead
        if row["state"] == "running":
            if not lost:
                return ProposedRepair("", f"{repair.reason}; waits for plan {plan_id}, which is carried out")
            return _taken_back(settings, url, row, sorted(lost))
        if row["decided_by"] == REPAIR and not lost and row["base_epoch"] == epoch:
            return ProposedRepair(plan_id, f"{repair.reason}; plan {plan_id} repairs it and is to be carried out")
    return None


def _taken_back(settings: Settings, url: str, row: dict[str, Any], lost: Collection[str]) -> ProposedRepair:
    plan_id, names = row["plan_id"], ", ".join(lost)
    if not row["rollback_reason"]:
        key = progress.PlanKey(settings.pool_id, plan_id, REPAIR)
        try:
            progress.request_rollback(url, key, f"it leads to {names}, dead since it was made")
        except Refused:
            return ProposedRepair("", f"{names} dead; waits for plan {plan_id}, which can only go forward")
    return ProposedRepair("", f"{names} dead; waits for plan {plan_id} to be rolled back")


def _planned(settings: Settings, url: str, repair: Repair) -> ProposedRepair:
    problem = placement_problem(settings, url, newest_forecasts(settings))
    # Scaled capacities, and not loads: the plan would else be refused as one whose forecasts have drifted.
    problem = as_observed(problem, {o.node_id: o.load for o in repair.overloaded}, datetime.now(UTC))
    plan = solve(problem, seed=settings.forecast.seed)
    if not plan.moves:
        return ProposedRepair("", f"{repair.reason}; no move would help, add a node: {plan.summary}")
    state = keep(settings, url, plan, problem)
    if state == "proposed":
        store.record_approval(url, settings.pool_id, plan.plan_id, "approved", REPAIR)
    elif state != "approved":
        said = f"plan {plan.plan_id} was made for that and is {state}; the next forecast makes another"
        return ProposedRepair("", f"{repair.reason}; {said}")
    return ProposedRepair(plan.plan_id, f"{repair.reason}; plan {plan.plan_id} repairs it: {plan.summary}")


def _nodes_of(document: dict[str, Any]) -> set[str]:
    """The nodes that a plan leads to."""
    return {r.node_id for r in codec.plan_from_document(document).layout.replicas}
