"""Keeping the tables: small files, old days, and files that nothing needs any more."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from foreshard.orchestration.hours import each_night
from foreshard.orchestration.steps import DAG_DEFAULTS, spark_step

DOC = """
### maintain: the tables stay quick to read and cheap to keep

**Does**, once a night, for every table: bring the small files of complete days together, drop days past their retention
(`[retention]` in the settings), and remove files that no version needs any more. It changes no row that is kept, and never goes
past a version that a plan has pinned, a copy follows from or a product is made from. What nodes and gateways said of plans that
ended 30 days ago goes too. The loop does not wait for it.

- **Reads** the tables' logs, and in Postgres the pins and nodes.
- **Writes** the files of all tables; their rows stay as they are. In Postgres it removes old answers and reports.

The task's log ends with one sentence per table. A table whose writer is busy, or for which the time was over, is left for the
next run.

**When it fails** the log names the table; the others are done. Nothing depends on it: clear the task, or wait for the next
night.
"""

with DAG(
    "maintain",
    schedule=each_night(),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args=DAG_DEFAULTS,
    description="Compacts, drops and vacuums",
    doc_md=DOC,
    tags=["foreshard", "upkeep", "spark"],
    params={
        "minutes": Param(
            30, type="integer", minimum=1, maximum=300, title="Minutes", description="Begin no further table after that."
        )
    },
):
    spark_step("maintain", "maintain", ["--minutes", "{{ params.minutes }}"], hours=5)
