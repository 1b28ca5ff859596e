"""How long it takes until every gateway routes by a new epoch: 50 subscribers in 4 processes on the embedded Postgres.

Beside it the bound, measured in the same run: how long a bare NOTIFY takes to reach 50 sessions that LISTEN in 4 processes. And
for a large pool what a publication and a gateway's load of it take. Run: `python -m benchmarks.routing --only publish`.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from benchmarks.placement_figures import Figure
from foreshard.gateway.router import Router
from foreshard.gateway.routing_table import RoutingTable
from foreshard.gateway.subscriber import Subscriber
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.model import Replica
from foreshard.routing import database, pool, store
from foreshard.routing.predicted import PredictedLoads
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import NodeSettings, Settings

SUBSCRIBERS, PROCESSES, PUBLICATIONS, NODES, HOURS = 50, 4, 200, 50, 24
# Between publications, so that each meets gateways that are done with the one before.
PAUSE_SECONDS = 0.5
SMALL_BITS, LARGE_BITS, LARGE_ROUNDS = 8, 14, 5
START = datetime(2026, 1, 1, tzinfo=UTC)


def figures() -> list[Figure]:
    """The table's lines."""
    with tempfile.TemporaryDirectory(prefix="foreshard-publish-") as name:
        server = EmbeddedPostgres(Path(name) / "postgres")
        server.start()
        try:
            bound = _bound(server, PUBLICATIONS)
            from_call, from_commit = _publications(server, Path(name), PUBLICATIONS)
            publish, fetch, build = _large(server)
        finally:
            server.stop()
    small, large = f"{1 << SMALL_BITS} shards", f"{1 << LARGE_BITS:,} shards"
    load = [a + b for a, b in zip(fetch, build, strict=True)]
    return [
        Figure(
            f"{small}: publish → all {SUBSCRIBERS} swapped, p99 of {PUBLICATIONS}", _quantile(from_call, 0.99), "ms", 250.0,
            beside=f"p50 {_quantile(from_call, 0.5):.0f} ms; from the commit on, p99 {_quantile(from_commit, 0.99):.0f} ms; "
            f"a bare NOTIFY to as many sessions, p99 {_quantile(bound, 0.99):.0f} ms",
        ),
        Figure(
            f"{large}: a publication, best of {LARGE_ROUNDS}", min(publish), "ms", 200.0, beside=f"worst {max(publish):.0f} ms"
        ),
        Figure(
            f"{large}: a gateway's load, best of {LARGE_ROUNDS}", min(load), "ms", 200.0,
            beside=f"worst {max(load):.0f} ms; fetch and decode {min(fetch):.0f} ms, the routing table {min(build):.0f} ms",
        ),
    ]  # fmt: skip


def _pool(server: EmbeddedPostgres, slot_bits: int) -> str:
    url = server.create_database(f"bits_{slot_bits}")
    database.migrate(url)
    nodes = tuple(NodeSettings(f"pipeline-{n:02d}", 1e3, f"http://10.0.0.{n}:8080") for n in range(NODES))
    pool.register(url, Settings(slot_bits=slot_bits, nodes=nodes))
    return url


def _epoch(url: str, slot_bits: int, number: int) -> Snapshot:
    """Three replicas a shard, and a day of forecasts; weights differ from epoch to epoch."""
    nodes, slots = pool.read_nodes(url, "usage"), 1 << slot_bits
    shares = (0.2 + 0.001 * (number % 100), 0.3, 0.5 - 0.001 * (number % 100))
    replicas = tuple(Replica(s, nodes[(7 * s + 11 * k) % NODES].node_id, shares[k]) for s in range(slots) for k in range(3))
    starts = [START + timedelta(hours=hour) for hour in range(HOURS)]
    means = [[1 + math.sin(s + h) ** 2 for h in range(HOURS)] for s in range(slots)]
    predicted = PredictedLoads.of_series(range(slots), starts, means)
    return Snapshot("usage", number, number - 1, slot_bits, 3600, 7, 90, nodes, replicas, predicted=predicted)


def _publish(url: str, snapshot: Snapshot) -> None:
    store.publish(url, snapshot, expected_epoch=snapshot.parent, published_by="benchmark", reason="new weights")


