"""The live safety net's hands: carries out what the watch planned around dead and overloaded nodes, without a person."""

from datetime import timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Param

from foreshard.orchestration import repair, waves
from foreshard.orchestration.steps import DAG_DEFAULTS

DOC = """
### repair: around a dead or overloaded node, at once

Started by `watch_nodes`, so that a repair waits neither for a forecast nor for the answer that a run of `reshard` waits for.

1. `carry_on` begins the plan, or goes on with it. Where there is nothing to do, or another plan is carried out, the run ends
   here and its log says why; the watch looks again in a minute.
2. For each wave of moves, as in `reshard`: `agree` waits for the nodes, `warm_up` copies and verifies, `cut_over` shifts the
   weights step by step.
3. `finish` ends the plan.

A plan of `reshard` that a person approves meanwhile is refused: the repair has changed what it was made from.

- **Reads** the repair plan.
- **Writes** `serving/<node>`, and in Postgres the plan, its moves and the epochs.

**When it fails** run `foreshard transition status`. The watch starts another run every minute as long as there is something
to repair, and it goes on where this one stopped. Until its old copies are dropped a repair can be taken back:
`foreshard transition rollback`; pause `watch_nodes` first, or it plans it again.
"""

with DAG(
    "repair",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=8),
    default_args=DAG_DEFAULTS,
    description="Repairs around nodes that are dead or overloaded",
    doc_md=DOC,
    tags=["foreshard", "upkeep", "spark"],
    params={
        "plan_id": Param("", type="string", title="Plan", description="An approved plan; empty: the repair that is wanted now.")
    },
):
    waves.carried_out(PythonOperator(task_id=waves.CARRY_ON, python_callable=repair.carry_on))
