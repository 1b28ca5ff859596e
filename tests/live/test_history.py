"""Clients with tokens against gateways and pipelines while epochs change, nodes and gateways die and Postgres fails over.

FORESHARD_HISTORY_SEED draws who is killed and when (0). What a seed names is the order of the blows; where everybody is at
that instant is the machine's.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from history_clients import Client, History, Read, Repeated, Write, violations

from foreshard import settings as configuration
from foreshard.errors import ForeshardError
from foreshard.local.processes import ChildProcess, free_port, start, wait_until
from foreshard.local.replicated_postgres import ReplicatedPostgres
from foreshard.local.submit import submit
from foreshard.routing import database, pool, store
from foreshard.settings import Settings

SEED = int(os.environ.get("FORESHARD_HISTORY_SEED", "0"))
NODES, GATEWAYS, CLIENTS = ("a", "b", "c"), ("g1", "g2"), 4
ROUNDS = 3  # of taking in what was written and bringing it to the nodes, under blows
_SETTINGS = """
home = "."
postgres_url = "{url}"
slot_bits = 2

[policy]
min_full_replicas = 2

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
    """Three pipelines, two gateways and a replicated store, all processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "foreshard.toml"
        self.store = ReplicatedPostgres(folder / "store")
        self.ports = {name: free_port() for name in (*NODES, *GATEWAYS)}
        self.children: dict[str, ChildProcess] = {}

    def start(self) -> None:
        nodes = "".join(_NODE.format(node_id=node_id, port=self.ports[node_id]) for node_id in NODES)
        self.file.write_text(_SETTINGS.format(url=self.store.start()) + nodes, "utf-8")
        self.settings: Settings = configuration.load(self.file)
        database.migrate(self.store.url)
        pool.register(self.store.url, self.settings)
        submit(self.settings, "follow_source", [])  # makes an empty source
        initiated = self.command("init", "init")
        assert initiated.process.wait() == 0, initiated.log_path.read_text("utf-8")
        for name in (*NODES, *GATEWAYS):
            self.serve(name)
        for name in (*NODES, *GATEWAYS):
            self.await_ready(name)

    def stop(self) -> None:
        for child in self.children.values():
            child.stop()
        self.store.stop()

    def serve(self, name: str) -> None:
        words = ("pipeline", "--node", name) if name in NODES else ("gateway", "--id", name)
        self.children[name] = self.command(name, *words, "--port", str(self.ports[name]))

    def command(self, log: str, *words: str) -> ChildProcess:
        command = [sys.executable, "-m", "foreshard.cli", *words, "--settings", self.file]
        return start(command, self.folder / "logs" / f"{log}.log", {**os.environ, "FORESHARD_TRACEBACK": "1"})

    def await_ready(self, name: str) -> None:
        child = self.children[name]
        wait_until(partial(_is_ready, self.address(name)), 90, f"{name} to be ready", child=child)

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"


@pytest.fixture
def platform() -> Iterator[Platform]:
    # Not below pytest's folder, which is closed to the account that Postgres runs under.
    with tempfile.TemporaryDirectory() as folder:
        running = Platform(Path(folder))
        try:
            running.start()
            yield running
        finally:
            running.stop()


class Epochs:
    """Publishes the layout of now with other weights, as fast as the store takes it."""

    def __init__(self, url: str, pool_id: str, seed: int) -> None:
        self._url, self._pool_id, self._random = url, pool_id, random.Random(seed)
        self.published = 0

    def publish(self) -> None:
        try:
            now = store.current(self._url, self._pool_id)
            assert now is not None
            replicas = tuple(replace(r, weight=self._random.uniform(0.2, 1.0)) for r in now.replicas)
            following = replace(now, epoch=now.epoch + 1, parent=now.epoch, replicas=replicas)
            store.publish(self._url, following, expected_epoch=now.epoch, published_by="history", reason="other weights")
            self.published += 1
        except ForeshardError:
            return  # the store has no leader just now


class Intake:
    """Takes in what was written and brings it to the nodes, round after round."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.rounds = 0
        self.failed: list[str] = []

    def take_in(self) -> None:
        try:
            take_in(self._settings)
            self.rounds += 1
        except ForeshardError as error:
            self.failed.append(str(error))  # the store failed over under the job: the next round repeats it


