"""The store's leader is killed in the middle of publishes: no epoch is lost, doubled or forked, and gateways follow again.

FORESHARD_KILLS is how often (3; `make soak`: 100), FORESHARD_KILLS_SEED draws the moments and who is killed (0).
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from foreshard.errors import ForeshardError
from foreshard.gateway import last_known_good
from foreshard.gateway.router import Router
from foreshard.gateway.subscriber import Subscriber
from foreshard.local.processes import wait_until
from foreshard.local.replicated_postgres import ReplicatedPostgres
from foreshard.model import Node, Replica
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.routing.snapshot import Snapshot, encode
from foreshard.settings import NodeSettings, Settings

pytestmark = pytest.mark.live

KILLS, SEED = int(os.environ.get("FORESHARD_KILLS", "3")), int(os.environ.get("FORESHARD_KILLS_SEED", "0"))
NODES = ("a", "b")
POOL = "usage"
# What is killed in turn; one of the three etcd servers goes with the third.
BLOWS = ("postgres", "member", "member and etcd")


@pytest.fixture(scope="module")
def replicated() -> Iterator[ReplicatedPostgres]:
    # Not below pytest's folder, which is closed to the account that Postgres runs under.
    with tempfile.TemporaryDirectory() as folder:
        server = ReplicatedPostgres(Path(folder))
        try:
            control_plane.migrate(server.start())
            yield server
        finally:
            server.stop()


@dataclass
class Publisher:
    """Publishes one epoch after another, each with other weights; what it was told is published is in `confirmed`."""

    url: str
    seed: int
    confirmed: dict[int, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        drawn = random.Random(self.seed)
        while not self._stopping.is_set():
            try:
                current = store.current(self.url, POOL)
                following = _epoch(current.epoch + 1 if current else 1, drawn)
                store.publish(
                    self.url, following, expected_epoch=following.parent, published_by=f"p{self.seed}", reason="kills"
                )
                self.confirmed[following.epoch] = encode(following)[1]
            except ForeshardError as error:
                self.refused.append(str(error))
                self._stopping.wait(0.05)
            except BaseException as error:  # what a user would see as a traceback
                self.failures.append(error)
                return


class Gateway:
    """A router that follows; every epoch that it adopted is in `seen`, with its checksum."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        self.seen: dict[int, str] = {}
        self.router = _Watched(self.seen)
        self.file = folder / name
        self.subscriber = Subscriber(
            self.router, lambda: url, POOL, name, self.file, poll_seconds=1.0, report=lambda sentence: None
        )
        self.subscriber.start()


class _Watched(Router):
    def __init__(self, seen: dict[int, str]) -> None:
        super().__init__(seed=1)
        self._seen = seen

    def adopt(self, snapshot: Snapshot) -> bool:
        checksum = encode(snapshot)[1]
        assert self._seen.setdefault(snapshot.epoch, checksum) == checksum, f"epoch {snapshot.epoch} with two contents"
        return super().adopt(snapshot)


def test_a_leader_killed_while_publishing_loses_doubles_and_forks_nothing(
    replicated: ReplicatedPostgres, tmp_path: Path
) -> None:
    url, drawn = replicated.url, random.Random(SEED)
    pool.register(url, Settings(slot_bits=0, nodes=tuple(NodeSettings(n, 1.0, f"http://{n}") for n in NODES)))
    publishers = [Publisher(url, SEED + i) for i in range(2)]
    gateways = [Gateway(url, f"g{i}", tmp_path) for i in range(2)]
    try:
        for publisher in publishers:
            publisher.start()
        for kill in range(KILLS):
            print(f"kill {kill} of seed {SEED}: {_strike(replicated, publishers, drawn, BLOWS[kill % len(BLOWS)])}")
    finally:
        for publisher in publishers:
            publisher.stop()
    assert not any(publisher.failures for publisher in publishers), publishers[0].failures + publishers[1].failures
    history = {line.epoch: line for line in store.history(url, POOL, 1_000_000)}
    newest = max(history)
    assert sorted(history) == list(range(1, newest + 1)), "an epoch is missing or doubled"
    assert all(line.parent == epoch - 1 for epoch, line in history.items()), "the history forks"
    for publisher in publishers:
        assert publisher.confirmed, publisher.refused[-3:]
        for epoch, checksum in publisher.confirmed.items():
            assert history[epoch].checksum == checksum, f"epoch {epoch} was confirmed and is another one now"
    for gateway in gateways:
        wait_until(lambda: gateway.router.epoch == newest, 30, "the gateway to follow again")  # noqa: B023  awaited here
        assert {epoch: history[epoch].checksum for epoch in gateway.seen} == gateway.seen, "a gateway saw what is not history"
        wait_until(lambda: not store.unacknowledged(url, POOL, newest), 30, "the gateways' acknowledgements")
        gateway.subscriber.stop()
        kept = last_known_good.load(gateway.file, POOL)
        assert kept is not None
        assert kept.epoch == newest


def _strike(replicated: ReplicatedPostgres, publishers: list[Publisher], drawn: random.Random, blow: str) -> str:
    """Kills the leader at a drawn moment while epochs are published, and returns when they are published again."""
    leader = replicated.wait_until_replicated()
    before = max(epoch for publisher in publishers for epoch in (*publisher.confirmed, 0))
    wait_until(lambda: _confirmed(publishers) > before + 5, 60, "some epochs to be published")
    time.sleep(drawn.uniform(0, 0.2))  # the moment is what is drawn: wherever the publishers are then
    struck_at, at_epoch = time.monotonic(), _confirmed(publishers)
    if blow == "postgres":
        replicated.kill_postgres(leader)
    else:
        replicated.kill_member(leader)
        if blow == "member and etcd":
            replicated.kill_etcd(leader)
    # One more than what may have been on its way.
    wait_until(lambda: _confirmed(publishers) > at_epoch + 2, 120, "epochs to be published by another leader")
    away = time.monotonic() - struck_at
    if blow != "postgres":
        replicated.start_member(leader)
    return f"{blow} of store-{leader} at epoch {at_epoch}, published again after {away:.1f} s"


def _confirmed(publishers: list[Publisher]) -> int:
    return max(epoch for publisher in publishers for epoch in (*list(publisher.confirmed), 0))


def _epoch(number: int, drawn: random.Random) -> Snapshot:
    nodes = tuple(Node(n, 1.0, url=f"http://{n}") for n in NODES)
    replicas = tuple(Replica(0, n, drawn.uniform(0.1, 1.0)) for n in NODES)
    return replace(Snapshot(POOL, number, number - 1, 0, 3600, 7, 90, nodes, replicas))
