"""Airflow's REST API as far as foreshard asks it: trigger a run by partition key, look on, answer an approval."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from foreshard.errors import ForeshardError

FINISHED = ("success", "failed")
_RETRY_SECONDS = 0.5
_POLL_SECONDS = 0.5
_SETTLE_SECONDS = 2.0
_TAIL_LINES = 8


@dataclass(frozen=True)
class Run:
    """One run of a DAG; `state` is one of queued, running, success, failed. `partition_key` is '' for a run without one."""

    dag_id: str
    run_id: str
    state: str
    partition_key: str
    seconds: float | None = None  # from its start to its end; None while it runs


@dataclass(frozen=True)
class Approval:
    """A question that waits for a person; `body` is what they are shown."""

    dag_id: str
    run_id: str
    task_id: str
    subject: str
    body: str


class AirflowApi:
    """A client of one Airflow. Every method raises ForeshardError with one sentence if Airflow refuses or is away."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._credentials = {"username": username, "password": password}
        self._http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def is_healthy(self) -> bool:
        """Whether the database answers, and the scheduler and the DAG processor report a heartbeat."""
        try:
            health = self._http.get("/api/v2/monitor/health").json()
        except (httpx.HTTPError, ValueError):
            return False
        return all(health.get(part, {}).get("status") == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def dags(self) -> list[str]:
        return sorted(dag["dag_id"] for dag in self._get("/api/v2/dags", limit=100)["dags"])

    def import_errors(self) -> list[str]:
        """One text per DAG file that did not import."""
        return [f"{e['filename']}: {e['stack_trace']}" for e in self._get("/api/v2/importErrors")["import_errors"]]

    def set_pool(self, name: str, slots: int, description: str) -> None:
        """Creates the pool or gives it `slots`."""
        pool = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        if self._request("GET", f"/api/v2/pools/{name}", missing_ok=True) is None:
            self._request("POST", "/api/v2/pools", json=pool)
        else:
            self._request("PATCH", f"/api/v2/pools/{name}", json=pool)

    def trigger(self, dag_id: str, partition_key: str | None = None, conf: Mapping[str, Any] | None = None) -> str:
        """Starts a run and returns its id. The same key again runs again and fires the DAGs downstream again."""
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if partition_key is not None:
            body["partition_key"] = partition_key
        run = self._request("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        assert run is not None
        return str(run["dag_run_id"])

    def runs(self, dag_id: str = "~") -> list[Run]:
        """The newest hundred runs, newest first, of one DAG or of all."""
        found = self._get(f"/api/v2/dags/{dag_id}/dagRuns", limit=100, order_by="-run_after")["dag_runs"]
        return [_run(r) for r in found]

    def run(self, dag_id: str, run_id: str) -> Run:
        found = self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
        return _run(found)

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Task id → state; '' for a task that nothing has happened to."""
        found = self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100)["task_instances"]
        return {task["task_id"]: task["state"] or "" for task in found}

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1, map_index: int = -1) -> str:
        """The log of one attempt of a task as plain text; `map_index` is -1 for a task that is not mapped."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        content = self._get(path, full_content="true", map_index=map_index)["content"]
        return "\n".join(line["event"] if isinstance(line, dict) else str(line) for line in content)

    def wait_until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Asks every half second until `condition()` holds; `timeout` in seconds.

        Raises ForeshardError when time is up, or as soon as any run fails, with the end of its task's log.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            for run in self.runs():
                if run.state == "failed":
                    raise ForeshardError(self._failure(run))
            if time.monotonic() > deadline:
                raise ForeshardError(f"waited {timeout:g} s for {what}; see {self.url}")
            time.sleep(_POLL_SECONDS)

    def _failure(self, run: Run) -> str:
        found = self._get(f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances", limit=100)["task_instances"]
        failed = next((task for task in found if task["state"] == "failed"), None)
        if failed is None:
            return f"run {run.run_id} of {run.dag_id} failed"
        name = failed["task_id"]
        log = self.log(run.dag_id, run.run_id, name, failed["try_number"], failed["map_index"])
        lines = [line for line in log.splitlines() if line.strip()]
        return f"task {name} of {run.dag_id} failed in run {run.run_id}; its log ends: " + " | ".join(lines[-_TAIL_LINES:])

    def approvals(self, dag_id: str) -> list[Approval]:
        """Questions of this DAG's runs that nobody has answered yet."""
        found = self._get(f"/api/v2/dags/{dag_id}/dagRuns/~/hitlDetails", response_received="false", state="awaiting_input")
        return [
            Approval(dag_id, d["task_instance"]["dag_run_id"], d["task_instance"]["task_id"], d["subject"], d["body"] or "")
            for d in found["hitl_details"]
        ]

    def answer(self, approval: Approval, approve: bool, timeout: float = 120) -> None:
        """Answers, and returns when the task has taken the answer; raises ForeshardError if it has not after `timeout` seconds.

        Airflow 3.3 loses an answer that comes before its scheduler has seen the task pause: it asks again after the task's
        retry delay. So the question is left open for a moment first, and answered again if it is asked again.
        """
        path = f"/api/v2/dags/{approval.dag_id}/dagRuns/{approval.run_id}/taskInstances/{approval.task_id}/-1/hitlDetails"
        chosen = {"chosen_options": ["Approve" if approve else "Reject"], "params_input": {}}
        deadline = time.monotonic() + timeout
        while self.tasks(approval.dag_id, approval.run_id).get(approval.task_id) not in (*FINISHED, "skipped"):
            if time.monotonic() > deadline:
                raise ForeshardError(f"{approval.dag_id} has not taken the answer in {timeout:g} s; see {self.url}")
            if any(asked.run_id == approval.run_id for asked in self.approvals(approval.dag_id)):
                time.sleep(_SETTLE_SECONDS)
                self._request("PATCH", path, json=chosen)
            time.sleep(_POLL_SECONDS)

    def page(self, path: str) -> str:
        """A page of a plugin, as a browser that is logged in gets it."""
        response = self._authorized("GET", path)
        if response.is_error:
            raise ForeshardError(f"Airflow refused {path} with {response.status_code}: {_detail(response)}")
        return response.text

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        found = self._request("GET", path, params=parameters)
        assert found is not None
        return found

    def _request(self, method: str, path: str, missing_ok: bool = False, **content: Any) -> dict[str, Any] | None:
        response = self._authorized(method, path, **content)
        if response.status_code == 404 and missing_ok:
            return None
        if response.is_error:
            raise ForeshardError(f"Airflow refused {method} {path} with {response.status_code}: {_detail(response)}")
        return dict(response.json()) if response.content else {}

    def _authorized(self, method: str, path: str, **content: Any) -> httpx.Response:
        """The answer, after a log-in if there was none yet."""
        response = self._send(method, path, **content)
        if response.status_code == 401:
            self._log_in()
            response = self._send(method, path, **content)
        return response

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        # Only reads are sent again: a trigger that was lost on the way may have started its run.
        attempts = 3 if method == "GET" else 1
        for attempt in range(1, attempts + 1):
            try:
                return self._http.request(method, path, **content)
            except httpx.HTTPError as error:
                if attempt == attempts:
                    raise ForeshardError(f"Airflow at {self.url} does not answer: {error or type(error).__name__}") from None
                time.sleep(_RETRY_SECONDS)
        raise AssertionError("unreachable")

    def _log_in(self) -> None:
        response = self._send("POST", "/auth/token", json=self._credentials)
        if response.is_error:
            raise ForeshardError(f"Airflow at {self.url} refused the log-in: {_detail(response)}")
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"


def _run(found: Mapping[str, Any]) -> Run:
    started, ended = found.get("start_date"), found.get("end_date")
    took = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds() if started and ended else None
    return Run(found["dag_id"], found["dag_run_id"], found["state"], found.get("partition_key") or "", took)


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json().get("detail", response.text))[:500]
    except (ValueError, AttributeError):
        return response.text[:500]
