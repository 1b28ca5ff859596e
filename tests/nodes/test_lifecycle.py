"""Adding, emptying and removing nodes: what may be done when, and that a repeat after a kill ends what was begun."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from written_copies import put_shard

from foreshard.errors import ForeshardError, Refused
from foreshard.model import Move, MoveKind, NodeState, Replica
from foreshard.nodes.lifecycle import add_node, drain_node, list_nodes, remove_node
from foreshard.placement import codec
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings, load
from foreshard.transition import lease, steps
from foreshard.transition import store as transitions
from foreshard.transition.retire import holdings_of

HOUR = datetime(2013, 11, 20, 5, tzinfo=UTC)
NODES_OF_SHARD = (("a", "b"), ("b", "c"), ("c", "a"), ("a", "c"))
TOML = """
postgres_url = "{url}"
slot_bits = 2
[provisioner]
kind = "command"
command = ["{python}", "{script}", "{{verb}}", "{{node_id}}"]
"""
NODES = "".join(f'[[nodes]]\nnode_id = "{name}"\ncapacity = {c}\n' for name, c in (("a", 10), ("b", 10), ("c", 20)))
# Writes down each call with its operation, and fails for a node while a file of its name is there.
SCRIPT = """\
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
verb, node = sys.argv[1:3]
if verb == "observe":
    calls = [line.split() for line in (here / "calls").read_text().splitlines()] if (here / "calls").exists() else []
    state = {c[1]: "running" if c[0] == "add" else "stopped" for c in calls if c[0] in ("add", "remove")}
    print(json.dumps({"nodes": state}))
else:
    with (here / "calls").open("a") as file:
        print(verb, node, os.environ["FORESHARD_OPERATION_ID"], file=file)
    if (here / f"fail-{node}").exists():
        sys.exit("cut short")
    print(json.dumps({"detail": verb}))
