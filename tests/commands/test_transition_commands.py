"""`foreshard transition`: what it shows, and a person's hand on a plan, as run by a person."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from first_epoch import publish_first_epoch
from staged_plans import current, moving

from foreshard.model import Move, MoveKind
from foreshard.routing import pool
from foreshard.settings import Settings, load
from foreshard.transition import steps, store

pytestmark = pytest.mark.live

TOML = """
postgres_url = "{url}"
slot_bits = 2
nodes = [{{ node_id = "a", capacity = 10 }}, {{ node_id = "b", capacity = 20 }}, {{ node_id = "c", capacity = 20 }}]
"""


def transition(settings: Settings, *words: str) -> tuple[int, str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("FORESHARD_")} | {"COLUMNS": "200"}
    assert settings.path is not None
    done = subprocess.run(
        [sys.executable, "-m", "foreshard.cli", "transition", *words],
        cwd=settings.path.parent,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def text(settings: Settings, *words: str) -> str:
    status, out, err = transition(settings, *words)
    assert status == 0, err
    return out


@pytest.fixture
def under_way(tmp_path: Path, database: str) -> Settings:
    """A plan of one move that has begun and whose copy is still to be made."""
    (tmp_path / "foreshard.toml").write_text(TOML.format(url=database), "utf-8")
    settings = load(tmp_path / "foreshard.toml")
    pool.register(database, settings)
    publish_first_epoch(settings)
    held = [r.node_id for r in current(settings).of_shard(0)]
    idle = next(n.node_id for n in settings.nodes if n.node_id not in held)
    moving(settings, "p1", (Move(MoveKind.MOVE, 0, held[0], idle, None, 5_000_000, "crowded"),))
    steps.begin(settings, "p1", "test")
    return settings


def test_a_plan_is_shown_held_let_go_and_taken_back(under_way: Settings) -> None:
    shown = text(under_way, "status")
    assert "Plan p1: running, 0 of 1 moves ended, epoch 1" in shown
    assert "Wave 1 of 1: 1 planned" in shown
    assert "Next: copies shard 0 to" in shown
    document: dict[str, Any] = json.loads(text(under_way, "status", "--json"))
    assert (document["state"], document["bytes"], document["bytes_copied"], document["waits"]) == (
        "running",
        5_000_000,
        0,
        False,
    )

    assert "1 moves of plan p1 are paused" in text(under_way, "pause")
    assert "waits for `foreshard transition resume p1`; shard 0 paused since" in text(under_way, "status")
    assert "1 moves of plan p1 go on" in text(under_way, "resume")
    assert "rolls shard 0 back: too risky" in text(under_way, "rollback", "--reason", "too risky")
    assert store.read_plan(under_way.postgres_url, under_way.pool_id, "p1").state == "rolled_back"
    status, out, err = transition(under_way, "pause", "p1")
    assert (status, out) == (1, "")
    assert err.startswith("foreshard: plan p1 has no move that can be paused")
    status, _, err = transition(under_way, "rollback", "p1")
    assert (status, "is rolled_back and has no move" in err) == (1, True)


def test_the_throttle_is_set_shown_and_lifted(under_way: Settings) -> None:
    assert "as fast as it goes" in text(under_way, "throttle")
    assert "20.0 MB per second" in text(under_way, "throttle", "20M")
    assert "as fast as it goes" in text(under_way, "throttle", "off")
    for bad in ("fast", "-1", "M"):
        status, _, err = transition(under_way, "throttle", "--", bad)
        assert status == 1, bad
        assert err.count("\n") == 1


def test_a_plan_that_is_not_there_is_named(under_way: Settings) -> None:
    status, _, err = transition(under_way, "status", "nope")
    assert (status, err.startswith("foreshard: ")) == (1, True)
    assert "no plan nope" in err
