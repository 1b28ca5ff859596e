"""The steps of the reshard DAG that need no Spark: propose a plan, record the decision, publish, wait, retire.

Each may be repeated after a kill: it goes on where the records in Postgres say it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foreshard.checks.gate import require
from foreshard.checks.layouts import layout_summary
from foreshard.errors import ForeshardError, Refused
from foreshard.local.postgres import resolve_url
from foreshard.model import MoveKind, Plan
from foreshard.placement import codec, initial_layout, solve
from foreshard.placement.isolation import isolated_after
from foreshard.routing import store as routing_store
from foreshard.routing.pool import read_nodes, read_pool
from foreshard.routing.snapshot import PredictedLoad, Snapshot
from foreshard.settings import Settings
from foreshard.transition import lease, store
from foreshard.transition.first_plan import first_plan
from foreshard.transition.inputs import Forecasts, newest_forecasts, placement_problem, predicted_loads
from foreshard.transition.plan_problem import packed
from foreshard.transition.retire import drop_shards

_LEASE_SECONDS = 60
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class ProposedPlan:
    """What planning came to. An empty `plan_id` means there is nothing to publish, and `summary` says why."""

    plan_id: str
    moves: int
    bytes: int
    needs_approval: bool
    summary: str


def propose(settings: Settings) -> ProposedPlan:
    """Plans from the newest forecasts and stores the plan; within the policy's limits it is approved at once.

    A plan without moves still carries new weights, isolated entities and forecasts to the gateways.
    """
    url = resolve_url(settings)
    forecasts = newest_forecasts(settings)
    problem = placement_problem(settings, url, forecasts)
    current = routing_store.current(url, settings.pool_id)
    plan = solve(problem, seed=settings.forecast.seed)
    if current and not plan.moves and _same(settings, current, plan, forecasts):
        return ProposedPlan("", 0, 0, False, f"epoch {current.epoch} already has this forecast and these weights")
    summary = layout_summary(plan.layout.replicas, problem.nodes, problem.policy, settings.slots)
    require("plan", summary.assign(overloaded_nodes=len(plan.metrics.overloaded_nodes)), settings)
    store.save_plan(url, plan, codec.plan_to_document(plan), packed(problem))
    state = store.read_plan(url, settings.pool_id, plan.plan_id).state
    if state in ("rejected", "published", "done"):
        return ProposedPlan("", 0, 0, False, f"plan {plan.plan_id} was made from these inputs before and is {state}")
    policy = problem.policy
    needs_approval = (
        state == "proposed"
        and bool(plan.moves)
        and (plan.metrics.moves > policy.auto_approve_moves or plan.metrics.bytes_moved > policy.auto_approve_bytes)
    )
    if state == "proposed" and not needs_approval:
        store.record_approval(url, settings.pool_id, plan.plan_id, "approved", "within the auto-approve budget")
    return ProposedPlan(plan.plan_id, plan.metrics.moves, plan.metrics.bytes_moved, needs_approval, plan.summary)


def _same(settings: Settings, current: Snapshot, plan: Plan, forecasts: Forecasts) -> bool:
    isolated = dict(current.isolated)
    if isolated_after(isolated, plan.isolations) != isolated or current.replicas != plan.layout.replicas:
        return False
    return current.predicted == predicted_loads(settings, forecasts, isolated)


def propose_first(settings: Settings) -> Plan:
    """Stores, approved, the plan that makes the plain hash layout from nothing: epoch 1."""
    url = resolve_url(settings)
    pool = read_pool(url, settings.pool_id)
    nodes = read_nodes(url, settings.pool_id)
    layout = initial_layout(list(range(settings.slots)), nodes, pool.policy, epoch=1)
    plan = first_plan(settings.pool_id, layout)
    store.save_plan(url, plan, codec.plan_to_document(plan))
    if store.read_plan(url, settings.pool_id, plan.plan_id).state == "proposed":
        store.record_approval(url, settings.pool_id, plan.plan_id, "approved", "foreshard init")
    return plan


def record_decision(settings: Settings, plan_id: str, decision: Literal["approved", "rejected"], by: str) -> None:
    """Records a person's decision on a proposed plan."""
    store.record_approval(resolve_url(settings), settings.pool_id, plan_id, decision, by)


