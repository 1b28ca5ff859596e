"""The tasks of the DAG `repair`: what the watch found broken is repaired at once, also while `reshard` waits for a person."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from airflow.sdk import get_current_context

from foreshard.orchestration.waves import PLAN, skip

if TYPE_CHECKING:
    from foreshard.settings import Settings
    from foreshard.transition.steps import ProposedPlan

ACTOR = "repair"


def carry_on() -> list[int]:
    """Begins the plan of the run's parameter `plan_id`, or goes on with it, and returns its waves."""
    from foreshard.settings import load

    context = get_current_context()
    plan = begun(load(), str(context["params"]["plan_id"]))
    print(plan.summary)
    context["ti"].xcom_push(key=PLAN, value=asdict(plan))
    return list(plan.waves)


def begun(settings: Settings, plan_id: str) -> ProposedPlan:
    """The plan, carried out from now on or already; without an id the repair that is wanted now.

    AirflowSkipException, saying why, if there is nothing to do or not yet: the watch looks again in a minute, and plans anew if
    what the plan was made from has changed. Refused without an approval.
    """
    from foreshard.errors import Refused
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import steps, store

    url = resolve_url(settings)
    plan_id = plan_id or _wanted(settings, url)
    state = store.read_plan(url, settings.pool_id, plan_id).state
    if state == "proposed":
        raise Refused(f"plan {plan_id} has no approval; the DAG `reshard` asks a person for it")
    plan = steps.propose(settings, plan_id)
    if plan.plan_id != plan_id:
        other = f"plan {plan.plan_id} is carried out, and plan {plan_id} waits for it"
        skip(other if plan.plan_id else plan.summary)
    if state == "approved":
        try:
            steps.begin(settings, plan_id, ACTOR)
        except Refused as refused:
            skip(str(refused))
    return plan


def _wanted(settings: Settings, url: str) -> str:
    from foreshard.nodes.repair import propose_repair, running_repair

    found = propose_repair(settings, url)
    plan_id = found.plan_id or running_repair(url, settings.pool_id)
    if not plan_id:
        skip(found.sentence or "nothing is to be repaired")
    return plan_id
