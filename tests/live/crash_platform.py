"""A small platform of its own, all of it real, whose Postgres can be killed: pipelines, a gateway, a lake, a control plane."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg2
from crash_traffic import FIRST_DAYS, FIRST_HOUR, HOURS_A_DAY, Questions, Source
from psycopg2.extras import RealDictCursor

from foreshard import settings as configuration
from foreshard.errors import ForeshardError
from foreshard.local.postgres import URL_VARIABLE, EmbeddedPostgres
from foreshard.local.processes import ChildProcess, free_port, start, wait_until
from foreshard.local.submit import submit
from foreshard.routing import database, pool
from foreshard.routing import store as epochs
from foreshard.routing.database import Row
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings

NODES = ("a", "b", "c")
CATCH_UP_VERSIONS = 3
_SETTINGS = f"""
home = "."
slot_bits = 2

[policy]
min_full_replicas = 2

[transition]
shadow_share = 1.0
shadow_queries = 5
shadow_seconds = 5
# Nothing is judged by how fast a busy machine is.
shadow_latency_ms = 10000
step_seconds = 0.2
reverse_seconds = 1
catch_up_versions = {CATCH_UP_VERSIONS}
silent_seconds = 30
give_up_seconds = 600

[spark]
master = "local[1]"
driver_memory = "1g"
shuffle_partitions = 2
driver_java_options = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""
_NODE = """
[[nodes]]
node_id = "{node_id}"
capacity = 10
url = "http://127.0.0.1:{port}"
"""


class Platform:
    """Everything in `folder`, which must not be below one that other accounts are kept out of: Postgres has its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "foreshard.toml"
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.children: list[ChildProcess] = []
        self.checked_epoch = 0
        self._connection: Any = None
        self.environment = {k: v for k, v in os.environ.items() if k != URL_VARIABLE} | {"FORESHARD_TRACEBACK": "1"}

    def start(self) -> None:
        """A source with some days in it, epoch 1 published, pipelines and gateway ready, queries under way."""
        ports = {node_id: free_port() for node_id in NODES}
        nodes = "".join(_NODE.format(node_id=node_id, port=port) for node_id, port in ports.items())
        self.file.write_text(_SETTINGS + nodes, "utf-8")
        self.settings = configuration.load(self.file)
        url = self.postgres.start()
        database.migrate(url)
        pool.register(url, self.settings)
        submit(self.settings, "follow_source", [])  # makes an empty source
        self.source = Source(self.settings.table("usage_hourly"), self.settings.slot_bits)
        self.source.append(FIRST_DAYS * HOURS_A_DAY, lambda: 1)
        initiated = self.command("init", log="init")
        assert initiated.process.wait() == 0, initiated.log_path.read_text("utf-8")
        for node_id, port in ports.items():
            self.serve(node_id, port, "pipeline", "--node", node_id)
        gateway_port = free_port()
        clock = (FIRST_HOUR.replace(hour=12) + (self.source.hours[-1] - FIRST_HOUR)).isoformat()
        self.serve("gateway", gateway_port, "gateway", "--clock-starts-at", clock)
        for name, port in {**ports, "gateway": gateway_port}.items():
            child = self.children[[*ports, "gateway"].index(name)]
            wait_until(partial(_is_ready, port), 60, f"{name} to be ready", child=child)
        self.questions = Questions(f"http://127.0.0.1:{gateway_port}", self.source, seed=0)

    def stop(self) -> None:
        if hasattr(self, "questions"):
            self.questions.stop()
        for child in self.children:
            child.process.terminate()
        for child in self.children:
            child.stop()
        self.postgres.stop()

    def serve(self, name: str, port: int, *words: str) -> None:
        self.children.append(self.command(*words, "--port", str(port), log=name))

    def command(self, *words: str, log: str) -> ChildProcess:
        """`foreshard` with these words, as a child in a session of its own."""
        command = [sys.executable, "-m", "foreshard.cli", *words, "--settings", self.file]
        return start(command, self.folder / "logs" / f"{log}.log", self.environment)

    @property
    def url(self) -> str:
        """Of Postgres as it runs now."""
        url = self.postgres.url()
        assert url is not None, "Postgres does not run"
        return url

    @property
    def known(self) -> Settings:
        """The settings with Postgres's address as it is now."""
        return replace(self.settings, postgres_url=self.url)

    def snapshot(self) -> Snapshot:
        found = epochs.current(self.url, self.settings.pool_id)
        assert found is not None
        return found

    def moves_of(self, plan_id: str) -> list[Row]:
        """How far a plan's moves have come; empty while Postgres is away. Cheap, as it is asked all the time."""
        try:
            if self._connection is None:
                self._connection = database.connect(self.url)
                self._connection.autocommit = True
            with self._connection.cursor(cursor_factory=RealDictCursor) as cursor:
                return database.run(cursor, "read_plan_moves", {"pool_id": self.settings.pool_id, "plan_id": plan_id})
        except (ForeshardError, psycopg2.Error, AssertionError):
            self._connection = None
            return []

    def compared_since(self, epoch: int) -> int:
        """How many answers of new replicas gateways have compared in later epochs."""
        with database.transaction(self.url) as cursor:
            cursor.execute("SELECT coalesce(sum(compared), 0)::int AS n FROM shadow_report WHERE since_epoch > %s", [epoch])
            return int(cursor.fetchall()[0]["n"])

    def kill_postgres(self, seconds: float) -> None:
        """Kills the server itself, whose workers then end, and starts it again on the same data after a while."""
        pid = self.postgres.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        time.sleep(seconds)
        self.postgres.start()

    def follow(self) -> None:
        """Brings all copies to the source as it is now, so that no answer may be older any more."""
        version = submit(self.settings, "follow_source", [])["version"]
        wait_until(lambda: all(min(found.values()) >= version for found in self.served()), 60, "the nodes to serve it")
        self.questions.floor = version

    def served(self) -> list[dict[str, int]]:
        """Shard → version, of each node that serves any."""
        found = [httpx.get(f"{node.url}/readyz", trust_env=False).json()["shards"] for node in self.settings.nodes]
        return [shards for shards in found if shards]


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