def publish(settings: Settings, plan_id: str) -> int:
    """Publishes the plan's layout with the newest forecasts and returns the epoch; a repeat publishes nothing.

    Refused if another epoch was published since the plan was made, or if a copy is not verified or has fallen behind.
    """
    url = resolve_url(settings)
    record = store.read_plan(url, settings.pool_id, plan_id)
    plan = codec.plan_from_document(record.document)
    if record.state not in ("published", "done"):
        with lease.held(url, f"{settings.pool_id}/publish", plan_id, _LEASE_SECONDS, _WAIT_SECONDS) as held:
            snapshot = _snapshot(settings, url, plan)
            policy = read_pool(url, settings.pool_id).policy
            require("routing_epoch", layout_summary(snapshot.replicas, snapshot.nodes, policy, settings.slots), settings)
            routing_store.publish(
                url,
                snapshot,
                expected_epoch=plan.base_epoch,
                published_by="reshard",
                reason=plan.summary or f"plan {plan_id}",
                plan_id=plan_id,
                lease=held,
            )
    # Also on a repeat: a run killed right after the publication left these undone.
    positions = [m.position for m in store.read_moves(url, settings.pool_id, plan_id)]
    if positions:
        store.advance_moves(url, settings.pool_id, plan_id, positions, "published", "reshard")
    store.unpin(url, settings.pool_id, "usage_hourly", plan_id)
    return plan.base_epoch + 1


def _snapshot(settings: Settings, url: str, plan: Plan) -> Snapshot:
    current = routing_store.current(url, settings.pool_id)
    isolated = isolated_after(dict(current.isolated) if current else {}, plan.isolations)
    try:
        predicted: tuple[PredictedLoad, ...] = predicted_loads(settings, newest_forecasts(settings), isolated)
    except ForeshardError:
        if plan.base_epoch:  # only the first epoch may go without a forecast
            raise
        predicted = ()
    return Snapshot(
        pool_id=settings.pool_id,
        epoch=plan.base_epoch + 1,
        parent=plan.base_epoch,
        slot_bits=settings.slot_bits,
        interval_seconds=settings.forecast.grain_minutes * 60,
        recent_days=settings.age.recent_days,
        months_days=settings.age.months_days,
        nodes=read_nodes(url, settings.pool_id),
        replicas=plan.layout.replicas,
        isolated=tuple(sorted(isolated.items())),
        predicted=predicted,
    )


def unacknowledged(settings: Settings, plan_id: str) -> list[str]:
    """The live gateways that have not adopted the plan's epoch yet."""
    url = resolve_url(settings)
    record = store.read_plan(url, settings.pool_id, plan_id)
    return routing_store.unacknowledged(url, settings.pool_id, record.base_epoch + 1)


def retire(settings: Settings, plan_id: str) -> int:
    """Drops the copies that the plan's epoch no longer routes to; returns how many. Repeating it drops nothing more.

    Refused unless the plan's epoch is published, and while a live gateway has not acknowledged it: it may still route
    there. A copy that a later plan has made or routes to again stays.
    """
    url = resolve_url(settings)
    state = store.read_plan(url, settings.pool_id, plan_id).state
    if state not in ("published", "done"):
        raise Refused(f"plan {plan_id} is {state}; copies are retired only after its epoch is published")
    waiting = unacknowledged(settings, plan_id)
    if waiting:
        raise Refused(f"gateways {', '.join(waiting)} have not adopted plan {plan_id}'s epoch; nothing was retired")
    moves = store.read_moves(url, settings.pool_id, plan_id)
    dropped = [m for m in moves if m.kind in (MoveKind.MOVE, MoveKind.DROP) and m.state != "done"]
    if dropped:
        store.advance_moves(url, settings.pool_id, plan_id, [m.position for m in dropped], "retiring", "reshard")
    retired = 0
    for node_id in sorted({m.source for m in dropped}):
        shards = [m.shard_id for m in dropped if m.source == node_id]
        with lease.held(url, f"{settings.pool_id}/serving/{node_id}", plan_id, _LEASE_SECONDS, _WAIT_SECONDS):
            idle = sorted(set(shards) - _in_use(settings, url, node_id))
            drop_shards(settings, node_id, idle)
            store.delete_replicas(url, settings.pool_id, [(shard, node_id) for shard in idle])
        retired += len(idle)
    if moves:
        store.advance_moves(url, settings.pool_id, plan_id, [m.position for m in moves], "done", "reshard")
    store.set_plan_state(url, settings.pool_id, plan_id, "done", "reshard")
    return retired


def _in_use(settings: Settings, url: str, node_id: str) -> set[int]:
    """The node's shards that the current epoch routes to, or that a plan not yet published has copied there."""
    current = routing_store.current(url, settings.pool_id)
    routed = {r.shard_id for r in current.replicas if r.node_id == node_id} if current else set()
    replicas = store.read_replicas(url, settings.pool_id)
    return routed | {r.shard_id for r in replicas if r.node_id == node_id and r.state in ("copying", "verified")}
