"""The tasks of the DAG `reshard`: thin calls of `foreshard.transition.steps`, with the plan's figures in XCom and no data.

It gives way to a repair: while one is carried out no plan is made or begun, as its epoch is about to change.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context, get_current_context

from foreshard.orchestration.waves import CARRY_ON, PLAN, skip

if TYPE_CHECKING:
    from foreshard.settings import Settings

QUESTION = "{{ ti.xcom_pull(task_ids='plan_next', key='plan')['question'] }}"
ACTOR = "reshard"


class PlanApproval(ApprovalOperator):  # type: ignore[misc]  # Airflow is not typed for mypy
    """Asks a person whether the plan may run. No answer within the run's `approval_minutes`, or before the plan's first move
    must begin, is a no."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(defaults=self.REJECT, response_timeout=timedelta(hours=12), **arguments)

    def execute(self, context: Context) -> Any:
        self.response_timeout = time_to_answer(int(context["params"]["approval_minutes"]), _plan()["expires"])
        return super().execute(context)


def time_to_answer(minutes: int, expires: str) -> timedelta:
    """How long a person may take: `minutes`, but not beyond `expires` (ISO 8601), unless that is over already."""
    longest = timedelta(minutes=minutes)
    left = datetime.fromisoformat(expires) - datetime.now(UTC) if expires else longest
    # A log of the past is planned for times that are over; a person is asked all the same.
    return min(longest, left) if left > timedelta(0) else longest


def plan_next() -> str | None:
    """Makes the next plan, or takes up the one that is being carried out, and names the task that follows.

    None if there is nothing to carry out, in a dry run, while a repair is carried out, or in shadow mode: then the plan is
    recorded, and `close_plan` rejects it.
    """
    from foreshard.local.postgres import resolve_url
    from foreshard.nodes.repair import running_repair
    from foreshard.settings import load
    from foreshard.transition import shadow_mode, steps

    context, settings = get_current_context(), load()
    url = resolve_url(settings)
    repair = running_repair(url, settings.pool_id)
    if repair:
        print(f"the DAG `repair` carries out plan {repair}; the next forecast makes another plan")
        return None
    plan = steps.propose(settings, str(context["params"]["plan_id"]))
    context["ti"].xcom_push(key=PLAN, value=asdict(plan))
    print(plan.summary)
    if not plan.plan_id or context["params"]["dry_run"]:
        return None
    held_back = shadow_mode.held_back(url, settings.pool_id, plan.plan_id)
    if held_back:
        print(held_back)
        return None
    return "ask" if plan.needs_approval else CARRY_ON


def carry_on() -> list[int]:
    """Records a person's yes, if one was asked, begins the plan, and returns its waves.

    A plan whose inputs have drifted is replaced by a new one, if that needs no person either.
    """
    from foreshard.settings import load

    plan, settings, context = _plan(), load(), get_current_context()
    if plan["needs_approval"]:
        answer = context["ti"].xcom_pull(task_ids="ask")
        who = (answer or {}).get("responded_by_user") or {}
        if not answer or answer["chosen_options"] != [ApprovalOperator.APPROVE]:
            raise ValueError(f"plan {plan['plan_id']} needs an approval and has none")
        record_yes(settings, plan["plan_id"], str(who.get("name") or who.get("id") or "unknown"))
    begun = begin(settings, plan)
    context["ti"].xcom_push(key=PLAN, value=begun)
    return list(begun["waves"])


def record_yes(settings: Settings, plan_id: str, by: str) -> None:
    """Records a person's yes; nothing for a plan that has begun: by an attempt before this one, or as a repair."""
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import steps, store

    if store.read_plan(resolve_url(settings), settings.pool_id, plan_id).state not in ("running", "done"):
        steps.record_decision(settings, plan_id, "approved", by)


def begin(settings: Settings, plan: dict[str, Any]) -> dict[str, Any]:
    """Begins the plan, and returns it or the one that takes its place because its inputs have drifted.

    Refused if that one needs a person, in shadow mode, or while a repair is carried out; AirflowSkipException if nothing is
    left to do.
    """
    from foreshard.errors import Refused
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import shadow_mode, steps

    _give_way(settings, plan["plan_id"])
    try:
        steps.begin(settings, plan["plan_id"], ACTOR)
    except Refused as refused:
        _give_way(settings, plan["plan_id"])  # to a repair that began in this moment
        if shadow_mode.held_back(resolve_url(settings), settings.pool_id, plan["plan_id"]):
            raise
        anew = steps.propose(settings)
        if not anew.plan_id:
            skip(f"{refused}; {anew.summary}")
        if anew.needs_approval:
            raise Refused(f"{refused}; plan {anew.plan_id} takes its place and waits for a person: run `reshard`") from None
        print(f"{refused}; {anew.summary}")
        steps.begin(settings, anew.plan_id, ACTOR)
        return asdict(anew)
    return plan


def _give_way(settings: Settings, plan_id: str) -> None:
    """Refused while a repair is carried out. The plan is rejected: it was made without what the repair changes."""
    from foreshard.errors import Refused
    from foreshard.local.postgres import resolve_url
    from foreshard.nodes.repair import running_repair
    from foreshard.transition import store

    url = resolve_url(settings)
    repair = running_repair(url, settings.pool_id)
    if repair == plan_id:
        skip(f"plan {plan_id} repairs the pool; the DAG `repair` carries it out already")
    if repair:
        why = f"the DAG `repair` carries out plan {repair}, and the next forecast makes another plan"
        if store.read_plan(url, settings.pool_id, plan_id).state == "approved":
            store.set_plan_state(url, settings.pool_id, plan_id, "rejected", ACTOR, why)
        raise Refused(f"plan {plan_id} is not carried out: {why}")


def close_plan() -> None:
    """Runs last whatever happened: a plan that nobody approved is rejected, and in shadow mode any that has not begun.

    A plan that is under way stays so: the next run takes it up where it is.
    """
    from foreshard.local.postgres import resolve_url
    from foreshard.settings import load
    from foreshard.transition import shadow_mode, steps, store

    context = get_current_context()
    plan_id = (_plan(of=CARRY_ON) or _plan() or {}).get("plan_id")
    if not plan_id or context["params"]["dry_run"]:
        return
    settings = load()
    url = resolve_url(settings)
    if shadow_mode.set_aside(url, settings.pool_id, plan_id):
        return
    state = store.read_plan(url, settings.pool_id, plan_id).state
    if state == "proposed":
        steps.record_decision(settings, plan_id, "rejected", _who_answered(context))
    elif state == "running":
        print(f"plan {plan_id} is under way; the next run goes on with it, `foreshard transition rollback` takes it back")


def _plan(of: str = "plan_next") -> dict[str, Any]:
    plan: dict[str, Any] = get_current_context()["ti"].xcom_pull(task_ids=of, key=PLAN)
    return plan


def _who_answered(context: Context) -> str:
    answer = context["ti"].xcom_pull(task_ids="ask") or {}
    who = answer.get("responded_by_user") or {}
    return str(who.get("name") or who.get("id") or "nobody in time")
