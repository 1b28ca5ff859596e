"""Step 2 of the loop: observed load → forecast of every shard."""

from datetime import timedelta

from airflow.sdk import DAG

from foreshard.orchestration.assets import load_forecast, query_load, whenever_new
from foreshard.orchestration.due import forecast_is_due
from foreshard.orchestration.steps import DAG_DEFAULTS, FORCE, spark_step, unless_done

DOC = """
### forecast_load: the load of every shard, from the newest complete hour on

**Does** fit every shard's history and forecast its load and what its queries will ask for. Ends at once if this hour and
version of the input are already forecast.

- **Reads** `query_load` and `query_pattern_observed`, up to the watermark of `query_load`.
- **Writes** `load_forecast`, `query_pattern`, `calibration_state`.
- **Then** `reshard` and `learn` run.

**When it fails** nothing is written: gateways go on with the forecast of the last epoch. A shard that no
model can forecast has a simpler forecast and says why in `fallback_reason`; the run fails only if a check of the whole table
does. Read the last sentence of the task's log, then clear the task.
"""

with DAG(
    "forecast_load",
    schedule=whenever_new(query_load),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=DAG_DEFAULTS,
    description="Forecasts the load of every shard",
    doc_md=DOC,
    tags=["foreshard", "step-2", "spark"],
    params={"force": FORCE},
):
    unless_done(forecast_is_due) >> spark_step("forecast_load", "forecast_load", outlets=[load_forecast], weight=2)