def take_in(settings: Settings) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    span = ["--from", (now - timedelta(hours=1)).isoformat(), "--to", (now + timedelta(hours=1)).isoformat()]
    submit(settings, "aggregate", span)
    submit(settings, "follow_source", [])


@pytest.mark.live
def test_no_answer_is_older_than_its_token_and_none_is_missing(platform: Platform) -> None:
    drawn, settings, url = random.Random(SEED), platform.settings, platform.store.url
    addresses = [platform.address(name) for name in GATEWAYS]
    first_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=6)
    clients = [Client(f"client {n}", first_hour, lambda: addresses, f"{SEED}/{n}") for n in range(CLIENTS)]
    epochs, intake = Epochs(url, settings.pool_id, SEED), Intake(settings)
    turns = [Repeated(epochs.publish, lambda: 0.2), Repeated(intake.take_in, lambda: 0.0)]
    blows = []
    try:
        while intake.rounds < ROUNDS and len(blows) < 40:
            blows.append(_strike(platform, drawn, len(blows)))
            time.sleep(drawn.uniform(1, 4))  # the moment of the next one is what is drawn
    finally:
        for running in (*clients, *turns):
            running.stop()
    take_in(settings)
    history = History(
        [write for client in clients for write in client.history.writes],
        [read for client in clients for read in client.history.reads],
        [fault for client in clients for fault in client.history.faults],
    )
    statuses = Counter((read.status, read.expected is not None) for read in history.reads)
    print(f"seed {SEED}: {Counter(blows)}, {epochs.published} epochs, {len(history.writes)} writes, reads {dict(statuses)}")
    wrong = violations(history)
    assert not wrong, f"{len(wrong)} violations, first: {wrong[:5]}; jobs that failed meanwhile: {intake.failed[-2:]}"
    assert statuses[200, True] > 0, "no query with a token was answered: nothing was tried"
    numbers = [line.epoch for line in store.history(url, settings.pool_id, 1_000_000)]
    assert sorted(numbers) == list(range(1, max(numbers) + 1)), "an epoch's number is missing or there twice"
    assert {read.epoch for read in history.reads} <= {0, *numbers}
    _everything_is_there(platform, history)


def _strike(platform: Platform, drawn: random.Random, number: int) -> str:
    """One blow, and the return of whom it met: never two nodes at once, which are all that hold a shard."""
    victim = ("pipeline", "leader", "gateway", "pipeline", "pipeline", "gateway", "pipeline")[number % 7]
    if victim == "leader":
        platform.store.kill_postgres(platform.store.wait_until_replicated())
        platform.store.wait_until_replicated()
        return victim
    name = drawn.choice(NODES if victim == "pipeline" else GATEWAYS)
    platform.children[name].kill()
    platform.serve(name)
    platform.await_ready(name)
    return victim


def _everything_is_there(platform: Platform, history: History) -> None:
    """Whatever a client was told is written can be read in the end, with its token."""
    for entity in {write.entity for write in history.writes}:
        confirmed = [write for write in history.writes if write.entity == entity and write.token]
        headers = {"X-Foreshard-Token": confirmed[-1].token, "X-Foreshard-Wait": "30"}
        times = {"start": "2000-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z", "granularity": "hour"}
        asked = {"entity_id": entity, "service_id": "s", "operation_id": "o", **times}
        answer = httpx.get(f"{platform.address('g1')}/v1/usage", params=asked, headers=headers, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        found = {datetime.fromisoformat(row["start"]) for row in answer.json()}
        assert {write.hour for write in confirmed} <= found


def test_the_checker_finds_what_breaks_the_contract() -> None:
    at = datetime(2013, 11, 20, 5, tzinfo=UTC)
    written = [Write("e", at, "token")]
    good = Read("e", at, 200, 1, {at: 1}, "")
    assert violations(History(written, [good, replace(good, status=425, hours={})])) == []
    bad = [
        replace(good, hours={}),
        replace(good, hours={at: 2}),
        replace(good, hours={at: 1, at + timedelta(hours=1): 1}),
        replace(good, expected=None, status=503, hours={}),
        replace(good, status=500, hours={}),
    ]
    assert [len(violations(History(written, [read]))) for read in bad] == [1] * len(bad)
    assert violations(History(faults=["a thread died"])) == ["a thread died"]


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
