"""The jobs on a real standalone cluster: a master and a worker process, and the package shipped as an archive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from landing_rows import land, query, usage
from tables import records

from foreshard.local.processes import ChildProcess, free_port, start, wait_until
from foreshard.local.spark import environment, package_archive, spark_home, submit_conf
from foreshard.routing import pool
from foreshard.settings import Settings, load

pytestmark = [pytest.mark.live, pytest.mark.spark]

JOBS = Path(__file__).resolve().parents[1] / "spark_jobs"
HOUR = datetime(2013, 11, 28, 5, tzinfo=UTC)
SETTINGS = """
home = "."
postgres_url = "{url}"
slot_bits = 2
[spark]
shuffle_partitions = 2
[[nodes]]
node_id = "a"
capacity = 10
"""
# Makes the checkout invisible, so that an import of foreshard finds the archive or nothing.
HIDE_CHECKOUT = """
import importlib.abc
import sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "foreshard":
            for finder in list(sys.meta_path):
                if "editable" in getattr(finder, "__name__", "") + type(finder).__module__:
                    sys.meta_path.remove(finder)
            sys.path[:] = [entry for entry in sys.path if entry != {root!r}]
        return None

sys.meta_path.insert(0, Hidden())
"""
PROBE = """
import json
from pyspark.sql import SparkSession

def where(_):
    import foreshard.hashing
    return foreshard.hashing.__file__

import foreshard
spark = SparkSession.builder.getOrCreate()
print(json.dumps([foreshard.__file__, *spark.sparkContext.parallelize([1], 1).map(where).collect()]))
"""


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a master with one worker of two cores."""
    folder = tmp_path_factory.mktemp("cluster")
    env = {**os.environ, **environment(), "SPARK_DAEMON_MEMORY": "256m", "SPARK_WORKER_DIR": str(folder / "work")}
    spark_class, deploy = spark_home() / "bin" / "spark-class", "org.apache.spark.deploy"
    port, page = free_port(), free_port()
    url = f"spark://127.0.0.1:{port}"
    listen = ["--host", "127.0.0.1", "--webui-port"]
    children: list[ChildProcess] = []
    try:
        command = [spark_class, f"{deploy}.master.Master", "--port", str(port), *listen, str(page)]
        children.append(start(command, folder / "master.log", env=env))
        wait_until(lambda: "started at" in (folder / "master.log").read_text(), 60, "the master", child=children[0])
        command = [spark_class, f"{deploy}.worker.Worker", "-c", "2", "-m", "1g", *listen, str(free_port()), url]
        children.append(start(command, folder / "worker.log", env=env))
        wait_until(lambda: _workers(page) == 1, 60, "the worker", child=children[1])
        yield url
    finally:
        for child in reversed(children):
            child.stop()


def _workers(page: int) -> int:
    with urlopen(f"http://127.0.0.1:{page}/json/", timeout=10) as answer:
        return int(json.load(answer)["aliveworkers"])


@pytest.fixture
def apart(tmp_path: Path, database: str) -> Path:
    """A folder of its own: settings, the archive, copies of the jobs, and an interpreter start-up that hides the checkout."""
    (tmp_path / "foreshard.toml").write_text(SETTINGS.format(url=database), "utf-8")
    package_archive(tmp_path)
    for job in JOBS.glob("*.py"):
        shutil.copy(job, tmp_path)
    (tmp_path / "probe.py").write_text(PROBE, "utf-8")
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(HIDE_CHECKOUT.format(root=str(JOBS.parent)), "utf-8")
    return tmp_path


def submit(folder: Path, settings: Settings, master: str, *words: str) -> str:
    """spark-submit with the archive, from `folder`; returns the last line of standard output."""
    start_up = str(folder / "start")
    env = {**os.environ, **environment(), "PYTHONPATH": start_up}
    conf = submit_conf(settings) | {"spark.executor.memory": "512m", "spark.executorEnv.PYTHONPATH": start_up}
    command = [str(spark_home() / "bin" / "spark-submit"), "--master", master, "--py-files", "foreshard.zip"]
    for key, value in conf.items():
        command += ["--conf", f"{key}={value}"]
    done = subprocess.run([*command, *words], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def test_jobs_run_from_the_archive_on_a_cluster(master: str, apart: Path) -> None:
    settings = load(apart / "foreshard.toml")
    pool.register(settings.postgres_url, settings)
    on_driver, on_worker = json.loads(submit(apart, settings, master, "probe.py"))
    assert on_driver.endswith("foreshard.zip/foreshard/__init__.py"), on_driver
    assert on_worker.endswith("foreshard.zip/foreshard/hashing.py"), on_worker

    land(settings, "usage_record", HOUR, "u.jsonl", [usage("a", HOUR, 2), usage("a", HOUR, 3), "{broken", usage("b", HOUR, 5)])
    land(settings, "query_record", HOUR, "q.jsonl", [query("a", HOUR + timedelta(minutes=n)) for n in range(5)])
    hours = ["--from", HOUR.isoformat(), "--to", (HOUR + timedelta(hours=1)).isoformat()]
    said = json.loads(submit(apart, settings, master, "aggregate.py", "--settings", "foreshard.toml", *hours))
    assert said["counts"]["usage_record"] == {"read": 4, "accepted": 3, "duplicates": 0, "quarantined": 1}
    hourly = {r["entity_id"]: (r["quantity"], r["events"]) for r in records(settings, "usage_hourly")}
    assert hourly == {"a": (5, 2), "b": (5, 1)}
    assert sum(r["load"] for r in records(settings, "query_load")) == 5
    assert [r["reason"] for r in records(settings, "quarantine")] == ["malformed JSON"]


@pytest.mark.parametrize("job", sorted(path.stem for path in JOBS.glob("*.py")))
def test_each_job_says_what_it_takes_by_plain_spark_submit(job: str, tmp_path: Path) -> None:
    command = [str(spark_home() / "bin" / "spark-submit"), str(JOBS / f"{job}.py"), "--help"]
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--settings" in done.stdout
    assert f"{job}.py" in done.stdout
