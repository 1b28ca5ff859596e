"""The tasks of the DAG `reshard`: thin calls of `foreshard.transition.steps`, with the plan's figures in XCom and no data."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context, get_current_context

PLAN = "plan"
PLAN_ID = "{{ ti.xcom_pull(task_ids='plan_next', key='plan')['plan_id'] }}"
SUMMARY = "{{ ti.xcom_pull(task_ids='plan_next', key='plan')['summary'] }}"
ACTOR = "reshard"


class PlanApproval(ApprovalOperator):  # type: ignore[misc]  # Airflow is not typed for mypy
    """Asks a person whether the plan may run; no answer within the run's `approval_minutes` is a no."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(defaults=self.REJECT, response_timeout=timedelta(hours=12), **arguments)

    def execute(self, context: Context) -> Any:
        self.response_timeout = timedelta(minutes=int(context["params"]["approval_minutes"]))
        return super().execute(context)


def plan_next() -> str | None:
    """Makes the next plan and names the task that follows: None if nothing is to be published, or in a dry run."""
    from foreshard.settings import load
    from foreshard.transition import steps

    context = get_current_context()
    plan = steps.propose(load())
    context["ti"].xcom_push(key=PLAN, value=asdict(plan))
    print(plan.summary)
    if not plan.plan_id or context["params"]["dry_run"]:
        return None
    return "ask" if plan.needs_approval else "carry_on"


def carry_on() -> str:
    """Records a person's yes, if one was asked, and names the task that follows: copying, or else publishing."""
    from foreshard.settings import load
    from foreshard.transition import steps

    plan = _plan()
    if plan["needs_approval"]:
        answer = get_current_context()["ti"].xcom_pull(task_ids="ask")
        who = (answer or {}).get("responded_by_user") or {}
        if not answer or answer["chosen_options"] != [ApprovalOperator.APPROVE]:
            raise ValueError(f"plan {plan['plan_id']} needs an approval and has none")
        steps.record_decision(load(), plan["plan_id"], "approved", str(who.get("name") or who.get("id") or "unknown"))
    return "warm_up" if plan["moves"] else "publish"


def publish() -> int:
    """Publishes the plan's layout and returns the epoch."""
    from foreshard.settings import load
    from foreshard.transition import steps

    return steps.publish(load(), _plan()["plan_id"])


def gateways_adopted() -> bool:
    """Whether every live gateway has acknowledged the plan's epoch."""
    from foreshard.settings import load
    from foreshard.transition import steps

    waiting = steps.unacknowledged(load(), _plan()["plan_id"])
    if waiting:
        print(f"waiting for {', '.join(waiting)}")
    return not waiting


def retire() -> int:
    """Drops the copies that are no longer routed to and returns how many."""
    from foreshard.settings import load
    from foreshard.transition import steps

    return steps.retire(load(), _plan()["plan_id"])


def close_plan() -> None:
    """Runs last whatever happened: a plan that did not get published is marked rejected or failed, and its pins go."""
    from foreshard.local.postgres import resolve_url
    from foreshard.settings import load
    from foreshard.transition import steps, store

    context = get_current_context()
    plan_id = (_plan() or {}).get("plan_id")
    if not plan_id or context["params"]["dry_run"]:
        return
    settings = load()
    url = resolve_url(settings)
    state = store.read_plan(url, settings.pool_id, plan_id).state
    if state == "proposed":
        steps.record_decision(settings, plan_id, "rejected", _who_answered(context))
    elif state in ("approved", "running"):
        store.set_plan_state(
            url, settings.pool_id, plan_id, "failed", ACTOR, f"run {context['run_id']} did not get to publish it"
        )
    store.unpin(url, settings.pool_id, "usage_hourly", plan_id)


def _plan() -> dict[str, Any]:
    plan: dict[str, Any] = get_current_context()["ti"].xcom_pull(task_ids="plan_next", key=PLAN)
    return plan


def _who_answered(context: Context) -> str:
    answer = context["ti"].xcom_pull(task_ids="ask") or {}
    who = answer.get("responded_by_user") or {}
    return str(who.get("name") or who.get("id") or "nobody in time")
