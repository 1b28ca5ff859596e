"""The whole loop on a real scheduler: a landed hour travels DAG by DAG to a published epoch, past a person's decision."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from foreshard import settings as configuration
from foreshard.commands import nodes, operate
from foreshard.local.airflow import LocalAirflow
from foreshard.local.airflow_api import AirflowApi, Approval
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.local.processes import ChildProcess, free_port, start, wait_until
from foreshard.local.submit import submit
from foreshard.model import NodeState
from foreshard.routing import database, pool
from foreshard.routing import store as routing_store
from foreshard.settings import Settings
from foreshard.transition import store

pytestmark = pytest.mark.live

FIRST_HOUR = datetime(2013, 11, 26, tzinfo=UTC)
HOURS_LOADED = 30
TURN_SECONDS = 600
SETTINGS = """
home = "var"
slot_bits = 2
nodes = [
  { node_id = "a", capacity = 0.1 },
  { node_id = "b", capacity = 0.1 },
  { node_id = "c", capacity = 0.1 },
]
[policy]
auto_approve_moves = 0
[forecast]
horizon_hours = 6
[transition]
reverse_seconds = 1
[watch]
dead_seconds = 15
[spark]
master = "local[2]"
driver_java_options = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""


@dataclass(frozen=True)
class Loop:
    settings: Settings
    url: str
    api: AirflowApi

    def land_and_trigger(self, number: int) -> None:
        hour = FIRST_HOUR + timedelta(hours=number)
        land(self.settings, hour)
        self.api.trigger("aggregate", partition_key=hour.strftime("%Y-%m-%dT%H:%M:%S"))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        self.api.wait_until(condition, TURN_SECONDS, what)

    def asked(self) -> Approval:
        self.wait(lambda: bool(self.api.approvals("reshard")), "an approval to be asked for")
        return self.api.approvals("reshard")[0]

    def wait_for_end(self, approval: Approval) -> dict[str, str]:
        """Task states of the run that asked, once it is done."""
        self.wait(lambda: self.api.run("reshard", approval.run_id).state == "success", "the reshard run to end")
        return self.api.tasks("reshard", approval.run_id)

    def epoch(self) -> int:
        snapshot = routing_store.current(self.url, self.settings.pool_id)
        assert snapshot is not None
        return snapshot.epoch

    def routed_nodes(self) -> set[str]:
        snapshot = routing_store.current(self.url, self.settings.pool_id)
        assert snapshot is not None
        return {r.node_id for r in snapshot.replicas}

    def beats(self, node_id: str) -> bool:
        """Whether the node has sent a heartbeat lately enough not to count as dead."""
        beats = routing_store.read_heartbeats(self.url, self.settings.pool_id)
        return node_id in beats and beats[node_id].age_seconds <= self.settings.watch.dead_seconds

    def plan_state(self) -> str:
        plan = store.latest_plan(self.url, self.settings.pool_id)
        assert plan is not None
        return plan.state


def land(settings: Settings, hour: datetime) -> None:
    """One hour's files: every hour the same twelve entities are used, and one of them is asked for far more often."""
    moment = hour.isoformat()
    key = {"service_id": "s", "operation_id": "read"}
    usage = [
        {"record_id": f"{moment}-{n}", "entity_id": f"e{n}", **key, "event_time": moment, "quantity": n + 1} for n in range(12)
    ]
    queries = [
        {
            "record_id": f"{moment}-{n}",
            "entity_id": f"e{n % 12 if n % 2 else 0}",
            **key,
            "range_start": (hour - timedelta(days=1)).isoformat(),
            "range_end": moment,
            "query_class": "interactive",
            "event_time": moment,
            "candidates": [],
            "node_id": "a",
            "predicted_load": 0.01,
            "epoch": 1,
            "reason": "test",
            "latency_ms": 5.0,
            "bytes": 100,
            "status": 200,
            "load_after": 0.01,
        }
        for n in range(200)
    ]
    for table, rows in (("usage_record", usage), ("query_record", queries)):
        folder = Path(settings.landing_folder(table)) / hour.strftime("%Y-%m-%dT%H")
        folder.mkdir(parents=True)
        partial = folder / ".part.jsonl"
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        partial.rename(folder / "part.jsonl")


