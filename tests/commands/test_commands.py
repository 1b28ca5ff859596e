"""The command line on a real set-up: exit statuses, stable JSON fields, and one sentence for what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from first_epoch import publish_first_epoch

from foreshard.hashing import entity_slot
from foreshard.local.processes import free_port
from foreshard.model import NodeState, Replica
from foreshard.placement import codec
from foreshard.routing import corrections, pool
from foreshard.routing import store as epochs
from foreshard.settings import load

pytestmark = pytest.mark.live

TOML = """
postgres_url = "{url}"
slot_bits = 2
[spark]
master = "local[2]"
shuffle_partitions = 2
[[nodes]]
node_id = "a"
capacity = 10
[[nodes]]
node_id = "b"
capacity = 20
[[nodes]]
node_id = "c"
capacity = 20
"""


def foreshard(*words: str, cwd: Path) -> tuple[int, str, str]:
    """Runs the command as a person would; (exit status, standard output, standard error)."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("FORESHARD_")} | {"COLUMNS": "200"}
    command = [sys.executable, "-m", "foreshard.cli", *words]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout, done.stderr


def document(*words: str, cwd: Path) -> dict[str, Any]:
    status, out, err = foreshard(*words, "--json", cwd=cwd)
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def folder(tmp_path: Path, database: str) -> Path:
    """A folder with settings over a migrated, empty control plane."""
    (tmp_path / "foreshard.toml").write_text(TOML.format(url=database), "utf-8")
    return tmp_path


@pytest.fixture
def set_up(folder: Path) -> Path:
    """The same with the first epoch published; its copies are recorded as verified, as `init` would leave them."""
    settings = load(folder / "foreshard.toml")
    url = settings.postgres_url
    pool.register(url, settings)
    publish_first_epoch(settings)
    return folder


