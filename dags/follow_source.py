"""Replicas follow their source: what was aggregated goes into every node's copies."""

from datetime import timedelta

from airflow.sdk import DAG

from foreshard.orchestration.assets import usage_hourly, whenever_new
from foreshard.orchestration.due import replicas_are_due
from foreshard.orchestration.steps import DAG_DEFAULTS, FORCE, spark_step, unless_done

DOC = """
### follow_source: nodes' copies follow usage_hourly

**Does** apply the changes of `usage_hourly` to the serving table of every node. Ends at once if all are up to date.

- **Reads** the changes of `usage_hourly` since the version each copy has.
- **Writes** `serving/<node>`, and in Postgres the version that each replica has applied.

**When it fails** the copies stay as they were: queries that must see newer data are told to wait (425) or go to another copy,
and a plan whose copies fell behind is not published. Clear the task; it goes on where each table stopped.
"""

with DAG(
    "follow_source",
    schedule=whenever_new(usage_hourly),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=DAG_DEFAULTS,
    description="Brings the nodes' copies up to date",
    doc_md=DOC,
    tags=["foreshard", "step-4", "spark"],
    params={"force": FORCE},
):
    unless_done(replicas_are_due) >> spark_step("follow_source", "follow_source", weight=3)