@pytest.fixture
def pipelines(loop: Loop) -> Iterator[dict[str, ChildProcess]]:
    """The pipelines of the pool's nodes and of one more, d; all of them send heartbeats."""
    assert loop.settings.path is not None
    nodes.add("d", capacity=0.1, settings=loop.settings.path)
    children = {}
    try:
        for name in ("a", "b", "c", "d"):
            words = [sys.executable, "-m", "foreshard.cli", "pipeline", "--node", name, "--port", str(free_port())]
            children[name] = start([*words, "--settings", loop.settings.path], loop.settings.home / f"{name}.log")
        for name, child in children.items():
            what = f"node {name} to send a heartbeat"
            wait_until(partial(loop.beats, name), 120, what, child=child)
        yield children
    finally:
        for child in children.values():
            child.stop()


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A pool with a day of history at epoch 1, and a running Airflow with the repository's DAGs."""
    folder = Path(tmp_path_factory.mktemp("scheduler"))
    (folder / "foreshard.toml").write_text(SETTINGS, "utf-8")
    settings = configuration.load(folder / "foreshard.toml")
    postgres = EmbeddedPostgres(settings.home / "postgres")
    url = postgres.start()
    try:
        for number in range(HOURS_LOADED):
            land(settings, FIRST_HOUR + timedelta(hours=number))
        end = FIRST_HOUR + timedelta(hours=HOURS_LOADED)
        database.migrate(url)
        submit(settings, "aggregate", ["--from", FIRST_HOUR.isoformat(), "--to", end.isoformat()])
        operate.init(settings=folder / "foreshard.toml")
        metadata = postgres.create_database("airflow")
        with LocalAirflow(settings, metadata_url=metadata, postgres_url=url, hourly=False) as airflow:
            yield Loop(settings, url, airflow.api)
    finally:
        postgres.stop()


def test_every_dag_is_there_without_import_errors(loop: Loop) -> None:
    assert loop.api.import_errors() == []
    assert loop.api.dags() == [
        "aggregate",
        "follow_source",
        "forecast_load",
        "learn",
        "maintain",
        "repair",
        "reshard",
        "watch_nodes",
    ]


def test_a_landed_hour_travels_to_a_published_epoch_only_past_a_persons_yes(loop: Loop) -> None:
    assert loop.epoch() == 1

    loop.land_and_trigger(HOURS_LOADED)
    refused = loop.asked()
    loop.api.answer(refused, approve=False)
    states = loop.wait_for_end(refused)
    assert states["carry_on"] == states["finish"] == "skipped"
    assert (loop.plan_state(), loop.epoch()) == ("rejected", 1)

    loop.land_and_trigger(HOURS_LOADED + 1)
    agreed = loop.asked()
    assert "before | after" in agreed.body
    loop.api.answer(agreed, approve=True)
    states = loop.wait_for_end(agreed)
    assert states["carry_out.warm_up"] == states["carry_out.cut_over"] == states["finish"] == "success"
    assert (loop.plan_state(), loop.epoch()) == ("done", 2), "without gateways no step is held"

    loop.wait(lambda: all(run.state == "success" for run in loop.api.runs()), "all runs to end")
    newest = loop.api.runs("aggregate")[0]
    report = loop.api.page(f"/foreshard/quality/aggregate/{quote(newest.run_id, safe='')}/")
    assert "usage_record" in report, "what the run's tab shows"
    versions = {replica.applied_version for replica in store.read_replicas(loop.url, loop.settings.pool_id)}
    assert len(versions) == 1, "every copy has followed its source to one version"


def test_a_dead_node_is_repaired_around_at_once_while_a_plan_waits_for_a_person(
    loop: Loop, pipelines: dict[str, ChildProcess]
) -> None:
    nodes.drain("a", settings=loop.settings.path)
    loop.api.trigger("reshard")
    waiting = loop.asked()
    asked_for = store.latest_plan(loop.url, loop.settings.pool_id)
    assert asked_for is not None
    before = loop.epoch()
    assert "c" in loop.routed_nodes()

    pipelines["c"].process.send_signal(signal.SIGKILL)
    wait_until(lambda: not loop.beats("c"), 60, "node c to be silent")
    loop.api.trigger("watch_nodes")
    loop.wait(lambda: [run.state for run in loop.api.runs("repair")] == ["success"], "the repair")
    (run,) = loop.api.runs("repair")
    assert set(loop.api.tasks("repair", run.run_id).values()) == {"success"}
    node_states = {n.node_id: n.state for n in pool.read_nodes(loop.url, loop.settings.pool_id)}
    assert node_states["c"] is NodeState.DEAD
    assert loop.routed_nodes().isdisjoint({"c"})
    assert (loop.plan_state(), loop.epoch() > before) == ("done", True)
    assert [asked.run_id for asked in loop.api.approvals("reshard")] == [waiting.run_id], "it still waits for a person"

    repaired = loop.epoch()
    loop.api.trigger("watch_nodes")
    loop.api.answer(waiting, approve=True)
    loop.wait_for_end(waiting)
    assert store.read_plan(loop.url, loop.settings.pool_id, asked_for.plan_id).state == "failed", (
        "the repair changed its inputs"
    )
    said = loop.api.log("reshard", waiting.run_id, "carry_on")
    assert (
        f"plan {asked_for.plan_id} no longer fits: it was made from epoch {before}, and {repaired} is current; plan again"
        in said
    )
    loop.wait(lambda: all(run.state == "success" for run in loop.api.runs()), "all runs to end")
    assert len(loop.api.runs("repair")) == 1, "nothing is left to repair"
