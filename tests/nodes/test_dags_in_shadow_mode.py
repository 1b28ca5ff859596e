"""The tasks of `reshard` and `watch_nodes` in shadow mode: plans are recorded, nobody is asked, and nothing is repaired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.execution_time.context import set_current_context
from written_forecasts import write_forecast

from foreshard.errors import Refused
from foreshard.model import NodeState
from foreshard.nodes.desired import refresh_desired
from foreshard.nodes.repair import propose_repair
from foreshard.orchestration import reshard, watch
from foreshard.routing import corrections, pool
from foreshard.settings import Settings
from foreshard.transition import shadow_mode, steps
from foreshard.transition import store as transitions


class TaskInstance:
    """Keeps what a run's tasks hand to each other; no other run is there."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.kept.get(key) if task_ids in ("plan_next", "look") else None

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        return 0


@contextmanager
def run(**params: Any) -> Iterator[TaskInstance]:
    """A run of one of the DAGs with these parameters."""
    instance = TaskInstance()
    defaults = {"plan_id": "", "dry_run": False, "repair": True}
    with set_current_context({"params": defaults | params, "ti": instance}):  # type: ignore[arg-type]
        yield instance


@pytest.fixture
def shadowed(watched: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """In shadow mode, with a forecast by which shard 1 becomes hot."""
    monkeypatch.setenv("FORESHARD_SETTINGS", str(watched.path))
    origin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    write_forecast(watched, origin, {0: 4.0, 1: 14.0, 2: 4.0, 3: 4.0})
    pool.set_shadow(watched.postgres_url, "usage", "ann")
    return watched


def states(settings: Settings) -> list[str]:
    latest = transitions.latest_plan(settings.postgres_url, "usage")
    events = transitions.read_events(settings.postgres_url, "usage", latest.plan_id) if latest else []
    return [e.stage for e in events]


def test_a_plan_is_recorded_and_set_aside_and_nobody_is_asked(shadowed: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with run() as instance:
        assert reshard.plan_next() is None
        plan_id = instance.kept["plan"]["plan_id"]
        assert f"plan {plan_id} is recorded only, and nobody is asked; `foreshard shadow end`" in capsys.readouterr().out
        reshard.close_plan()
        reshard.close_plan()
    assert transitions.read_plan(shadowed.postgres_url, "usage", plan_id).state == "rejected"
    assert transitions.read_events(shadowed.postgres_url, "usage", plan_id)[-1].actor == shadow_mode.ACTOR
    assert transitions.read_problem(shadowed.postgres_url, "usage", plan_id)
    history = states(shadowed)
    with run():
        assert reshard.plan_next() is None
        reshard.close_plan()
    assert states(shadowed) == history, "the same inputs give the same plan, which is kept back already"


def test_when_it_ends_the_next_forecast_makes_a_plan_that_goes_its_way(shadowed: Settings) -> None:
    with run():
        reshard.plan_next()
        reshard.close_plan()
    pool.set_shadow(shadowed.postgres_url, "usage", None)
    origin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    write_forecast(shadowed, origin, {0: 4.0, 1: 15.0, 2: 4.0, 3: 4.0})
    with run():
        assert reshard.plan_next() in ("ask", "carry_on")


def test_a_plan_that_was_running_is_taken_up(shadowed: Settings) -> None:
    url = shadowed.postgres_url
    pool.set_shadow(url, "usage", None)
    plan = steps.propose(shadowed)
    if plan.needs_approval:
        steps.record_decision(shadowed, plan.plan_id, "approved", "ann")
    steps.begin(shadowed, plan.plan_id, "test")
    pool.set_shadow(url, "usage", "ann")
    with run():
        assert reshard.plan_next() == "carry_on"
        reshard.close_plan()
    with run():
        assert watch.look() is False, "it is for `reshard` to go on with"
    assert transitions.read_plan(url, "usage", plan.plan_id).state == "running"


def test_a_plan_between_its_making_and_its_beginning_is_refused_and_set_aside(shadowed: Settings) -> None:
    url = shadowed.postgres_url
    pool.set_shadow(url, "usage", None)
    with run() as instance:
        reshard.plan_next()
        plan = instance.kept["plan"]
        reshard.record_yes(shadowed, plan["plan_id"], "ann")
        pool.set_shadow(url, "usage", "ann")
        with pytest.raises(Refused, match=f"in shadow mode .* plan {plan['plan_id']} is recorded and not carried out"):
            reshard.begin(shadowed, plan)
        reshard.close_plan()
    assert transitions.read_plan(url, "usage", plan["plan_id"]).state == "rejected"
    latest = transitions.latest_plan(url, "usage")
    assert latest is not None
    assert latest.plan_id == plan["plan_id"], "none takes its place"


def test_no_plan_takes_the_place_of_one_that_has_drifted(shadowed: Settings) -> None:
    url = shadowed.postgres_url
    pool.set_shadow(url, "usage", None)
    with run() as instance:
        reshard.plan_next()
        plan = instance.kept["plan"]
    reshard.record_yes(shadowed, plan["plan_id"], "ann")
    pool.set_node_state(url, "usage", "a", NodeState.DEAD)
    pool.set_shadow(url, "usage", "ann")
    with pytest.raises(Refused, match=r"node a was active when it was made, and is dead; plan again$"):
        reshard.begin(shadowed, plan)
    latest = transitions.latest_plan(url, "usage")
    assert latest is not None
    assert latest.plan_id == plan["plan_id"]


def test_the_watch_keeps_states_and_repairs_nothing(shadowed: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    url = shadowed.postgres_url
    with run():
        assert watch.look() is False
    assert "in shadow mode since" in capsys.readouterr().out
    pool.set_node_state(url, "usage", "a", NodeState.DEAD)
    with run():
        assert watch.look() is False
    assert "nothing is repaired or corrected, although node a is dead" in capsys.readouterr().out
    assert transitions.latest_plan(url, "usage") is None
    pool.set_shadow(url, "usage", None)
    with run() as instance:
        assert watch.look() is True
        assert instance.kept["plan_id"]


def test_a_repair_that_was_under_way_goes_on(shadowed: Settings) -> None:
    url = shadowed.postgres_url
    pool.set_shadow(url, "usage", None)
    pool.set_node_state(url, "usage", "a", NodeState.DEAD)
    plan_id = propose_repair(shadowed, url).plan_id
    steps.begin(shadowed, plan_id, "test")
    pool.set_shadow(url, "usage", "ann")
    with run() as instance:
        assert watch.look() is True
        assert instance.kept["plan_id"] == plan_id


def test_nodes_are_neither_corrected_nor_wanted(shadowed: Settings) -> None:
    url = shadowed.postgres_url
    corrections.write_corrections(url, "usage", {"a": 2.0}, 0)
    assert corrections.read_corrections(url, "usage") == {}
    with run():
        reshard.plan_next()
    assert refresh_desired(shadowed, url) == ""
    assert pool.read_pool(url, "usage").desired_nodes is None
    pool.set_shadow(url, "usage", None)
    assert corrections.write_corrections(url, "usage", {"a": 2.0}, 0) == ["a"]
    assert "nodes are wanted from now on" in refresh_desired(shadowed, url)
