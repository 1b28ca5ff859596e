"""Every DAG imports, is light to parse, and says who owns it, what it does and what its parameters are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "dags").glob("*.py"))
HEAVY = (
    "pyspark", "delta", "pandas", "numpy", "numba", "scipy", "pyarrow", "deltalake", "duckdb",
    "great_expectations", "prophet", "matplotlib", "psycopg2",
)  # fmt: skip
PARSE = """
import importlib.util, json, sys
import airflow.sdk
from airflow.dag_processing.dagbag import DagBag

heavy_names, files = sys.argv[1].split(), sys.argv[2:]
found = {}
for file in files:
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location("dag_file", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    found[file] = {"heavy": [name for name in heavy_names if name in sys.modules and name not in before]}
for file in files:
    bag = DagBag(file)
    found[file] |= {"errors": bag.import_errors, "dags": {
        dag_id: {
            "doc": dag.doc_md or "",
            "tags": sorted(dag.tags),
            "owners": sorted({task.owner for task in dag.tasks}),
            "params": {name: dag.params.get_param(name).schema for name in dag.params},
            "max_active_runs": dag.max_active_runs,
            "catchup": dag.catchup,
            "timeout": dag.dagrun_timeout.total_seconds() if dag.dagrun_timeout else None,
            "spark": {task.task_id: [task.pool, task.application] for task in dag.tasks if hasattr(task, "application")},
            "retries": {task.task_id: task.retries for task in dag.tasks},
            "after": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
            "starts": sorted(task.trigger_dag_id for task in dag.tasks if hasattr(task, "trigger_dag_id")),
        } for dag_id, dag in bag.dags.items()
    }}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def parsed_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What parsing every DAG file, in a process of their own, came to; by the file's path."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [sys.executable, "-c", PARSE, " ".join(HEAVY), *map(str, FILES)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=home)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def parsed(request: pytest.FixtureRequest, parsed_files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What parsing one file came to."""
    return parsed_files[str(request.param)]


@pytest.fixture
def dag(parsed: dict[str, Any]) -> dict[str, Any]:
    """The one DAG of a file."""
    (found,) = parsed["dags"].values()
    return dict(found)


@pytest.fixture
def dags(parsed_files: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """All DAGs by name."""
    return {name: dag for file in parsed_files.values() for name, dag in file["dags"].items()}


def test_the_five_dags_of_the_loop_and_those_that_keep_tables_watch_nodes_and_repair_are_there() -> None:
    names = ["aggregate", "follow_source", "forecast_load", "learn", "maintain", "repair", "reshard", "watch_nodes"]
    assert [file.stem for file in FILES] == names


def test_a_file_imports_and_holds_the_dag_of_its_name(parsed: dict[str, Any], request: pytest.FixtureRequest) -> None:
    assert parsed["errors"] == {}
    assert list(parsed["dags"]) == [request.node.callspec.id]


def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    assert parsed["heavy"] == []


def test_a_dag_says_what_it_does_reads_and_writes_and_what_to_do_when_it_fails(dag: dict[str, Any]) -> None:
    for part in ("Reads", "Writes", "When it fails"):
        assert f"**{part}**" in dag["doc"]


def test_a_dag_has_owner_tags_and_described_parameters(dag: dict[str, Any]) -> None:
    assert dag["owners"] == ["foreshard"]
    assert "foreshard" in dag["tags"]
    assert any(re.fullmatch(r"step-\d|upkeep", tag) for tag in dag["tags"])
    assert dag["params"]
    assert all(schema.get("type") for schema in dag["params"].values())


def test_a_dag_runs_once_at_a_time_within_bounds_and_never_catches_up_by_itself(dag: dict[str, Any]) -> None:
    assert dag["max_active_runs"] == 1
    assert dag["catchup"] is False
    assert dag["timeout"] > 0
    assert all(retries > 0 for retries in dag["retries"].values())


def test_spark_steps_are_in_the_bounded_pool_and_submit_jobs_that_exist(dag: dict[str, Any]) -> None:
    for pool, application in dag["spark"].values():
        assert pool == "spark"
        assert Path(application).is_file()


def test_a_turn_of_the_loop_has_at_most_five_spark_steps(dags: dict[str, dict[str, Any]]) -> None:
    steps = [step for name, dag in dags.items() if name not in ("maintain", "repair") for step in dag["spark"]]
    assert sorted(steps) == ["aggregate", "carry_out.warm_up", "follow_source", "forecast_load", "learn"]


def test_a_repair_has_a_dag_of_its_own_that_the_watch_starts_and_that_asks_nobody(dags: dict[str, dict[str, Any]]) -> None:
    assert dags["watch_nodes"]["starts"] == ["repair"]
    assert dags["repair"]["after"] == {
        "carry_on": ["carry_out.agree", "carry_out.cut_over", "finish"],
        "carry_out.agree": ["carry_out.warm_up"],
        "carry_out.warm_up": ["carry_out.cut_over"],
        "carry_out.cut_over": ["finish"],
        "finish": [],
    }


def test_a_repair_is_carried_out_as_any_plan_is(dags: dict[str, dict[str, Any]]) -> None:
    def waves(dag: dict[str, Any]) -> dict[str, Any]:
        return {task: after for task, after in dag["after"].items() if task.startswith("carry_out.")}

    assert waves(dags["repair"]) == waves(dags["reshard"])
    assert dags["repair"]["spark"] == dags["reshard"]["spark"]
