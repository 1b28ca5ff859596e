"""What all DAGs share: owner and retries, the Spark step, and the step that ends a run when nothing is new."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import Asset, ExceptionRetryPolicy, Param, RetryAction, RetryRule, get_current_context

SPARK_CONNECTION = "spark_default"
SPARK_POOL = "spark"
JOBS_VARIABLE = "FORESHARD_SPARK_JOBS"
PROPERTIES_VARIABLE = "FORESHARD_SPARK_PROPERTIES"

# A refusal stays one however often it is repeated; a lost database or cluster may be back soon.
RETRIES = ExceptionRetryPolicy(
    rules=[RetryRule("foreshard.errors.Refused", action=RetryAction.FAIL, reason="refused; repeating changes nothing")]
)
DAG_DEFAULTS: dict[str, Any] = {
    "owner": "foreshard",
    "retries": 2,
    "retry_delay": timedelta(seconds=15),
    "retry_policy": RETRIES,
}
# What a job's reports are kept under. On YARN and Kubernetes the operator hands these to the driver, wherever it runs.
RUN_VARIABLES = {"FORESHARD_DAG_ID": "{{ dag.dag_id }}", "FORESHARD_RUN_ID": "{{ run_id }}"}
FORCE = Param(
    False,
    type="boolean",
    title="Start the job in any case",
    description="Start the Spark job even if the newest input is already worked in; the job writes only what is missing.",
)


def spark_step(
    task_id: str, job: str, arguments: Sequence[str] = (), *, outlets: Sequence[Asset] = (), hours: float = 1, weight: int = 1
) -> SparkSubmitOperator:
    """Submits `spark_jobs/<job>.py` to the cluster of the connection `spark_default`, bounded by the pool `spark`.

    A retry submits it again: jobs are idempotent. `hours` bounds one attempt; a higher `weight` goes first in the pool.
    Jars and other settings of the cluster are in its `spark-defaults.conf`, or in the file that FORESHARD_SPARK_PROPERTIES
    names; `make airflow` writes one.
    """
    return SparkSubmitOperator(
        task_id=task_id,
        name=f"foreshard {task_id}",
        application=str(_jobs_folder() / f"{job}.py"),
        application_args=list(arguments),
        conn_id=SPARK_CONNECTION,
        pool=SPARK_POOL,
        priority_weight=weight,
        weight_rule="absolute",
        env_vars=RUN_VARIABLES,
        properties_file=os.environ.get(PROPERTIES_VARIABLE),
        outlets=list(outlets),
        execution_timeout=timedelta(hours=hours),
    )


def unless_done(is_due: Callable[[Any], bool]) -> ShortCircuitOperator:
    """A task that ends the run unless `is_due(settings)`, or the run's parameter `force`, asks to go on."""

    def is_new() -> bool:
        from foreshard.settings import load

        return bool(get_current_context()["params"].get("force")) or is_due(load())

    return ShortCircuitOperator(task_id="is_new", python_callable=is_new, execution_timeout=timedelta(minutes=5))


def _jobs_folder() -> Path:
    given = os.environ.get(JOBS_VARIABLE)
    return Path(given) if given else Path(__file__).resolve().parents[2] / "spark_jobs"
