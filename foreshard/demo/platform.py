"""The demo's own small platform: settings, Postgres, five pipelines and a gateway, as children of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import httpx

from foreshard import settings as configuration
from foreshard.demo import flights
from foreshard.local.processes import ChildProcess, free_port, start, wait_until
from foreshard.model import Node
from foreshard.routing import pool
from foreshard.settings import ENVIRONMENT_VARIABLE, Settings

SLOT_BITS = 5
START_SECONDS = 60

_SETTINGS = """# Written by `make demo` on its first run; see the README for every setting.
home = "."
slot_bits = {slot_bits}

[forecast]
country = "US"
zone = "America/New_York"

[policy]
hot_share = 0.16
target_utilisation = 0.8
# The demo must not wait for a person: its plans are within these.
auto_approve_moves = 64
auto_approve_bytes = 1_073_741_824

[transition]
# Quicker than anyone would in earnest: the demo is to end.
shadow_share = 0.5
shadow_queries = 3
shadow_seconds = 10
step_seconds = 1
reverse_seconds = 5

[spark]
master = "local[2]"
driver_memory = "2g"
# Many short jobs: the first compiler is all that they live long enough for.
driver_java_options = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""


def settings_of(folder: Path) -> tuple[Settings, tuple[Node, ...]]:
    """The demo's settings, written on the first call, and its pipelines, sized for the expected peak."""
    file = folder / "foreshard.toml"
    if not file.exists():
        peak = float(flights.expected_load(flights.START, flights.END, SLOT_BITS).sum(axis=1).max())
        nodes = "".join(
            f'\n[[nodes]]\nnode_id = "{node.node_id}"\ncapacity = {node.capacity}\n' for node in flights.pipelines(peak)
        )
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(_SETTINGS.format(slot_bits=SLOT_BITS) + nodes, "utf-8")
    settings = configuration.load(file)
    return settings, tuple(node.as_node() for node in settings.nodes)


@dataclass(frozen=True)
class Servers:
    """Where the gateway listens."""

    gateway_url: str


@contextmanager
def running(settings: Settings, postgres_url: str, clock_starts_at: datetime) -> Iterator[Servers]:
    """Pipelines and a gateway on free ports, ready to answer; all are stopped at the end of the block.

    The gateway's clock starts at `clock_starts_at`, because the log is one of the past.
    """
    environment = {
        **os.environ,
        ENVIRONMENT_VARIABLE: str(_servers_settings(settings)),
        "FORESHARD_POSTGRES_URL": postgres_url,
    }
    logs = settings.home / "logs"
    command = [sys.executable, "-m", "foreshard.cli"]
    with ExitStack() as children:
        ports = {node.node_id: free_port() for node in settings.nodes}
        started: dict[str, tuple[str, ChildProcess]] = {}
        for node_id, port in ports.items():
            url = f"http://127.0.0.1:{port}"
            pool.set_node_url(postgres_url, settings.pool_id, node_id, url)
            child = start([*command, "pipeline", "--node", node_id, "--port", str(port)], logs / f"{node_id}.log", environment)
            children.callback(child.stop)
            started[node_id] = (url, child)
        for node_id, (url, child) in started.items():
            wait_until(partial(_is_ready, url), START_SECONDS, f"pipeline {node_id}", log_path=child.log_path, child=child)
        port = free_port()
        gateway = start(
            [*command, "gateway", "--port", str(port), "--clock-starts-at", clock_starts_at.isoformat()],
            logs / "gateway.log",
            environment,
        )
        children.callback(gateway.stop)
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _is_ready(url), START_SECONDS, "the gateway", log_path=gateway.log_path, child=gateway)
        yield Servers(url)


def _servers_settings(settings: Settings) -> Path:
    """The same settings with a landing folder apart: look-ups asked in seconds must not pass for an hour's load."""
    assert settings.path is not None
    apart = settings.home / "asked"
    file = settings.home / "servers.toml"
    file.write_text(f'landing = "{apart}"\n' + settings.path.read_text("utf-8"), "utf-8")
    return file


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
