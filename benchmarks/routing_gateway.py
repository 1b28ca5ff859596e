"""What the reference gateway adds to a query: through it beside straight at the pipeline, at the same bounded rate.

`python -m benchmarks.routing --only gateway` starts a Postgres, two pipelines with real serving tables and a gateway, each a
process of its own, and asks the same queries over kept connections at times drawn beforehand (open loop: a latency counts from
when the query was due). The two ways take turns; the first round of each is not counted. The figure is the median over rounds
of the difference of the medians; beside it stands the CPU time that the gateway's process took per query, which a busy machine
changes less.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httptools
import httpx
import psutil
import pyarrow as pa
import uvloop
from deltalake import CommitProperties, write_deltalake

from benchmarks.placement_figures import Figure
from foreshard import settings as configuration
from foreshard.gateway.http import CLASS, EPOCH, SHARD
from foreshard.hashing import entity_slot
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.local.processes import ChildProcess, start, wait_until
from foreshard.model import Node, Replica
from foreshard.routing import database, pool, store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings

LIMIT_MS = 1.0
RATE, SECONDS, ROUNDS = 100.0, 5.0, 6  # queries a second as a Poisson process; of one round; of each way
# With the pipelines' own median above this the machine was busy with something else, and the difference says nothing.
QUIET_MS = 20.0
NODES = ("a", "b")
SLOT_BITS = 4
ENTITIES = tuple(f"entity-{number}" for number in range(200))
BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
HOURS = 48
_CONNECTIONS = 16
_SETTINGS = 'postgres_url = "{url}"\nslot_bits = {bits}\n' + "".join(
    f'[[nodes]]\nnode_id = "{node_id}"\ncapacity = 10000\n' for node_id in NODES
)
_RUN = """
import sys
from foreshard import settings
from foreshard.gateway.{module} import {run}
{run}(settings.load(sys.argv[1]), sys.argv[2])
"""
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("entity_id", "service_id", "operation_id")),
        ("hour", pa.timestamp("us", "UTC")),
        ("slot", pa.int32()),
        ("quantity", pa.decimal128(28, 6)),
        ("events", pa.int64()),
        ("day", pa.date32()),
        ("shard_id", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Round:
    """Latencies in milliseconds, ascending."""

    latencies: list[float]

    def quantile(self, q: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(q * len(self.latencies)))]


def figures() -> list[Figure]:
    """The table's lines."""
    folder = Path(tempfile.mkdtemp(prefix="foreshard-benchmark-"))
    postgres = EmbeddedPostgres(folder / "postgres")
    children: list[ChildProcess] = []
    try:
        addresses = _started(folder, postgres.start(), children)
        return uvloop.run(_compare(addresses, psutil.Process(children[-1].pid)))
    finally:
        for child in children:
            child.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _compare(addresses: dict[str, str], gateway: psutil.Process) -> list[Figure]:
    ways: dict[str, list[Round]] = {"pipeline": [], "gateway": []}
    asked = {"pipeline": [addresses[node_id] for node_id in NODES], "gateway": [addresses["gateway"]]}
    cpu = 0.0
    for number in range(ROUNDS + 1):
        for way in sorted(ways, reverse=bool(number % 2)):
            drawn = random.Random(number)  # the same queries at the same times both ways
            before = _cpu_seconds(gateway)
            latencies = await _ask(asked[way], drawn, RATE, SECONDS)
            if number:
                # What it takes without queries, in as long a time, is no part of them.
                cpu += (_cpu_seconds(gateway) - before) * (1 if way == "gateway" else -1)
                ways[way].append(Round(sorted(latencies)))
    p50, p99 = ({way: statistics.median(r.quantile(q) for r in ways[way]) for way in ways} for q in (0.5, 0.99))
    each = [g.quantile(0.5) - p.quantile(0.5) for g, p in zip(ways["gateway"], ways["pipeline"], strict=True)]
    beside = (
        f"by round {', '.join(f'{one:.2f}' for one in each)}; p50 straight {p50['pipeline']:.2f}, "
        f"through {p50['gateway']:.2f}; p99 {p99['pipeline']:.1f} and {p99['gateway']:.1f} ms; {RATE:g} queries/s"
    )
    is_quiet = p50["pipeline"] <= QUIET_MS
    overhead = Figure(
        "the gateway's own part of a query, p50", statistics.median(each), "ms", LIMIT_MS if is_quiet else None, beside=beside
    )
    queries = sum(len(r.latencies) for r in ways["gateway"])
    return [overhead, Figure("CPU time of the gateway's process, a query", 1000 * cpu / queries, "ms")]


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _ask(addresses: list[str], drawn: random.Random, rate: float, seconds: float) -> list[float]:
    """Latencies in ms of the queries due within `seconds`; raises SystemExit for an answer that is none."""
    loop = asyncio.get_running_loop()
    connections: asyncio.Queue[_Connection] = asyncio.Queue()
    for number in range(_CONNECTIONS):
        host, port = addresses[number % len(addresses)].removeprefix("http://").split(":")
        connections.put_nowait((await loop.create_connection(_Connection, host, int(port)))[1])
    latencies: list[float] = []

    async def one(request: bytes, due: float) -> None:
        connection = await connections.get()
        status = await connection.ask(request)
        latencies.append((time.perf_counter() - due) * 1000)
        connections.put_nowait(connection)
        if status != 200:
            raise SystemExit(f"a query was answered with status {status}")

    begin = due = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        while (due := due + drawn.expovariate(rate)) < begin + seconds:
            request = _request(drawn.choice(ENTITIES))
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(request, due))
    while not connections.empty():
        connections.get_nowait().transport.close()
    return latencies


