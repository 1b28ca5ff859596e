"""`foreshard shadow`: begun, shown and ended as by a person."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from first_epoch import publish_first_epoch
from staged_plans import current

from foreshard.model import Move, MoveKind, PlacementProblem, Plan, PlanMetrics, Policy, ShardLoad
from foreshard.placement import codec
from foreshard.routing import pool
from foreshard.settings import Settings, load
from foreshard.transition import shadow_mode, store
from foreshard.transition.inputs import hot_since
from foreshard.transition.plan_problem import packed

pytestmark = pytest.mark.live

TOML = """
postgres_url = "{url}"
slot_bits = 1
nodes = [{{ node_id = "a", capacity = 10 }}, {{ node_id = "b", capacity = 20 }}, {{ node_id = "c", capacity = 20 }}]
"""


@pytest.fixture
def settings(tmp_path: Path, database: str) -> Settings:
    (tmp_path / "foreshard.toml").write_text(TOML.format(url=database), "utf-8")
    chosen = load(tmp_path / "foreshard.toml")
    pool.register(database, chosen)
    publish_first_epoch(chosen)
    return chosen


def foreshard(settings: Settings, *words: str) -> tuple[int, str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("FORESHARD_")} | {"COLUMNS": "200"}
    assert settings.path is not None
    command = [sys.executable, "-m", "foreshard.cli", *words]
    done = subprocess.run(command, cwd=settings.path.parent, env=env, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout, done.stderr


def text(settings: Settings, *words: str) -> str:
    status, out, err = foreshard(settings, *words)
    assert status == 0, err
    return " ".join(out.split())


def keep_back(settings: Settings) -> None:
    """A plan of one move for hours of which none is aggregated."""
    url, layout = settings.postgres_url, current(settings)
    steps = tuple(datetime(2013, 11, 28, hour, tzinfo=UTC) for hour in (5, 6))
    shards = tuple(ShardLoad(s, (1.0, 1.0), (0.0, 0.0), ((), ()), 10, 1) for s in (0, 1))
    nodes = pool.read_nodes(url, "usage")
    problem = PlacementProblem("usage", layout, nodes, shards, Policy(), steps, hot_since(steps[0], 7))
    moves = (Move(MoveKind.MOVE, 0, "a", "b", None, 2_000_000_000, "crowded"),)
    plan = Plan("p1", "usage", 1, "digest", moves, layout, PlanMetrics(1, 1, 1, 2_000_000_000, 0, 1, "test"))
    store.save_plan(url, plan, codec.plan_to_document(plan), packed(problem))
    assert shadow_mode.set_aside(url, "usage", "p1")


def test_it_is_begun_shown_and_ended(settings: Settings) -> None:
    assert "Pool usage is not in shadow mode: its plans are carried out. No plan has been kept back" in text(
        settings, "shadow", "status"
    )
    said = text(settings, "shadow", "begin")
    since = pool.read_pool(settings.postgres_url, "usage").shadow_since
    assert since is not None
    assert said == (
        f"Pool usage has been in shadow mode since {since:%F %H:%M} UTC, begun by {getpass.getuser()}: "
        "plans are recorded and not carried out."
    )
    keep_back(settings)
    shown = text(settings, "shadow", "status")
    assert shown.startswith(said)
    assert "p1" in shown
    assert " 1 2.00 not yet 1 plan would have been carried out" in shown
    assert shown.endswith("none of the hours that they were made for has come yet.")
    document = json.loads(foreshard(settings, "shadow", "status", "--json")[1])
    assert (document["pool_id"], document["shadow_by"]) == ("usage", getpass.getuser())
    assert document["shadow_since"] == since.isoformat()
    assert [(p["plan_id"], p["state"], p["moves"]) for p in document["plans"]] == [("p1", "not yet", 1)]
    assert f"latest plan: p1 rejected, in shadow mode since {since:%F %H:%M}" in text(settings, "status")
    assert text(settings, "shadow", "end") == "Pool usage is not in shadow mode: its plans are carried out."
    assert "shadow" not in text(settings, "status")


def test_a_pool_that_is_not_registered_is_named(tmp_path: Path, database: str) -> None:
    (tmp_path / "foreshard.toml").write_text(TOML.format(url=database), "utf-8")
    for word in ("begin", "end", "status"):
        status, out, err = foreshard(load(tmp_path / "foreshard.toml"), "shadow", word)
        assert (status, out, err) == (1, "", "foreshard: pool usage is not registered; run `foreshard init`\n")
