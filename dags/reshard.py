"""Steps 3 to 5 of the loop: plan, ask if need be, and carry out wave by wave."""

from datetime import timedelta

from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.sdk import DAG, Param

from foreshard.orchestration import reshard, waves
from foreshard.orchestration.assets import load_forecast, whenever_new
from foreshard.orchestration.steps import DAG_DEFAULTS

DOC = """
### reshard: from a forecast to a carried-out plan

1. `plan_next` makes the plan, or takes up the one that is still being carried out. Nothing to do ends the run here,
   and so does a repair under way: it comes first, and the next forecast plans again.
2. `ask` waits for a person if the plan moves more than the pool's `auto_approve_moves` or `auto_approve_bytes`: answer under
   *Required Actions*. **No answer in time, or before the first move must begin, is a no.**
3. `carry_on` begins the plan. One whose nodes, epoch or forecast have changed since is refused and made anew;
   one that was approved while a repair was carried out is refused.
4. For each wave of moves: `agree` waits for the nodes and for its turn; `warm_up` copies at a pinned version, catches up and
   verifies; `cut_over` sends some queries to the new copies too and compares the answers, shifts the weights step by step as
   the gateways follow, keeps the old copies for a while, and then drops them. Its log says one sentence a step.
5. `finish` ends the plan; a plan without moves only carries new weights and forecasts to the gateways, and is published here.
6. `close_plan` always runs: what nobody approved is rejected. A plan that is under way stays so.

In shadow mode (`foreshard shadow begin`) the plan is made and recorded, nobody is asked, and `close_plan` rejects it; one that
was under way goes on. `foreshard shadow status` says what the plans would have been worth.

- **Reads** `load_forecast`, the current epoch, the pool's policy.
- **Writes** `serving/<node>`, and in Postgres the plan, its moves and the epochs.

**When it fails** run `foreshard transition status`: it says where each move is and what is waited for. Clear the failed task,
or let the next run go on with the plan. Until its old copies are dropped it can be taken back: `foreshard transition rollback`.
*Refused* means that something else changed meanwhile; there is nothing to repeat.
"""

with DAG(
    "reshard",
    schedule=whenever_new(load_forecast),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=8),
    default_args=DAG_DEFAULTS,
    description="Plans, warms up, cuts over and retires",
    doc_md=DOC,
    tags=["foreshard", "step-3", "step-4", "step-5", "spark", "approval"],
    params={
        "dry_run": Param(False, type="boolean", title="Dry run", description="Make the plan, show it in the log and stop."),
        "approval_minutes": Param(
            720, type="integer", minimum=1, maximum=10_080, title="Minutes to answer", description="After that, it is a no."
        ),
        "plan_id": Param("", type="string", title="Plan", description="A stored plan to carry out; empty: make the next one."),
    },
):
    plan_next = BranchPythonOperator(task_id="plan_next", python_callable=reshard.plan_next)
    ask = reshard.PlanApproval(
        task_id="ask", subject="Carry out this resharding plan?", body=reshard.QUESTION, retry_delay=timedelta(seconds=2)
    )
    carry_on = PythonOperator(task_id="carry_on", python_callable=reshard.carry_on, trigger_rule=waves.ANY_PATH)

    close_plan = PythonOperator(task_id="close_plan", python_callable=reshard.close_plan)

    plan_next >> [ask, carry_on]
    ask >> carry_on
    waves.carried_out(carry_on) >> close_plan.as_teardown()
