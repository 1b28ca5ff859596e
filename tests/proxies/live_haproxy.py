"""A real HAProxy on free ports, its driver, and small pipelines behind it."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from foreshard.local.processes import ChildProcess, free_port, start, wait_until
from foreshard.model import Node, Replica
from foreshard.proxies.haproxy_configuration import BACKENDS, FRONTENDS, Options, backends, frontends, map_files
from foreshard.proxies.haproxy_driver import Driver, write_files
from foreshard.proxies.haproxy_runtime import RuntimeApi
from foreshard.proxies.proxy_state import nothing_held
from foreshard.routing import pool, store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import NodeSettings, Settings

CLIENT = httpx.Client(timeout=15, trust_env=False)
RANGE = {"service_id": "s", "operation_id": "o", "start": "2013-11-20T00:00:00Z", "end": "2013-11-29T00:00:00Z"}


def haproxy() -> str:
    """The program; the test fails with what to do where it is missing."""
    found = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if found is None:
        pytest.fail("HAProxy is not installed; run `make servers` as root, or install the package haproxy")
    return found


class Proxy:
    """HAProxy with a written configuration, listening on a free port."""

    def __init__(self, folder: Path, slot_bits: int, gateways: tuple[str, ...] = (), own_backends: int = 4) -> None:
        self.folder, self.slot_bits = folder, slot_bits
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        state = nothing_held(own_backends, checks=8)
        options = Options(folder, slot_bits, f"127.0.0.1:{self.port}", gateways)
        files = {FRONTENDS: frontends(options), BACKENDS: backends(state, slot_bits, folder)}
        write_files(folder, {**files, **map_files(state)})
        self.api = RuntimeApi(folder / "admin.sock", folder)
        self.start()

    def start(self) -> None:
        command = [haproxy(), "-db", "-f", self.folder / FRONTENDS, "-f", self.folder / BACKENDS]
        self.child: ChildProcess = start(command, self.folder / "haproxy.log")
        wait_until(self._listens, 20, "HAProxy to listen", child=self.child)

    def kill(self) -> None:
        self.child.process.kill()
        self.child.process.wait()

    def stop(self) -> None:
        self.child.stop()

    def ask(self, entity_id: str, headers: dict[str, str] | None = None, **parameters: str) -> httpx.Response:
        query = urlencode({"entity_id": entity_id, **RANGE, **parameters})
        return CLIENT.get(f"{self.url}/v1/usage?{query}", headers=headers)

    def weights(self, backend: str) -> dict[str, int]:
        """Node → weight of the servers that get queries."""
        servers = self.api.held().servers
        return {n.split(":")[0]: s.weight for (b, n), s in servers.items() if b == backend and not s.in_maintenance}

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Driven:
    """A driver in a thread of this process; notifications alone are fast, as it polls once a minute."""

    def __init__(self, proxy: Proxy, url: str) -> None:
        self.said: list[str] = []
        self.driver = Driver(proxy.folder, lambda: url, "usage", "haproxy-1", self.said.append, poll_seconds=60)
        self._thread = threading.Thread(target=self.driver.run)
        self._thread.start()

    def stop(self) -> None:
        self.driver.stop()
        self._thread.join()


def snapshot_of(
    addresses: dict[str, str],
    slot_bits: int,
    replicas: Sequence[Replica],
    isolated: tuple[tuple[str, int], ...] = (),
    epoch: int = 1,
) -> Snapshot:
    nodes = tuple(Node(node, 10.0, url=address) for node, address in addresses.items())
    return Snapshot("usage", epoch, epoch - 1, slot_bits, 3600, 7, 90, nodes, tuple(replicas), isolated=isolated)


def everywhere(slot_bits: int, *nodes: str, weight: float = 1.0) -> list[Replica]:
    """Every slot in full on each of the nodes."""
    return [Replica(slot, node, weight) for slot in range(1 << slot_bits) for node in nodes]


class Published:
    """Epochs of a pool, one after the other."""

    def __init__(self, url: str, slot_bits: int, addresses: dict[str, str]) -> None:
        self.url, self.slot_bits, self.addresses = url, slot_bits, addresses
        self.epoch = 0
        nodes = tuple(NodeSettings(node, 10.0, address) for node, address in addresses.items())
        pool.register(url, Settings(slot_bits=slot_bits, nodes=nodes))

    def publish(self, replicas: Sequence[Replica], isolated: tuple[tuple[str, int], ...] = ()) -> int:
        self.epoch += 1
        snapshot = snapshot_of(self.addresses, self.slot_bits, replicas, isolated, self.epoch)
        store.publish(self.url, snapshot, expected_epoch=self.epoch - 1, published_by="test", reason="test")
        return self.epoch

    def everywhere(self, *nodes: str, weight: float = 1.0) -> list[Replica]:
        return everywhere(self.slot_bits, *nodes, weight=weight)
