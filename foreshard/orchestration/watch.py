"""The tasks of the DAG `watch_nodes`: thin calls of `foreshard.nodes`."""

from __future__ import annotations

from airflow.sdk import get_current_context

REPAIR_PLAN = "{{ ti.xcom_pull(task_ids='look', key='plan_id') }}"
# One run of `reshard` for a plan: a repair that is found again before it has begun starts no other.
REPAIR_RUN = f"repair__{REPAIR_PLAN}"


def look() -> bool:
    """Brings the nodes' states up to what is seen, and says whether a repair plan waits to be carried out."""
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
    context["ti"].xcom_push(key="plan_id", value=repair.plan_id)
    return bool(repair.plan_id)
