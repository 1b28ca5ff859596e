"""`foreshard plan` on stored plans and on files: what an operator reads, and the stable fields of its JSON."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from first_epoch import publish_first_epoch

from foreshard.cli import main
from foreshard.model import (
    Conflict,
    Goal,
    Isolation,
    Layout,
    Move,
    MoveKind,
    Node,
    NodeCount,
    NodeState,
    PlacementProblem,
    Plan,
    PlanMetrics,
    Policy,
    Replica,
    ShardLoad,
)
from foreshard.placement import codec
from foreshard.routing import pool
from foreshard.settings import load
from foreshard.transition import plan_problem, store

START = datetime(2013, 11, 27, tzinfo=UTC)

TOML = """
postgres_url = "{url}"
slot_bits = 2
[[nodes]]
node_id = "a"
capacity = 100
[[nodes]]
node_id = "b"
capacity = 100
"""


def foreshard(*words: str, cwd: Path) -> tuple[int, str, str]:
    """Runs the command in this process, which has compiled the planner already; (exit status, output, errors)."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.chdir(cwd)
        patched.setattr(sys, "argv", ["foreshard", "plan", *words])
        patched.setenv("COLUMNS", "250")
        patched.delenv("FORESHARD_SETTINGS", raising=False)
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def text(*words: str, cwd: Path) -> str:
    status, out, err = foreshard(*words, cwd=cwd)
    assert (status, err) == (0, "")
    return out


def document(*words: str, cwd: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text(*words, "--json", cwd=cwd))
    return found


