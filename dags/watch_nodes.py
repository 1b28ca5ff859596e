"""The live safety net beside the forecast: dead and overloaded nodes, and the plans that repair around them."""

from datetime import timedelta

from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Param

from foreshard.orchestration import watch
from foreshard.orchestration.hours import each_minute
from foreshard.orchestration.steps import DAG_DEFAULTS

DOC = """
### watch_nodes: which nodes live, and what to do about the others

**Does**, once a minute:

1. `look` marks a node dead that has sent no heartbeat for `[watch] dead_seconds` and does not answer either, lets one that
   beats again join, and makes one that has joined and is ready active. It says which nodes have carried more than their
   capacity for `overload_minutes`, and keeps the number of nodes that the newest plan wants. Every `correct_minutes` it moves
   the nodes' corrections a step: gateways ask those less that have more to do than was expected. Where queries still go to a
   dead node, or an overload lasts, it makes a plan that repairs it, which needs no approval. A plan under way that leads to a
   dead node is taken back first.
2. `repair` starts the DAG `repair` with that plan, unless a run of it is under way; again at the next look if it has failed.
   It also goes on with a plan that a repair must wait for, if no run of `reshard` is there to do so.

In shadow mode (`foreshard shadow begin`) nodes' states are kept as ever; nothing is repaired or corrected, which the log says.

- **Reads** heartbeats, the current epoch, the newest `load_forecast`.
- **Writes** in Postgres the nodes' states, `node_correction`, and the repair plan.

**When it fails** queries go on: gateways avoid a node that does not answer by themselves. The log names what is missing, mostly
a forecast to plan from or a way to Postgres; the next minute tries again.
"""

with DAG(
    "watch_nodes",
    schedule=each_minute(),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),
    default_args=DAG_DEFAULTS,
    description="Watches nodes and repairs around those that fail",
    doc_md=DOC,
    tags=["foreshard", "upkeep"],
    params={
        "repair": Param(True, type="boolean", title="Repair", description="Make a repair plan where one is needed, and run it.")
    },
):
    look = ShortCircuitOperator(task_id="look", python_callable=watch.look, execution_timeout=timedelta(minutes=5))
    repair = TriggerDagRunOperator(
        task_id="repair",
        trigger_dag_id="repair",
        trigger_run_id=watch.REPAIR_RUN,
        conf={"plan_id": watch.REPAIR_PLAN},
        skip_when_already_exists=True,
    )
    look >> repair
