"""Steps 3 to 5 of the loop: plan, ask if need be, warm up, publish, retire."""

from datetime import timedelta

from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import DAG, Param, TriggerRule

from foreshard.orchestration import reshard
from foreshard.orchestration.assets import load_forecast, routing_epoch, whenever_new
from foreshard.orchestration.steps import DAG_DEFAULTS, spark_step

DOC = """
### reshard: from a forecast to a published epoch

1. `plan_next` makes the plan. Nothing new to publish ends the run here.
2. `ask` waits for a person if the plan moves more than the pool's `auto_approve_moves` or `auto_approve_bytes`: answer under
   *Required Actions*. **No answer in time is a no.**
3. `warm_up` copies the plan's shards at a pinned version and verifies the copies. A plan without moves skips it: it only
   carries new weights and forecasts to the gateways.
4. `publish` makes the plan's layout the current epoch, once.
5. `wait_for_gateways` waits until every live one has adopted it.
6. `retire` drops the copies that are no longer routed to. `close_plan` always runs: it marks a plan that was not published as
   rejected or failed and releases its pins.

- **Reads** `load_forecast`, the current epoch, the pool's policy.
- **Writes** `serving/<node>`, and in Postgres the plan and the epoch.

**When it fails** before `publish`, routing is unchanged and the next forecast makes a new plan. After it, the epoch stands:
clear `wait_for_gateways` when the gateway named in its log is back or its lease has run out. *Refused* means that another
epoch was published meanwhile; there is nothing to repeat.
"""

ANY_PATH = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS

with DAG(
    "reshard",
    schedule=whenever_new(load_forecast),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=8),
    default_args=DAG_DEFAULTS,
    description="Plans, warms up, publishes and retires",
    doc_md=DOC,
    tags=["foreshard", "step-3", "step-4", "step-5", "spark", "approval"],
    params={
        "dry_run": Param(False, type="boolean", title="Dry run", description="Make the plan, show it in the log and stop."),
        "approval_minutes": Param(
            720, type="integer", minimum=1, maximum=10_080, title="Minutes to answer", description="After that, it is a no."
        ),
    },
):
    plan_next = BranchPythonOperator(task_id="plan_next", python_callable=reshard.plan_next)
    ask = reshard.PlanApproval(
        task_id="ask", subject="Publish this resharding plan?", body=reshard.SUMMARY, retry_delay=timedelta(seconds=2)
    )
    carry_on = BranchPythonOperator(task_id="carry_on", python_callable=reshard.carry_on, trigger_rule=ANY_PATH)
    warm_up = spark_step("warm_up", "warm_up_replicas", ["--plan", reshard.PLAN_ID], hours=6, weight=3)
    publish = PythonOperator(task_id="publish", python_callable=reshard.publish, outlets=[routing_epoch], trigger_rule=ANY_PATH)
    wait_for_gateways = PythonSensor(
        task_id="wait_for_gateways", python_callable=reshard.gateways_adopted, poke_interval=1, timeout=600
    )
    retire = PythonOperator(task_id="retire", python_callable=reshard.retire)
    close_plan = PythonOperator(task_id="close_plan", python_callable=reshard.close_plan)

    plan_next >> [ask, carry_on]
    ask >> carry_on >> [warm_up, publish]
    warm_up >> publish >> wait_for_gateways >> retire >> close_plan.as_teardown()