def refused(*words: str, cwd: Path) -> str:
    status, out, err = foreshard(*words, cwd=cwd)
    assert (status, out) == (1, ""), err
    assert err.startswith("foreshard: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def problem() -> PlacementProblem:
    """Four shards on two nodes, one of which is to be emptied onto a third that joined."""
    shards = tuple(ShardLoad(i, (10.0, 20.0), (0.0, 0.0), (), 4_000_000, 1_000) for i in range(4))
    held = (*(Replica(i, "a") for i in range(4)), *(Replica(i, "b") for i in range(4)))
    nodes = (Node("a", 100.0), Node("b", 100.0, NodeState.DRAINING), Node("c", 100.0, NodeState.JOINING))
    times = (START, START + timedelta(hours=1))
    return PlacementProblem("usage", Layout(1, held), nodes, shards, Policy(), times, date(2013, 11, 20))


@pytest.fixture
def plan(problem: PlacementProblem) -> Plan:
    """By hand, with every part that a plan may have."""
    moves = tuple(
        Move(
            MoveKind.MOVE,
            i,
            "b",
            "c",
            None,
            4_000_000,
            f"node b is draining; reason {i}",
            Goal.DRAIN if i < 3 else Goal.BALANCE,
            1.0 if i < 3 else 7.25,
            i // 2,
            START + timedelta(minutes=30 + i),
        )
        for i in range(4)
    )
    digest = codec.input_digest(problem)
    metrics = PlanMetrics(0.4, 0.4, 0.3, 16_000_000, 16_000_000, 4, "converged", (), 0.1, 0.1, 0.3, 0.0, 0.0, 2)
    replicas = (*(Replica(i, "a") for i in range(4)), *(Replica(i, "c", 0.5) for i in range(4)))
    return Plan(
        codec.plan_id_of(digest, moves),
        "usage",
        1,
        digest,
        moves,
        Layout(2, replicas),
        metrics,
        summary="4 moves to empty b.",
        isolations=(Isolation("acme", 1, 4, "predicted at 31/s"),),
        node_counts=(NodeCount(START + timedelta(hours=1), 3, START, "the evening peak"),),
        conflicts=(Conflict(("a must hold everything", "b must too"), "one more node of 100/s would do"),),
    )


@pytest.fixture
def files(tmp_path: Path, problem: PlacementProblem, plan: Plan) -> Path:
    (tmp_path / "P.json").write_text(json.dumps(codec.problem_to_document(problem)), "utf-8")
    (tmp_path / "Q.json").write_text(json.dumps(codec.plan_to_document(plan)), "utf-8")
    return tmp_path


BOTH = ("--problem", "P.json", "--plan", "Q.json")


def test_show_prints_all_that_a_plan_says(files: Path, plan: Plan) -> None:
    out = text("show", *BOTH, cwd=files)
    for words in (
        plan.plan_id,
        "4 moves to empty b.",
        "Conflict: a must hold everything; b must too. one more node of 100/s would do",
        "a     active    100       0.40    0.53 above  0.46   2013-11-27 01:00   2013-11-27 01:00  4 -> 4",
        "b     draining  100       0.40    0.00",
        "4 -> 0",
        "acme    1     4      begins  predicted at 31/s",
        "4 moves in 2 waves",
        "1     drain    2      8.0 MB  2 replicas  2013-11-27 00:30  node b is draining; reason 0",
        "2     balance  1      4.0 MB  7.25/s      2013-11-27 00:33  node b is draining; reason 3",
        "peak utilisation  0.4       0.3            33.3 %",
        "bytes moved       16.0 MB   16.0 MB        0.0 %",
        "the search ended by: converged",
        "2013-11-27 01:00  3      2013-11-27 00:00  the evening peak",
        "Every replica is where the hash ranks it first.",
    ):
        assert words in out, words
    assert "reason 1" not in out, "show gives an example for each goal"
    assert "reason 1" in text("explain", *BOTH, cwd=files)


def test_show_as_json_has_stable_fields(files: Path, plan: Plan) -> None:
    found = document("show", *BOTH, cwd=files)
    assert set(found) == {"plan_id", "state", "problem", "note", "plan", "report"}
    assert (found["plan_id"], found["problem"]) == (plan.plan_id, "file")
    assert found["plan"] == codec.plan_to_document(plan)
    assert codec.plan_from_document(found["plan"]).plan_id == plan.plan_id
    report = found["report"]
    assert set(report) == {
        *("plan_id", "pool_id", "base_epoch", "summary", "metrics", "nodes", "isolations", "waves", "moves", "bounds"),
        *("node_counts", "conflicts", "deviations", "deviation_sentences", "nothing"),
    }
    assert [w["number"] for w in report["waves"]] == [1, 2]
    assert [g["goal"] for g in report["waves"][1]["groups"]] == ["drain", "balance"]
    assert [n["node_id"] for n in report["nodes"]] == ["a", "b", "c"]


def test_without_its_problem_a_plan_says_less_and_why(files: Path) -> None:
    out = text("show", "--plan", "Q.json", cwd=files)
    assert "Note: give the problem that it was made from with --problem" in out
    assert "4 moves in 2 waves" in out
    assert "draining  100" not in out
    assert "with --problem" in refused("why", "0", "--plan", "Q.json", cwd=files)


def test_why_and_why_not_answer_from_files(files: Path) -> None:
    out = text("why", "1", *BOTH, cwd=files)
    assert "Shard 1: predicted at 20/s at 2013-11-27 01:00, 4.0 MB; 2 replicas after the plan." in out
    assert "Move 2 (drain, wave 1, to begin by 2013-11-27 00:31): move b -> c, 4.0 MB: node b is draining; reason 1" in out
    found = document("why", "1", *BOTH, cwd=files)
    assert set(found) == {"plan_id", "problem", "why"}
    assert {r["node_id"] for r in found["why"]["replicas"]} == {"a", "c"}
    out = text("why-not", "1", "b", *BOTH, cwd=files)
    assert out.startswith("Shard 1 is not on b: b is draining: it takes nothing and is to end empty.")
    found = document("why-not", "1", "b", *BOTH, cwd=files)
    assert set(found) == {"plan_id", "problem", "why_not"}
    assert found["why_not"]["obstacles"][0]["constraint"] == "state"
    assert text("why-not", "1", "a", *BOTH, cwd=files).startswith("Shard 1 is on a after the plan")


def test_what_is_asked_for_wrongly_is_refused_in_one_sentence(files: Path, problem: PlacementProblem) -> None:
    assert "no shard 9" in refused("why", "9", *BOTH, cwd=files)
    assert "no node z" in refused("why-not", "1", "z", *BOTH, cwd=files)
    assert "--problem needs --plan" in refused("show", "--problem", "P.json", cwd=files)
    assert "cannot read the plan none.json" in refused("show", "--plan", "none.json", cwd=files)
    other = replace(problem, covers_from=date(2013, 11, 21))
    (files / "P.json").write_text(json.dumps(codec.problem_to_document(other)), "utf-8")
    assert "was not made from the problem in P.json: their digests differ" in refused("show", *BOTH, cwd=files)
    assert foreshard("why", "one", cwd=files)[0] == 2
    assert foreshard("frontier", "--points", "1", cwd=files)[0] == 2


def test_diff_against_the_problems_layout(files: Path) -> None:
    out = text("diff", *BOTH, cwd=files)
    assert "From epoch 1 to plan" in out
    assert "4 added, 4 removed" in out
    found = document("diff", *BOTH, cwd=files)
    assert set(found) == {"before", "after", "changes", "nodes"}
    assert {(c["node_id"], c["what"]) for c in found["changes"]} == {("b", "removed"), ("c", "added")}
    assert {n["node_id"]: (n["replicas_before"], n["replicas_after"]) for n in found["nodes"]} == {
        "a": (4, 4),
        "b": (4, 0),
        "c": (0, 4),
    }


def test_the_frontier_of_a_problem_is_a_table_and_a_picture(files: Path) -> None:
    out = text("frontier", "--problem", "P.json", "--points", "3", "--iterations", "100", "--picture", "f.png", cwd=files)
    assert "Imbalance against bytes moved" in out
    assert "The picture is in f.png." in out
    assert (files / "f.png").read_bytes().startswith(b"\x89PNG")
    found = document("frontier", "--problem", "P.json", "--points", "2", "--iterations", "100", cwd=files)
    assert set(found) == {"pool_id", "points"}
    fields = {"bounded_load", "max_move_bytes", "imbalance", "peak", "bytes", "moves", "is_policy"}
    assert all(set(p) == fields for p in found["points"])


def test_a_solved_plan_is_shown_with_the_problem_it_was_made_from(files: Path) -> None:
    text("solve", "--problem", "P.json", "--out", "S.json", "--iterations", "100", cwd=files)
    out = text("show", "--problem", "P.json", "--plan", "S.json", cwd=files)
    assert "4 -> 0" in out
    assert "drain" in out
    for shard in range(4):
        assert "replicas after the plan" in text("why", str(shard), "--problem", "P.json", "--plan", "S.json", cwd=files)


@pytest.fixture
def stored(tmp_path: Path, database: str, problem: PlacementProblem, plan: Plan) -> Path:
    """A pool with its first epoch and, after it, a stored plan with its problem."""
    (tmp_path / "foreshard.toml").write_text(TOML.format(url=database), "utf-8")
    settings = load(tmp_path / "foreshard.toml")
    pool.register(database, settings)
    publish_first_epoch(settings)
    store.save_plan(database, plan, codec.plan_to_document(plan), plan_problem.packed(problem))
    return tmp_path


@pytest.mark.live
def test_a_stored_plan_explains_itself_by_the_problem_kept_beside_it(stored: Path, plan: Plan) -> None:
    newest = document("show", cwd=stored)
    assert (newest["plan_id"], newest["state"], newest["problem"], newest["note"]) == (plan.plan_id, "proposed", "stored", "")
    assert [n["node_id"] for n in newest["report"]["nodes"]] == ["a", "b", "c"]
    assert f"Plan {plan.plan_id} from epoch 1: proposed" in text("show", cwd=stored)
    assert "reason 2" in text("explain", plan.plan_id, cwd=stored)
    assert "Shard 1: predicted at 20/s" in text("why", "1", cwd=stored)
    assert "Shard 1 is not on b" in text("why-not", "1", "b", "--id", plan.plan_id, cwd=stored)
    assert "no plan nope" in refused("why", "1", "--id", "nope", cwd=stored)
    assert "Imbalance" in text("frontier", "--points", "2", "--iterations", "100", cwd=stored)
    found = document("diff", cwd=stored)
    assert (found["before"], found["after"]) == ("epoch 1", f"plan {plan.plan_id}")
    assert {c["node_id"] for c in found["changes"] if c["what"] in ("added", "removed")} == {"b", "c"}


@pytest.mark.live
def test_a_plan_without_a_kept_problem_says_so(stored: Path, plan: Plan) -> None:
    settings = load(stored / "foreshard.toml")
    bare = replace(plan, plan_id="0123456789abcdef")
    store.save_plan(settings.postgres_url, bare, codec.plan_to_document(bare))
    found = document("show", bare.plan_id, cwd=stored)
    assert found["problem"] == "none"
    assert "is not kept, and there is none now: there is no load_forecast to plan from" in found["note"]
    assert "Note: the problem that it was made from is not kept" in text("show", bare.plan_id, cwd=stored)
    assert "is not kept" in refused("why", "1", "--id", bare.plan_id, cwd=stored)
    same = document("diff", bare.plan_id, "--before", plan.plan_id, cwd=stored)
    assert same["changes"] == []
    assert "nothing differs" in text("diff", bare.plan_id, "--before", plan.plan_id, cwd=stored)