def assert_one_sentence(done: tuple[int, str, str], *words: str) -> None:
    status, out, err = done
    assert (status, out) == (1, ""), err
    assert err.startswith("foreshard: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_what_is_shown_of_a_set_up_pool(set_up: Path) -> None:
    status = document("status", cwd=set_up)
    assert set(status) == {"pool_id", "epoch", "nodes", "watermarks", "hot_entities", "latest_plan"}
    assert (status["pool_id"], status["epoch"]) == ("usage", 1)
    assert [n["node_id"] for n in status["nodes"]] == ["a", "b", "c"]
    assert sum(n["replicas"] for n in status["nodes"]) == 8
    assert set(status["nodes"][0]) == {"node_id", "state", "capacity", "replicas", "load", "heartbeat_age_seconds"}
    assert status["watermarks"]["usage_hourly"] == {"hour": None, "version": -1}

    plan = document("plan", "show", cwd=set_up)
    assert (plan["plan_id"], plan["state"]) == (status["latest_plan"]["plan_id"], "done")
    assert codec.plan_from_document(plan["plan"]).plan_id == plan["plan_id"]
    moves = document("transition", "status", plan["plan_id"], cwd=set_up)
    assert {m["state"] for m in moves["moves"]} == {"done"}
    assert {"proposed", "approved", "published", "done"} <= {e["stage"] for e in moves["events"]}

    routes = document("routes", "show", cwd=set_up)
    assert (routes["epoch"], routes["parent"], len(routes["replicas"])) == (1, 0, 8)
    why = document("routes", "explain", "ü€", cwd=set_up)
    assert why["shard_id"] == entity_slot("ü€", 2)
    assert sum(r["weight"] for r in why["replicas"]) == pytest.approx(1.0)
    assert set(why) == {"entity_id", "shard_id", "epoch", "why", "skill", "start", "replicas"}
    assert sum(r["share"] for r in why["replicas"]) == pytest.approx(1.0)
    replica_fields = {
        "shard_id",
        "node_id",
        "weight",
        "covers_from",
        "state",
        "capacity",
        "predicted_load",
        "correction",
        "covers",
    }
    assert {frozenset(r) for r in why["replicas"]} == {frozenset(replica_fields | {"share", "sentence"})}
    assert [e["epoch"] for e in document("routes", "history", cwd=set_up)["epochs"]] == [1]
    for words in (["status"], ["plan", "show"], ["transition", "status"], ["routes", "show"], ["routes", "explain", "e"]):
        code, out, err = foreshard(*words, cwd=set_up)
        assert (code, err) == (0, "")
        assert out.strip()


def test_what_explains_a_route_is_of_now_and_for_the_time_that_is_asked_for(set_up: Path) -> None:
    settings = load(set_up / "foreshard.toml")
    url = settings.postgres_url
    first = document("routes", "explain", "e", cwd=set_up)["replicas"]
    slow, other = first[0]["node_id"], first[1]["node_id"]
    corrections.write_corrections(url, "usage", {slow: 2.0}, 60.0)
    pool.set_node_state(url, "usage", other, NodeState.DRAINING)
    why = {r["node_id"]: r for r in document("routes", "explain", "e", "--start", "2013-11-01T05:00", cwd=set_up)["replicas"]}
    assert (why[slow]["correction"], why[slow]["share"]) == (2.0, 1.0)
    assert (why[other]["state"], why[other]["share"]) == ("draining", 0.0)
    code, out, err = foreshard("routes", "explain", "e", "--start", "2013-11-01T05:00", cwd=set_up)
    assert (code, err) == (0, "")
    assert "ask for 2013-11-01 05:00 on" in out
    assert "100 % more to do" in " ".join(out.split())
    assert_one_sentence(foreshard("routes", "explain", "e", "--start", "soon", cwd=set_up), "start must be a time", "'soon'")


def test_doctor_names_what_is_wrong_and_says_so_by_its_status(set_up: Path) -> None:
    code, out, _ = foreshard("doctor", "--json", cwd=set_up)
    findings = json.loads(out)["findings"]
    assert code == 1
    assert {"nothing aggregated yet"} <= {f["what"] for f in findings}
    assert any(f["what"].startswith("routed but not held") and f["where"] == "a" for f in findings)
    assert all(set(f) == {"what", "where", "do", "repairable"} and f["do"] for f in findings)


def test_rollback_needs_an_epoch_to_go_back_to(set_up: Path) -> None:
    assert_one_sentence(foreshard("routes", "rollback", "1", cwd=set_up), "already current")
    assert_one_sentence(foreshard("routes", "rollback", "7", cwd=set_up), "no epoch 7")
    settings = load(set_up / "foreshard.toml")
    first = epochs.current(settings.postgres_url, "usage")
    assert first is not None
    changed = replace(first, epoch=2, parent=1, replicas=(replace(first.replicas[0], weight=0.9), *first.replicas[1:]))
    epochs.publish(settings.postgres_url, changed, expected_epoch=1, published_by="test", reason="test")
    code, out, err = foreshard("routes", "rollback", "1", cwd=set_up)
    assert (code, err) == (0, "")
    assert "Epoch 3" in out
    back = document("routes", "show", cwd=set_up)["replicas"]
    assert [Replica(r["shard_id"], r["node_id"], r["weight"]) for r in back] == list(first.replicas)


def test_what_is_asked_for_too_early_is_refused_in_one_sentence(folder: Path) -> None:
    assert_one_sentence(foreshard("status", cwd=folder), "foreshard init")
    assert_one_sentence(foreshard("routes", "show", cwd=folder), "foreshard init")
    assert_one_sentence(foreshard("plan", "show", cwd=folder), "no plan")
    assert_one_sentence(foreshard("plan", "show", "nope", cwd=folder), "no plan nope")
    assert_one_sentence(foreshard("plan", "approve", "nope", cwd=folder), "no plan nope")
    assert_one_sentence(foreshard("transition", "status", "nope", cwd=folder), "no plan nope")


def test_a_postgres_that_is_down_is_named_without_its_password(folder: Path) -> None:
    port = free_port()
    (folder / "foreshard.toml").write_text(TOML.format(url=f"postgresql://u:secret@127.0.0.1:{port}/db"), "utf-8")
    for words in (["status"], ["init"], ["routes", "show"], ["plan", "show"]):
        done = foreshard(*words, cwd=folder)
        assert_one_sentence(done, str(port))
        assert "secret" not in done[2]
    (folder / "foreshard.toml").write_text("", "utf-8")
    assert_one_sentence(foreshard("status", cwd=folder), "Postgres is not running", "foreshard up")


def test_bad_settings_are_named(folder: Path) -> None:
    (folder / "foreshard.toml").write_text("slot_bits = 99", "utf-8")
    assert_one_sentence(foreshard("status", cwd=folder), "slot_bits", "foreshard.toml")
    assert_one_sentence(foreshard("status", "--settings", "none.toml", cwd=folder), "none.toml does not exist")
    (folder / "foreshard.toml").write_text("", "utf-8")
    assert_one_sentence(foreshard("init", cwd=folder), "no nodes are declared")


def test_help_and_wrong_usage(tmp_path: Path) -> None:
    code, out, _ = foreshard("--help", cwd=tmp_path)
    assert code == 0
    for name in ("init", "status", "doctor", "gateway", "pipeline", "forecast", "plan", "transition", "routes", "capacity"):
        assert name in out
    assert foreshard("no-such-command", cwd=tmp_path)[0] == 2
    assert foreshard("routes", "rollback", "soon", cwd=tmp_path)[0] == 2


def test_a_problem_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    solve = ("plan", "solve", "--out", "q.json", "--problem")
    assert_one_sentence(foreshard(*solve, "none.json", cwd=tmp_path), "none.json")
    (tmp_path / "p.json").write_text("{", "utf-8")
    assert_one_sentence(foreshard(*solve, "p.json", cwd=tmp_path), "p.json")
    (tmp_path / "p.json").write_text("[]", "utf-8")
    assert_one_sentence(foreshard(*solve, "p.json", cwd=tmp_path))


@pytest.mark.live
@pytest.mark.spark
def test_init_makes_the_first_epoch_through_spark_and_repeats_without_effect(folder: Path) -> None:
    first = document("init", cwd=folder)
    assert first == {"pool_id": "usage", "epoch": 1, "nodes": ["a", "b", "c"]}
    assert document("init", cwd=folder) == first
    assert len(document("routes", "history", cwd=folder)["epochs"]) == 1
    _, out, _ = foreshard("doctor", "--json", cwd=folder)
    assert {f["what"] for f in json.loads(out)["findings"]} == {"nothing aggregated yet"}
