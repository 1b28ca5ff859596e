"""Step 7 of the loop: what came true of the forecasts."""

from datetime import timedelta

from airflow.sdk import DAG

from foreshard.orchestration.assets import load_forecast, whenever_new
from foreshard.orchestration.due import learning_is_due
from foreshard.orchestration.steps import DAG_DEFAULTS, FORCE, spark_step, unless_done

DOC = """
### learn: what came true

**Does** compare forecasts with what then happened, and each node's predicted load and usual time per query with what was
measured. It says how far forecasts are to be trusted (`skill`), for the epochs to come. Once a day is over, it also learns from
the scores at which levels the next forecasts are read, and since when the fleet drifted. Ends at once if there are no new query
records. It waits behind the other Spark jobs: nothing in this turn of the loop needs it.

- **Reads** `query_record`, `query_load`, `load_forecast`.
- **Writes** `forecast_score`, and `node_correction` in the lake and in Postgres, where gateways read it.

**When it fails** the loop goes on with what was learnt before. Clear the task when convenient.
"""

with DAG(
    "learn",
    schedule=whenever_new(load_forecast),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=DAG_DEFAULTS,
    description="Scores forecasts and corrects nodes' loads",
    doc_md=DOC,
    tags=["foreshard", "step-7", "spark"],
    params={"force": FORCE},
):
    unless_done(learning_is_due) >> spark_step("learn", "learn_from_outcomes")
