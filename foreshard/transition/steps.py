"""The steps of the reshard DAG that need no Spark: propose a plan, record the decision, carry it on.

Each may be repeated after a kill: it goes on where the records in Postgres say it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from foreshard.local.postgres import resolve_url
from foreshard.model import Plan
from foreshard.nodes.desired import refresh_desired
from foreshard.placement import codec, initial_layout, solve
from foreshard.placement.isolation import isolated_after
from foreshard.routing import store as routing_store
from foreshard.routing.pool import read_nodes, read_pool
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.acts import LEASE_SECONDS
from foreshard.transition.controller import Cycle, Say, carry_out, controlling
from foreshard.transition.first_plan import first_plan
from foreshard.transition.inputs import Forecasts, newest_forecasts, placement_problem, predicted_loads
from foreshard.transition.kept_plan import keep
from foreshard.transition.machine import ENDED, MoveState
from foreshard.transition.plan_problem import unpacked
from foreshard.transition.question import question

# A plan in one of these is not carried out any more.
ENDED_STATES = ("rejected", "done", "failed", "rolled_back")


@dataclass(frozen=True)
class ProposedPlan:
    """What planning came to. An empty `plan_id` means there is nothing to carry out, and `summary` says why.

    `waves`: the numbers of the waves that have not ended. `question`: what a person is asked, Markdown. `expires`: when the
    first move must begin, ISO 8601, empty if nothing presses.
    """

    plan_id: str
    moves: int
    bytes: int
    needs_approval: bool
    summary: str
    waves: tuple[int, ...] = ()
    question: str = ""
    expires: str = ""


def propose(settings: Settings, plan_id: str = "") -> ProposedPlan:
    """Plans from the newest forecasts and stores the plan; within the policy's limits it is approved at once.

    A plan without moves still carries new weights, isolated entities and forecasts to the gateways. While another plan is
    carried out none is made: its shards are on their way, and it is the one to go on with. `plan_id`: one that is stored.
    """
    url = resolve_url(settings)
    running = store.running_plan(url, settings.pool_id)
    if running or plan_id:
        return _stored(settings, url, running or store.read_plan(url, settings.pool_id, plan_id))
    forecasts = newest_forecasts(settings)
    problem = placement_problem(settings, url, forecasts)
    current = routing_store.current(url, settings.pool_id)
    plan = solve(problem, seed=settings.forecast.seed)
    if current and not plan.moves and _same(settings, current, plan, forecasts):
        return ProposedPlan("", 0, 0, False, f"epoch {current.epoch} already has this forecast and these weights")
    state = keep(settings, url, plan, problem)
    refresh_desired(settings, url)
    if state in ENDED_STATES:
        return ProposedPlan("", 0, 0, False, f"plan {plan.plan_id} was made from these inputs before and is {state}")
    policy = problem.policy
    needs_approval = (
        state == "proposed"
        and bool(plan.moves)
        and (plan.metrics.moves > policy.auto_approve_moves or plan.metrics.bytes_moved > policy.auto_approve_bytes)
    )
    if state == "proposed" and not needs_approval:
        store.record_approval(url, settings.pool_id, plan.plan_id, "approved", "within the auto-approve budget")
    return _proposed(plan, needs_approval, question(plan, problem) if needs_approval else "")


def _stored(settings: Settings, url: str, record: store.PlanRecord) -> ProposedPlan:
    """A plan that is stored, to go on with; nothing if it has ended."""
    if record.state in ENDED_STATES:
        return ProposedPlan("", 0, 0, False, f"plan {record.plan_id} is {record.state}")
    moves = store.read_moves(url, settings.pool_id, record.plan_id)
    plan = codec.plan_from_document(record.document)
    kept = store.read_problem(url, settings.pool_id, record.plan_id)
    needs_approval = record.state == "proposed"
    asked = question(plan, unpacked(kept, record.plan_id)) if kept and needs_approval else record.summary
    still = {m.wave or 0 for m in moves if MoveState(m.state) not in ENDED}
    return replace(_proposed(plan, needs_approval, asked), waves=tuple(sorted(still)))


def _proposed(plan: Plan, needs_approval: bool, asked: str) -> ProposedPlan:
    first = min((m.start_by for m in plan.moves if m.start_by), default=None)
    return ProposedPlan(
        plan.plan_id,
        plan.metrics.moves,
        plan.metrics.bytes_moved,
        needs_approval,
        plan.summary,
        tuple(sorted({m.wave for m in plan.moves})),
        asked,
        first.isoformat() if first else "",
    )


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
    if store.save_plan(url, plan, codec.plan_to_document(plan)) == "proposed":
        store.record_approval(url, settings.pool_id, plan.plan_id, "approved", "foreshard init")
    return plan


def record_decision(settings: Settings, plan_id: str, decision: Literal["approved", "rejected"], by: str) -> None:
    """Records a person's decision on a proposed plan."""
    store.record_approval(resolve_url(settings), settings.pool_id, plan_id, decision, by)


def begin(settings: Settings, plan_id: str, actor: str) -> None:
    """Begins an approved plan, or finds it begun; Refused, and the plan marked failed, if what it was made from has changed."""
    with controlling(settings, resolve_url(settings), plan_id, actor, wait_seconds=2 * LEASE_SECONDS):
        return


def carry_on(
    settings: Settings, plan_id: str, actor: str, say: Say = print, *, seconds: float = 0.0, wait_seconds: float = 0.0
) -> Cycle:
    """Carries a plan on as far as it goes without Spark: until it has ended, needs Spark, or nothing changed for `seconds`.

    Begins an approved plan; Refused, and the plan marked failed, if what it was made from has changed. Refused, naming who,
    while another process controls the pool's transition for longer than `wait_seconds`.
    """
    with controlling(settings, resolve_url(settings), plan_id, actor, wait_seconds) as hold:
        return carry_out(hold, say, seconds=seconds)
