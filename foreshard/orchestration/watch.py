"""The tasks of the DAG `watch_nodes`: thin calls of `foreshard.nodes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import get_current_context

if TYPE_CHECKING:
    from foreshard.nodes.repair import ProposedRepair
    from foreshard.settings import Settings

REPAIR_PLAN = "{{ ti.xcom_pull(task_ids='look', key='plan_id') }}"
# One run of `repair` for each look that finds none under way, also if the task that starts it is repeated.
REPAIR_RUN = f"repair__{REPAIR_PLAN}__{{{{ run_id }}}}"
UNDER_WAY = ["queued", "running"]


def look() -> bool:
    """Brings the nodes' states up to what is seen, and says whether a run of `repair` is to be started.

    In shadow mode none is, but for a repair that was under way when it began.
    """
    from foreshard.local.postgres import resolve_url
    from foreshard.nodes.repair import propose_repair
    from foreshard.nodes.watch import watch_once
    from foreshard.settings import load

    context = get_current_context()
    settings = load()
    url = resolve_url(settings)
    for sentence in watch_once(settings, url):
        print(sentence)
    if not context["params"]["repair"]:
        return False
    repair = propose_repair(settings, url)
    if repair.sentence:
        print(repair.sentence)

    def are_under_way(dag_id: str) -> bool:
        return bool(context["ti"].get_dr_count(dag_id=dag_id, states=UNDER_WAY))

    if are_under_way("repair"):
        return False
    plan_id = to_carry_out(settings, url, repair, is_resharding=are_under_way("reshard"))
    context["ti"].xcom_push(key="plan_id", value=plan_id)
    return bool(plan_id)


def to_carry_out(settings: Settings, url: str, repair: ProposedRepair, *, is_resharding: bool) -> str:
    """The plan for a run of `repair`, while there is none under way; empty if there is nothing to do.

    The repair plan; one that a run of `repair` left half done; and the plan that a repair must wait for, if no run of `reshard`
    is there (`is_resharding`) to end it or take it back.
    """
    from foreshard.nodes.repair import running_repair
    from foreshard.transition import store

    if repair.plan_id:
        return repair.plan_id
    half_done = running_repair(url, settings.pool_id)
    if half_done or not repair.sentence or repair.is_held_back or is_resharding:
        return half_done
    in_the_way = store.running_plan(url, settings.pool_id)
    return in_the_way.plan_id if in_the_way else ""