def _publications(server: EmbeddedPostgres, folder: Path, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the call of publish, and from its return, until the last subscriber had swapped."""
    url = _pool(server, SMALL_BITS)
    first = _epoch(url, SMALL_BITS, 1)
    _publish(url, first)
    from_call, from_commit = [], []
    with _children("follow", url, str(folder)) as children:
        _all_at(children, 1)
        for number in range(2, count + 2):
            snapshot = replace(_epoch(url, SMALL_BITS, number), predicted=first.predicted)
            time.sleep(PAUSE_SECONDS)
            called = time.monotonic()
            _publish(url, snapshot)
            committed, swapped = time.monotonic(), _all_at(children, number)
            from_call.append(1000 * (swapped - called))
            from_commit.append(1000 * (swapped - committed))
    return from_call, from_commit


def _bound(server: EmbeddedPostgres, count: int) -> list[float]:
    """Milliseconds from NOTIFY until the last of as many bare sessions has read it."""
    url = server.create_database("bare")
    found = []
    connection = database.connect(url)
    connection.autocommit = True
    with _children("listen", url, "") as children, connection.cursor() as cursor:
        _all_at(children, 0)
        for number in range(1, count + 1):
            called = time.monotonic()
            cursor.execute("SELECT pg_notify('bare', %s)", (str(number),))
            found.append(1000 * (_all_at(children, number) - called))
    connection.close()
    return found


def _large(server: EmbeddedPostgres) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of publications with 2**LARGE_BITS shards, of fetching each, and of its routing table."""
    url = _pool(server, LARGE_BITS)
    publish, fetch, build = [], [], []
    for number in range(1, LARGE_ROUNDS + 1):
        snapshot = _epoch(url, LARGE_BITS, number)
        began = time.perf_counter()
        _publish(url, snapshot)
        published = time.perf_counter()
        read = store.current(url, "usage")
        fetched = time.perf_counter()
        assert read is not None
        RoutingTable(read)
        publish.append(1000 * (published - began))
        fetch.append(1000 * (fetched - published))
        build.append(1000 * (time.perf_counter() - fetched))
    return publish, fetch, build


@contextmanager
def _children(*arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """The processes that follow, with their shares of the subscribers; they stop when their input ends."""
    shares = [SUBSCRIBERS // PROCESSES + (n < SUBSCRIBERS % PROCESSES) for n in range(PROCESSES)]
    command = [sys.executable, "-m", "benchmarks.routing_publish"]
    started = [
        subprocess.Popen([*command, *arguments, str(n), str(share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n, share in enumerate(shares)
    ]
    try:
        yield started
    finally:
        for child in started:
            child.communicate()


def _all_at(children: Sequence[subprocess.Popen[str]], number: int) -> float:
    """When the last child said that all of its subscribers are at this number, by the clock that processes share."""
    return max(_said(child.stdout, number) for child in children)


def _said(output: IO[str] | None, number: int) -> float:
    assert output is not None
    for line in output:
        at, moment = line.split()
        if int(at) == number:
            return float(moment)
    raise SystemExit("a process of subscribers ended early")


class _Tally:
    """Says when all of a process's subscribers have come to a number."""

    def __init__(self, share: int) -> None:
        self._share, self._lock, self._at = share, threading.Lock(), dict[int, int]()

    def reached(self, number: int) -> None:
        moment = time.monotonic()
        with self._lock:
            self._at[number] = self._at.get(number, 0) + 1
            if self._at[number] == self._share:
                print(number, moment, flush=True)


class _Timed(Router):
    """A router that says when it has swapped."""

    tally: _Tally

    def adopt(self, snapshot: Snapshot) -> bool:
        swapped = super().adopt(snapshot)
        if swapped:
            self.tally.reached(snapshot.epoch)
        return swapped


def _follow(url: str, folder: str, number: str, share: str) -> None:
    tally, subscribers = _Tally(int(share)), []
    for n in range(int(share)):
        router = _Timed(seed=n)
        router.tally = tally
        name = f"gateway-{number}-{n}"
        subscribers.append(Subscriber(router, lambda: url, "usage", name, Path(folder) / name, report=lambda _: None))
    for subscriber in subscribers:
        subscriber.start()
    sys.stdin.read()
    for subscriber in subscribers:
        subscriber.stop()


def _listen(url: str, _folder: str, _number: str, share: str) -> None:
    tally = _Tally(int(share))
    for _ in range(int(share)):
        threading.Thread(target=_hear, args=(url, tally), daemon=True).start()
    sys.stdin.read()


def _hear(url: str, tally: _Tally) -> None:
    import select

    connection = database.connect(url)
    connection.autocommit = True
    connection.cursor().execute("LISTEN bare")
    tally.reached(0)
    while True:
        select.select([connection], [], [])
        connection.poll()
        for notice in connection.notifies:
            tally.reached(int(notice.payload))
        connection.notifies.clear()


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


if __name__ == "__main__":
    # A child of _children.
    kind, *rest = sys.argv[1:]
    {"follow": _follow, "listen": _listen}[kind](*rest)
