"""The tasks of the DAG `reshard`: thin calls of `foreshard.transition.steps`, with the plan's figures in XCom and no data."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowFailException
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context, get_current_context

if TYPE_CHECKING:
    from foreshard.transition.controller import Cycle

PLAN = "plan"
PLAN_ID = "{{ ti.xcom_pull(task_ids='carry_on', key='plan')['plan_id'] }}"
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

    None if there is nothing to carry out, or in a dry run.
    """
    from foreshard.settings import load
    from foreshard.transition import steps

    context = get_current_context()
    plan = steps.propose(load(), str(context["params"]["plan_id"]))
    context["ti"].xcom_push(key=PLAN, value=asdict(plan))
    print(plan.summary)
    if not plan.plan_id or context["params"]["dry_run"]:
        return None
    return "ask" if plan.needs_approval else "carry_on"


def carry_on() -> list[int]:
    """Records a person's yes, if one was asked, begins the plan, and returns its waves.

    A plan whose inputs have drifted is replaced by a new one, if that needs no person either.
    """
    from foreshard.errors import Refused
    from foreshard.settings import load
    from foreshard.transition import steps

    plan, settings, context = _plan(), load(), get_current_context()
    if plan["needs_approval"]:
        answer = context["ti"].xcom_pull(task_ids="ask")
        who = (answer or {}).get("responded_by_user") or {}
        if not answer or answer["chosen_options"] != [ApprovalOperator.APPROVE]:
            raise ValueError(f"plan {plan['plan_id']} needs an approval and has none")
        steps.record_decision(settings, plan["plan_id"], "approved", str(who.get("name") or who.get("id") or "unknown"))
    try:
        steps.begin(settings, plan["plan_id"], ACTOR)
    except Refused as refused:
        anew = steps.propose(settings)
        if not anew.plan_id or anew.needs_approval:
            raise
        print(f"{refused}; {anew.summary}")
        plan = asdict(anew)
        steps.begin(settings, anew.plan_id, ACTOR)
    context["ti"].xcom_push(key=PLAN, value=plan)
    return list(plan["waves"])


def is_to_be_copied(wave: int) -> bool:
    """Whether the wave's turn has come and its nodes agreed, so that Spark is needed next; also once it is past that."""
    done = _cycle()
    return done is not None and (done.is_over or done.decision.wave > wave or (done.decision.wave == wave and done.needs_spark))


def is_carried_out(wave: int) -> bool:
    """Takes the wave on, cycle by cycle, and says whether it has ended."""
    done = _cycle()
    if done is None:
        return False
    if done.needs_spark and done.decision.wave == wave:
        raise AirflowFailException(f"Spark is needed again ({done.decision.sentence}): clear `warm_up` of this wave")
    return done.is_over or done.decision.wave > wave


def finish() -> bool:
    """Ends the plan; one without moves is published here."""
    done = _cycle()
    return done is not None and done.is_over


def close_plan() -> None:
    """Runs last whatever happened: a plan that nobody approved is rejected.

    A plan that is under way stays so: the next run takes it up where it is.
    """
    from foreshard.local.postgres import resolve_url
    from foreshard.settings import load
    from foreshard.transition import steps, store

    context = get_current_context()
    plan_id = (_plan(of="carry_on") or _plan() or {}).get("plan_id")
    if not plan_id or context["params"]["dry_run"]:
        return
    settings = load()
    url = resolve_url(settings)
    state = store.read_plan(url, settings.pool_id, plan_id).state
    if state == "proposed":
        steps.record_decision(settings, plan_id, "rejected", _who_answered(context))
    elif state == "running":
        print(f"plan {plan_id} is under way; the next run goes on with it, `foreshard transition rollback` takes it back")


def _cycle() -> Cycle | None:
    """Cycles until nothing can be done at once; None while another process controls the transition, which is no news."""
    from foreshard.errors import Refused
    from foreshard.settings import load
    from foreshard.transition import steps

    try:
        return steps.carry_on(load(), _plan(of="carry_on")["plan_id"], ACTOR)
    except Refused:
        return None


def _plan(of: str = "plan_next") -> dict[str, Any]:
    plan: dict[str, Any] = get_current_context()["ti"].xcom_pull(task_ids=of, key=PLAN)
    return plan


def _who_answered(context: Context) -> str:
    answer = context["ti"].xcom_pull(task_ids="ask") or {}
    who = answer.get("responded_by_user") or {}
    return str(who.get("name") or who.get("id") or "nobody in time")
