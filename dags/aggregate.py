"""Step 1 of the loop: landing files of one hour → records and products in Delta."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from foreshard.orchestration.assets import query_load, usage_hourly
from foreshard.orchestration.hours import each_landing_hour, hours_from
from foreshard.orchestration.steps import DAG_DEFAULTS, spark_step

DOC = """
### aggregate: landing files into Delta

**Does** take in the usage and query records that landed in one hour, the run's partition key (`2013-11-28T05:00:00`, UTC), and
brings the products up to date for every hour those records touch.

- **Reads** `LANDING/usage_record/<hour>/` and `LANDING/query_record/<hour>/`.
- **Writes** `usage_record`, `query_record`, `quarantine`, `usage_hourly`, `query_load`, `query_pattern_observed`.
- **Then** `follow_source` and `forecast_load` run.

**A past hour by hand**: trigger the DAG with that partition key, or a range with `airflow backfill create --dag-id aggregate`.
Repeating an hour adds nothing twice.

**When it fails** the task's log ends with one sentence. Bad rows never fail it: they are in `quarantine` with the reason. A
file that cannot be read is named and left where it is: repair or move it away, then clear the task. Later hours go on.
"""

with DAG(
    "aggregate",
    schedule=each_landing_hour(),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    default_args=DAG_DEFAULTS,
    description="Takes in the files of one landing hour",
    doc_md=DOC,
    tags=["foreshard", "step-1", "spark"],
    params={
        "hours": Param(
            1, type="integer", minimum=1, maximum=744, title="Hours", description="How many landing hours, from the key on."
        )
    },
    user_defined_macros={"hours_from": hours_from},
):
    spark_step(
        "aggregate",
        "aggregate",
        ["--from", "{{ hours_from(partition_key) }}", "--to", "{{ hours_from(partition_key, params.hours) }}"],
        outlets=[usage_hourly, query_load],
        hours=2,
        weight=3,
    )
