"""The subscriber against a real Postgres, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from foreshard.gateway import last_known_good
from foreshard.gateway.activity import Outcome
from foreshard.gateway.decision import Verdict
from foreshard.gateway.query import Query
from foreshard.gateway.router import Router
from foreshard.gateway.subscriber import Subscriber
from foreshard.local.processes import wait_until
from foreshard.model import Node, NodeState, Replica
from foreshard.routing import pool, store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import NodeSettings, Settings

NOW = datetime(2013, 11, 28, 5, tzinfo=UTC)
QUERY = Query("e", "s", "o", NOW, NOW)
NODES = ("a", "b")


def snapshot(epoch: int) -> Snapshot:
    nodes = tuple(Node(n, 1.0, url=f"http://{n}") for n in NODES)
    return Snapshot("usage", epoch, epoch - 1, 0, 3600, 7, 90, nodes, tuple(Replica(0, n) for n in NODES))


def publish(url: str, epoch: int) -> None:
    store.publish(url, snapshot(epoch), expected_epoch=epoch - 1, published_by="test", reason="test")


class Following:
    """A router and its subscriber, with what the subscriber reported."""

    def __init__(self, url: str, file: Path, poll_seconds: float = 60.0) -> None:
        self.router, self.said = Router(seed=1), list[str]()
        self.subscriber = Subscriber(
            self.router, lambda: url, "usage", "g1", file, poll_seconds=poll_seconds, report=self.said.append
        )
        self.subscriber.start()


@pytest.fixture
def registered(database: str) -> str:
    pool.register(database, Settings(slot_bits=0, nodes=tuple(NodeSettings(n, 1.0, f"http://{n}") for n in NODES)))
    return database


@pytest.fixture
def followed(registered: str, tmp_path: Path) -> Iterator[Following]:
    publish(registered, 1)
    following = Following(registered, tmp_path / "file")
    yield following
    following.subscriber.stop()


def test_an_epoch_is_adopted_by_notification_and_acknowledged_once_older_queries_are_done(
    registered: str, followed: Following, tmp_path: Path
) -> None:
    router = followed.router
    old = router.route(QUERY, now=NOW)
    router.started(old)
    publish(registered, 2)  # the next poll is a minute away
    wait_until(lambda: router.epoch == 2, 10, "the epoch to be adopted")
    wait_until(lambda: last_known_good.load(tmp_path / "file", "usage") == snapshot(2), 10, "the file to be written")
    for _ in range(2):  # the first turn is over when the second has heard Postgres
        begin = time.monotonic()
        followed.subscriber.poke()
        wait_until(lambda begin=begin: followed.subscriber.staleness_seconds < time.monotonic() - begin, 10, "a turn")
    assert store.unacknowledged(registered, "usage", 2) == ["g1"]
    router.finished(old, Outcome(False))
    wait_until(lambda: store.unacknowledged(registered, "usage", 2) == [], 10, "the epoch to be acknowledged")


def test_versions_addresses_and_states_of_nodes_are_heard_between_epochs(registered: str, followed: Following) -> None:
    router = followed.router
    store.write_heartbeat(registered, "usage", "b", 0.0, {0: 7})
    pool.set_node_url(registered, "usage", "b", "http://moved")
    followed.subscriber.poke()
    wait_until(
        lambda: router.route(QUERY, now=NOW, minimum_version=7).verdict is Verdict.ROUTED, 10, "the heartbeat to be heard"
    )
    assert router.route(QUERY, now=NOW, minimum_version=7).url == "http://moved"
    pool.set_node_state(registered, "usage", "b", NodeState.DEAD)
    followed.subscriber.poke()
    wait_until(lambda: router.explain(QUERY, now=NOW)[1]["left_out"] == "is dead", 10, "the death to be heard")


def test_a_gateway_that_stops_gives_its_lease_up(registered: str, tmp_path: Path) -> None:
    publish(registered, 1)
    following = Following(registered, tmp_path / "file")
    publish(registered, 2)
    following.subscriber.stop()
    publish(registered, 3)
    assert store.unacknowledged(registered, "usage", 3) == []


def test_a_damaged_file_is_reported_and_postgres_is_asked(registered: str, tmp_path: Path) -> None:
    last_known_good.save(tmp_path / "file", snapshot(9))
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-1])
    publish(registered, 1)
    following = Following(registered, tmp_path / "file")
    assert following.router.epoch == 1
    assert "last-known-good file" in following.said[0]
    following.subscriber.stop()


def test_without_postgres_the_file_is_enough_and_the_loss_is_said_once(tmp_path: Path) -> None:
    last_known_good.save(tmp_path / "file", snapshot(4))
    following = Following("postgresql://127.0.0.1:1/none", tmp_path / "file", poll_seconds=0.01)
    wait_until(lambda: following.subscriber.staleness_seconds > 0.3, 10, "some polls")
    following.subscriber.stop()
    assert following.router.route(QUERY, now=NOW).verdict is Verdict.ROUTED
    assert len(following.said) == 1
    assert "keeps epoch 4" in following.said[0]