"""


@pytest.fixture
def settings(tmp_path: Path, database: str, snapshot: Snapshot) -> Settings:
    """Epoch 1 over a, b and c, and a provisioner that writes down what it was told."""
    (tmp_path / "provide.py").write_text(SCRIPT, "utf-8")
    text = TOML.format(url=database, python=sys.executable, script=tmp_path / "provide.py") + NODES
    (tmp_path / "foreshard.toml").write_text(text, "utf-8")
    made = load(tmp_path / "foreshard.toml")
    pool.register(database, made)
    store.publish(database, snapshot, expected_epoch=0, published_by="test", reason="first layout")
    return made


def calls(settings: Settings) -> list[list[str]]:
    assert settings.path is not None
    file = settings.path.parent / "calls"
    return [line.split() for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def state_of(settings: Settings, node_id: str) -> NodeState:
    return next(n.state for n in pool.read_nodes(settings.postgres_url, settings.pool_id) if n.node_id == node_id)


def publish_without(settings: Settings, node_id: str) -> None:
    """Epoch 2, in which every shard is on the two other nodes."""
    url = settings.postgres_url
    others = [n for n in "abc" if n != node_id]
    replicas = tuple(Replica(shard, n) for shard in range(4) for n in others)
    records = [transitions.ReplicaRecord(r.shard_id, r.node_id, "verified", None, 0, 0) for r in replicas]
    transitions.upsert_replicas(url, settings.pool_id, records)
    made = Snapshot("usage", 2, 1, 2, 3600, 7, 90, pool.read_nodes(url, "usage"), replicas)
    store.publish(url, made, expected_epoch=1, published_by="test", reason="test")


def test_an_added_node_joins_and_is_started_once(settings: Settings) -> None:
    url = settings.postgres_url
    assert add_node(settings, url, "d", 30, "z1").detail == "add"
    node = next(n for n in pool.read_nodes(url, "usage") if n.node_id == "d")
    assert (node.state, node.capacity, node.zone) == (NodeState.JOINING, 30.0, "z1")
    assert add_node(settings, url, "d", 30, "z1").detail == "runs already"
    assert [c[:2] for c in calls(settings)] == [["add", "d"]]
    assert {n.node_id: n.process for n in list_nodes(settings, url)} == {"a": "", "b": "", "c": "", "d": "running"}


def test_an_addition_cut_short_goes_on_under_the_same_operation(settings: Settings, tmp_path: Path) -> None:
    url = settings.postgres_url
    (tmp_path / "fail-d").touch()
    with pytest.raises(ForeshardError, match="cut short"):
        add_node(settings, url, "d", 30)
    assert state_of(settings, "d") is NodeState.JOINING
    (tmp_path / "fail-d").unlink()
    add_node(settings, url, "d", 30)
    first, second = calls(settings)
    assert first == second, "the same verb, node and operation"
    remove_first(settings, "d")
    add_node(settings, url, "d", 30)
    assert calls(settings)[-1][:2] == ["add", "d"]
    assert calls(settings)[-1] != first, "another addition is another operation"


def remove_first(settings: Settings, node_id: str) -> None:
    drain_node(settings, settings.postgres_url, node_id)
    remove_node(settings, settings.postgres_url, node_id)
    assert state_of(settings, node_id) is NodeState.DEAD


@pytest.mark.parametrize(("node_id", "capacity", "said"), [("../x", 1.0, "must be letters"), ("d", 0.0, "above 0")])
def test_names_and_capacities_that_make_no_sense_are_refused(
    settings: Settings, node_id: str, capacity: float, said: str
) -> None:
    with pytest.raises(ForeshardError, match=said):
        add_node(settings, settings.postgres_url, node_id, capacity)
    assert calls(settings) == []


def test_no_node_is_emptied_that_the_full_replicas_need(settings: Settings) -> None:
    url = settings.postgres_url
    assert drain_node(settings, url, "a").detail == "drain"
    assert drain_node(settings, url, "a").detail == "is being emptied already"
    assert state_of(settings, "a") is NodeState.DRAINING
    with pytest.raises(Refused, match="without b the pool would have 1 nodes for 2 full replicas"):
        drain_node(settings, url, "b")
    assert state_of(settings, "b") is NodeState.ACTIVE
    add_node(settings, url, "a", 10)
    assert state_of(settings, "a") is NodeState.JOINING, "a node that is being emptied can be taken back"
    drain_node(settings, url, "b")
    with pytest.raises(ForeshardError, match="no node x"):
        drain_node(settings, url, "x")


def test_a_node_is_removed_only_when_nobody_needs_it(settings: Settings, tmp_path: Path) -> None:
    url, table = settings.postgres_url, settings.table("serving/a")
    put_shard(table, 0, [("AA1", HOUR, "1", 1)], {0: 3})
    transitions.upsert_replicas(url, "usage", [transitions.ReplicaRecord(0, "a", "serving", None, 3, 3)])
    with pytest.raises(Refused, match="node a is active; empty it first"):
        remove_node(settings, url, "a")
    drain_node(settings, url, "a")
    with pytest.raises(Refused, match="node a is still needed: epoch 1 routes 3 shards to it"):
        remove_node(settings, url, "a")
    store.register_gateway(url, "usage", "g1", 600)
    publish_without(settings, "a")
    with pytest.raises(Refused, match="gateways g1 have not adopted epoch 2"):
        remove_node(settings, url, "a")
    store.acknowledge(url, "usage", "g1", 2)
    save_open_plan(settings)
    with pytest.raises(Refused, match=r"plan p1, which is approved, has 1 moves from or to it"):
        remove_node(settings, url, "a")
    transitions.set_plan_state(url, "usage", "p1", "rejected", "test")
    store.write_heartbeat(url, "usage", "a", 1.0, {0: 3})

    (tmp_path / "fail-a").touch()
    with pytest.raises(ForeshardError, match="cut short"):
        remove_node(settings, url, "a")
    assert state_of(settings, "a") is NodeState.DRAINING
    (tmp_path / "fail-a").unlink()
    remove_node(settings, url, "a")
    assert calls(settings)[-1] == calls(settings)[-2], "the repeat was the same operation"
    assert state_of(settings, "a") is NodeState.DEAD
    assert holdings_of(settings, "a") == {}
    assert DeltaTable(table).to_pyarrow_table().num_rows == 0
    assert [r for r in transitions.read_replicas(url, "usage") if r.node_id == "a"] == []
    assert "a" not in store.read_heartbeats(url, "usage")
    assert store.history(url, "usage")[-1].epoch == 1, "history stays"


def save_open_plan(settings: Settings) -> None:
    """An approved plan that moves a shard to a."""
    from dataclasses import replace

    plan = steps.first_plan("usage", steps.initial_layout([0, 1, 2, 3], settings_nodes(settings), settings.policy, epoch=3))
    move = Move(MoveKind.REPLICATE, 0, "", "a", None, 10, "test")
    plan = replace(plan, plan_id="p1", base_epoch=2, moves=(move,))
    transitions.save_plan(settings.postgres_url, plan, codec.plan_to_document(plan))
    transitions.record_approval(settings.postgres_url, "usage", "p1", "approved", "test")


def settings_nodes(settings: Settings) -> tuple[Any, ...]:
    return tuple(n.as_node() for n in settings.nodes)


def test_two_processes_do_not_change_nodes_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    url = settings.postgres_url
    monkeypatch.setattr("foreshard.nodes.lifecycle._WAIT_SECONDS", 0.0)
    with (
        lease.held(url, "usage/nodes", "somebody else", 60),
        pytest.raises(Refused, match="usage/nodes is held by somebody else"),
    ):
        drain_node(settings, url, "a")
    assert state_of(settings, "a") is NodeState.ACTIVE
    drain_node(settings, url, "a")


def test_without_a_provisioner_a_node_that_still_beats_is_not_removed(
    registered: str, pool_settings: Settings, snapshot: Snapshot
) -> None:
    store.publish(registered, snapshot, expected_epoch=0, published_by="test", reason="first layout")
    add_node(pool_settings, registered, "d", 5)
    drain_node(pool_settings, registered, "d")
    store.write_heartbeat(registered, "usage", "d", 0.0, {})
    with pytest.raises(Refused, match="node d still runs, and no provisioner is set"):
        remove_node(pool_settings, registered, "d")
    control_plane.query(registered, "delete_heartbeat", {"pool_id": "usage", "node_id": "d"})
    assert "yours to stop" in remove_node(pool_settings, registered, "d").detail


def test_the_command_line_adds_lists_and_drains(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from foreshard.cli import app

    def run(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*words, "--settings", str(settings.path), "--json"])
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.output)
        return found

    assert run("node", "add", "d", "--capacity", "7")["detail"] == "add"
    assert run("node", "drain", "d") == {"verb": "drain", "node_id": "d", "detail": "drain"}
    pool.set_desired_nodes(settings.postgres_url, "usage", 5)
    listed = run("node", "list")
    assert listed["desired_nodes"] == 5
    assert [(n["node_id"], n["state"], n["routed"]) for n in listed["nodes"]] == [
        ("a", "active", 3), ("b", "active", 2), ("c", "active", 3), ("d", "draining", 0),
    ]  # fmt: skip
    assert run("node", "remove", "d")["detail"] == "remove"
