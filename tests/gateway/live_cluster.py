"""A real Postgres, real serving tables, pipeline processes and gateway processes, for the tests that ask them over HTTP."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx

from foreshard import settings as configuration
from foreshard.hashing import entity_slot
from foreshard.local.processes import ChildProcess, start, wait_until
from foreshard.model import Node, Replica
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.routing.snapshot import Shadow, Snapshot

# One for all: making a client loads certificates, which takes longer than any request here.
CLIENT = httpx.Client(timeout=15, trust_env=False)
HOUR = datetime(2013, 11, 20, 5, tzinfo=UTC)
SLOTS = 4
ENTITIES = tuple(f"AA{number}" for number in range(12))
NODES = ("a", "b")
KEYS = {"gold": "key-of-gold", "bronze": "key-of-bronze"}  # of the guarded cluster, by class
PutShard = Callable[..., None]

_SETTINGS = """
postgres_url = "{url}"
slot_bits = 2
"""
_NODE = """
[[nodes]]
node_id = "{node_id}"
capacity = {capacity}
"""
_RUN = """
import sys
from foreshard import settings
from foreshard.gateway.{module} import {run}
{run}(settings.load(sys.argv[1]), sys.argv[2])
"""
PIPELINE = _RUN.format(module="pipeline", run="run_pipeline")
GATEWAY = _RUN.format(module="server", run="run_gateway")


class Cluster:
    """Nodes a and b hold every shard in full at version 1; epoch 1 says so. `more` nodes run and hold nothing.

    `settings`: TOML tables to add to the settings' file.
    """

    def __init__(
        self, folder: Path, put_shard: PutShard, url: str, more: tuple[str, ...] = (), settings: str = "", capacity: float = 10
    ) -> None:
        self.folder, self.put_shard, self.url = folder, put_shard, url
        self.more_settings, self.capacity = settings, capacity
        self.nodes = (*NODES, *more)
        self.children: dict[str, ChildProcess] = {}
        self.addresses: dict[str, str] = {}
        self.epoch = 0

    def start(self) -> None:
        control_plane.migrate(self.url)
        file = self.folder / "foreshard.toml"
        declared = "".join(_NODE.format(node_id=node_id, capacity=self.capacity) for node_id in self.nodes)
        file.write_text(_SETTINGS.format(url=self.url) + declared + self.more_settings, "utf-8")
        self.settings = configuration.load(file)
        pool.register(self.url, self.settings)
        for node_id in NODES:
            for shard in range(SLOTS):
                self.put(node_id, shard, 1, {s: 1 for s in range(shard + 1)})
        for node_id in self.nodes:
            self.launch(PIPELINE, node_id)
        self.launch(GATEWAY, "g1")
        for node_id in self.nodes:
            self.await_address(node_id)
        self.publish()
        self.await_address("g1")

    def put(self, node_id: str, shard: int, quantity: int, applied: dict[int, int]) -> None:
        """Every entity of the shard has `quantity` in its one hour."""
        rows = [(entity, HOUR, str(quantity), 1) for entity in ENTITIES if entity_slot(entity, 2) == shard]
        self.put_shard(self.settings.table(f"serving/{node_id}"), shard, rows, applied)

    def publish(self, replicas: tuple[Replica, ...] | None = None, shadows: tuple[Shadow, ...] = ()) -> int:
        nodes = tuple(Node(n, float(self.capacity), url=self.addresses[n]) for n in self.nodes)
        everywhere = tuple(Replica(shard, n) for shard in range(SLOTS) for n in NODES)
        self.epoch += 1
        snapshot = Snapshot("usage", self.epoch, self.epoch - 1, 2, 3600, 7, 90, nodes, replicas or everywhere, shadows=shadows)
        store.publish(self.url, snapshot, expected_epoch=self.epoch - 1, published_by="test", reason="test")
        return self.epoch

    def launch(self, code: str, name: str) -> None:
        log = self.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        self.children[name] = start([sys.executable, "-c", code, self.folder / "foreshard.toml", name], log)

    def await_address(self, name: str) -> None:
        child = self.children[name]
        log = self.folder / f"{name}.log"
        found: list[str] = []

        def is_ready() -> bool:
            found[:] = re.findall(r"listens on (\S+)", log.read_text("utf-8"))
            try:
                return bool(found) and CLIENT.get(found[0] + "/readyz").status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(is_ready, 60, f"{name} to be ready", child=child)
        self.addresses[name] = found[0]

    def kill(self, name: str) -> None:
        child = self.children.pop(name)
        child.process.kill()
        child.process.wait()

    def stop(self) -> None:
        for child in self.children.values():
            child.process.terminate()
        for child in self.children.values():
            child.stop()

    def usage(
        self, entity: str, headers: dict[str, str] | None = None, gateway: str = "g1", **parameters: str
    ) -> httpx.Response:
        asked = {
            "entity_id": entity,
            "service_id": "s",
            "operation_id": "o",
            "start": "2013-11-20T00:00:00Z",
            "end": "2013-11-21T00:00:00Z",
            "granularity": "total",
            **parameters,
        }
        return CLIENT.get(self.addresses[gateway] + "/v1/usage", params=asked, headers=headers or {})


def running(cluster: Cluster) -> Iterator[Cluster]:
    """For a fixture: started, and stopped whatever happens."""
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
