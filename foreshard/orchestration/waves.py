"""What `reshard` and `repair` share: a begun plan is carried out wave by wave, each by a group of tasks of its own.

The task before is named `carry_on`, returns the numbers of the waves, and keeps the plan in its XCom under `plan`.
Two runs may be at one plan: each cycle is the controller's, which one process at a time may be, and what another has done
already is skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import TriggerRule, get_current_context, task_group
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from foreshard.orchestration.assets import routing_epoch
from foreshard.orchestration.steps import spark_step

if TYPE_CHECKING:
    from foreshard.transition.controller import Cycle

CARRY_ON = "carry_on"
PLAN = "plan"
PLAN_ID = f"{{{{ ti.xcom_pull(task_ids='{CARRY_ON}', key='{PLAN}')['plan_id'] }}}}"
ANY_PATH = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
# Nodes, gateways and people may take their time.
WAIT_SECONDS = 7 * 24 * 3600


def carried_out(carry_on: PythonOperator) -> PythonSensor:
    """Wires the waves behind `carry_on`, and returns the task that ends the plan."""

    @task_group(group_id="carry_out")  # type: ignore[untyped-decorator]
    def carry_out(wave: int) -> None:
        one_by_one: dict[str, Any] = {"op_args": [wave], "poke_interval": 1, "max_active_tis_per_dagrun": 1}
        agree = PythonSensor(task_id="agree", python_callable=is_to_be_copied, timeout=WAIT_SECONDS, **one_by_one)
        warm_up = spark_step("warm_up", "warm_up_replicas", ["--plan", PLAN_ID], hours=6, weight=3)
        cut_over = PythonSensor(
            task_id="cut_over",
            python_callable=is_carried_out,
            timeout=WAIT_SECONDS,
            outlets=[routing_epoch],
            **one_by_one,
        )
        agree >> warm_up >> cut_over

    finish = PythonSensor(
        task_id="finish",
        python_callable=is_finished,
        poke_interval=1,
        timeout=600,
        outlets=[routing_epoch],
        trigger_rule=ANY_PATH,
    )
    carry_on >> finish
    carry_out.expand(wave=carry_on.output) >> finish
    return finish


def skip(why: str) -> NoReturn:
    """Skips the task. Airflow does not log the text of its exception, so it is printed too."""
    print(why)
    raise AirflowSkipException(why)


def is_to_be_copied(wave: int) -> bool:
    """Whether the wave's turn has come and its nodes agreed, so that Spark is needed next; see `is_turn`."""
    done = _cycle()
    return done is not None and is_turn(done, wave)


def is_turn(done: Cycle, wave: int) -> bool:
    """Whether the wave needs Spark next, by the last cycle.

    AirflowSkipException, which spares the wave its Spark job, once the plan is past it: it copied nothing, was rolled back, or
    another run or person carried it out.
    """
    if done.is_over or done.decision.wave > wave:
        skip(f"wave {wave + 1} has ended, and now: {done.decision.sentence}")
    return done.decision.wave == wave and done.needs_spark


def is_carried_out(wave: int) -> bool:
    """Takes the wave on, cycle by cycle, and says whether it has ended."""
    done = _cycle()
    if done is None:
        return False
    if done.needs_spark and done.decision.wave == wave:
        raise AirflowFailException(f"Spark is needed again ({done.decision.sentence}): clear `warm_up` of this wave")
    return done.is_over or done.decision.wave > wave


def is_finished() -> bool:
    """Ends the plan; one without moves is published here."""
    done = _cycle()
    return done is not None and done.is_over


def _cycle() -> Cycle | None:
    """Cycles until nothing can be done at once; None while another process controls the transition, which is no news."""
    from foreshard.errors import Refused
    from foreshard.settings import load
    from foreshard.transition import steps

    context = get_current_context()
    plan_id = context["ti"].xcom_pull(task_ids=CARRY_ON, key=PLAN)["plan_id"]
    try:
        return steps.carry_on(load(), plan_id, context["dag"].dag_id)
    except Refused:
        return None