class _Connection(asyncio.Protocol):
    """One kept connection, one query at a time."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._answered: asyncio.Future[int] | None = None

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """The status, when the whole answer is there."""
        self._answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answered

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._answered is not None:
            self._answered.set_result(self._parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(SystemExit("a connection was closed before its answer"))


def _request(entity: str) -> bytes:
    asked = {
        **{"entity_id": entity, "service_id": "s", "operation_id": "o", "granularity": "hour"},
        **{"start": _iso(BEGIN), "end": _iso(BEGIN + timedelta(hours=24))},
    }
    # A gateway takes no notice of the shard, which a pipeline needs.
    headers = {"Host": "x", SHARD: str(entity_slot(entity, SLOT_BITS)), CLASS: "standard", EPOCH: "1"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET /v1/usage?{urlencode(asked)} HTTP/1.1\r\n{lines}\r\n".encode()


def _started(folder: Path, url: str, children: list[ChildProcess]) -> dict[str, str]:
    database.migrate(url)
    file = folder / "foreshard.toml"
    file.write_text(_SETTINGS.format(url=url, bits=SLOT_BITS), "utf-8")
    settings = configuration.load(file)
    pool.register(url, settings)
    addresses: dict[str, str] = {}
    for node_id in NODES:
        _write_table(settings, node_id)
        addresses[node_id] = _launch(folder, "pipeline", "run_pipeline", node_id, children)
    nodes = tuple(Node(node_id, 10_000.0, url=addresses[node_id]) for node_id in NODES)
    replicas = tuple(Replica(shard, node_id) for shard in range(1 << SLOT_BITS) for node_id in NODES)
    snapshot = Snapshot(settings.pool_id, 1, 0, SLOT_BITS, 3600, 7, 90, nodes, replicas)
    store.publish(url, snapshot, expected_epoch=0, published_by="benchmark", reason="benchmark")
    addresses["gateway"] = _launch(folder, "server", "run_gateway", "gateway", children)
    return addresses


def _launch(folder: Path, module: str, run: str, name: str, children: list[ChildProcess]) -> str:
    log = folder / f"{name}.log"
    child = start([sys.executable, "-c", _RUN.format(module=module, run=run), folder / "foreshard.toml", name], log)
    children.append(child)
    found: list[str] = []

    def is_ready() -> bool:
        found[:] = re.findall(r"listens on (\S+)", log.read_text("utf-8"))
        try:
            return bool(found) and httpx.get(found[0] + "/readyz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(is_ready, 60, f"{name} to be ready", child=child)
    return found[0]


def _write_table(settings: Settings, node_id: str) -> None:
    rows = [
        {
            **{"entity_id": entity, "service_id": "s", "operation_id": "o"},
            **{"hour": BEGIN + timedelta(hours=hour), "day": (BEGIN + timedelta(hours=hour)).date()},
            **{"slot": (slot := entity_slot(entity, SLOT_BITS)), "shard_id": slot, "quantity": Decimal("1.5"), "events": 1},
        }
        for entity in ENTITIES
        for hour in range(HOURS)
    ]
    held = {str(shard): {"applied_version": 1, "covers_from": None} for shard in range(1 << SLOT_BITS)}
    said = CommitProperties(custom_metadata={"userMetadata": json.dumps({"source_version": 1, "holdings": held})})
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    write_deltalake(settings.table(f"serving/{node_id}"), table, partition_by=["shard_id"], commit_properties=said)


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
