"""Airflow's pages: nothing without a log-in, a run's own report behind its link, and nothing outside of the reports."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from summaries import good

from foreshard.checks.gate import require
from foreshard.orchestration.steps import spark_step
from foreshard.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
RUN = "scheduled__2013-11-28T05:00:00+00:00"
QUOTED = "scheduled__2013-11-28T05%3A00%3A00%2B00%3A00"
# In a process of its own, because importing Airflow's API writes into AIRFLOW_HOME.
ASK = """
import importlib.util, json, sys
from fastapi.testclient import TestClient
spec = importlib.util.spec_from_file_location("foreshard_plugin", sys.argv[1])
plugin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plugin)
client = TestClient(plugin.app, root_path="")
said = {"unknown": {}, "known": {}, "routes": [route.path for route in plugin.app.routes]}
from airflow.api_fastapi.app import create_auth_manager
create_auth_manager()
for path in sys.argv[2:]:
    said["unknown"][path] = client.get(path, follow_redirects=False).status_code
for route in plugin.app.routes:
    for needed in route.dependant.dependencies:
        plugin.app.dependency_overrides[needed.call] = lambda: None
for path in sys.argv[2:]:
    answer = client.get(path, follow_redirects=False)
    said["known"][path] = [answer.status_code, answer.text]
said["views"] = plugin.ForeshardPlugin.external_views
print(json.dumps(said))
"""
PATHS = [
    "/",
    "/quality/index.html",
    "/quality/expectations/serving.html",
    f"/quality/aggregate/{QUOTED}/",
    f"/quality/aggregate/{QUOTED}/index.html",
    f"/quality/learn/{QUOTED}/",
    "/quality/aggregate/%2e%2e/index.html",
    "/quality/%2e%2e/%2e%2e/index.html",
    "/quality/expectations/..%2findex.html",
    f"/quality/aggregate/{QUOTED}/%2e%2e%2f%2e%2e%2findex.html",
]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the plugin's pages answer to nobody, and to somebody who is let in."""
    folder = Path(tmp_path_factory.mktemp("plugin"))
    (folder / "foreshard.toml").write_text('home = "var"\n', "utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FORESHARD_DAG_ID", "aggregate")
        patched.setenv("FORESHARD_RUN_ID", RUN)
        require("serving", good("serving"), Settings(home=folder / "var"))
        require("usage_record", good("usage_record", skewed_share=0.9), Settings(home=folder / "var"))
    (folder / "var" / "index.html").write_text("outside", "utf-8")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "FORESHARD_SETTINGS": str(folder / "foreshard.toml"),
    }
    command = [sys.executable, "-c", ASK, str(ROOT / "plugins" / "foreshard_plugin.py"), *PATHS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answers


def test_nobody_sees_anything_without_logging_in(said: dict[str, Any]) -> None:
    assert said["routes"], "the plugin has routes"
    served = [path for path, (status, _) in said["known"].items() if status == 200]
    assert len(served) == 5
    assert {said["unknown"][path] for path in served} == {401}
    assert 200 not in said["unknown"].values()


def test_a_runs_link_leads_to_its_own_report(said: dict[str, Any]) -> None:
    (view,) = [view for view in said["views"] if view["destination"] == "dag_run"]
    path = view["href"].removeprefix("/foreshard").replace("{DAG_ID}", "aggregate").replace("{RUN_ID}", QUOTED)
    status, page = said["known"][path]
    assert status == 200
    assert RUN in page
    assert "skewed_share" in page
    status, page = said["known"][f"/quality/learn/{QUOTED}/"]
    assert status == 404
    assert "learn" in page


def test_the_first_page_lists_runs_with_findings(said: dict[str, Any]) -> None:
    status, page = said["known"]["/"]
    assert status == 200
    assert "1 of the last 1 runs have findings" in page
    assert f'<a href="quality/aggregate/{QUOTED}/">' in page


def test_nothing_outside_of_the_reports_is_served(said: dict[str, Any]) -> None:
    for path in PATHS[6:]:
        status, page = said["known"][path]
        assert status in (404, 307), path
        assert page != "outside"


def test_every_spark_step_tells_its_job_the_run() -> None:
    step = spark_step("learn", "learn_from_outcomes")
    assert step.env_vars == {"FORESHARD_DAG_ID": "{{ dag.dag_id }}", "FORESHARD_RUN_ID": "{{ run_id }}"}
    assert "env_vars" in step.template_fields


def test_the_reports_need_no_library_to_be_shown() -> None:
    code = "import sys, foreshard.checks.reports, foreshard.checks.run_pages; print('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
    assert importlib.util.find_spec("great_expectations")
