"""The subscriber against a real Postgres, in this process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from foreshard.gateway import last_known_good
from foreshard.gateway import subscriber as subscribing
from foreshard.gateway.activity import Outcome
from foreshard.gateway.decision import Verdict
from foreshard.gateway.query import Query
from foreshard.gateway.router import Router
from foreshard.gateway.subscriber import Subscriber
from foreshard.local.processes import wait_until
from foreshard.model import Node, NodeState, Replica
from foreshard.routing import corrections, pool, store
from foreshard.routing import database as control_plane
from foreshard.routing.publication import write_epoch
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


def execute(url: str, statement: str, *values: object) -> None:
    with control_plane.transaction(url) as cursor:
        cursor.execute(statement, values)


def said(following: Following, words: str) -> bool:
    return any(words in sentence for sentence in following.said)


def poke_until(following: Following, condition: Callable[[], bool], what: str) -> None:
    def poked() -> bool:
        following.subscriber.poke()
        return condition()

    wait_until(poked, 20, what)


TAMPERED = {
    "bytes": ("UPDATE routing_epoch SET snapshot = set_byte(snapshot, 20, 255 - get_byte(snapshot, 20)) WHERE epoch = 2", ()),
    "checksum": ("UPDATE routing_epoch SET checksum = repeat('0', 64) WHERE epoch = 2", ()),
    "no snapshot": (
        "UPDATE routing_epoch SET snapshot = %s, checksum = %s WHERE epoch = 2",
        (b"hello", hashlib.sha256(b"hello").hexdigest()),
    ),
    "another epoch": (
        "UPDATE routing_epoch AS e SET snapshot = o.snapshot, checksum = o.checksum FROM routing_epoch AS o"
        " WHERE e.epoch = 2 AND o.epoch = 1",
        (),
    ),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_tampered_epoch_is_not_adopted_and_the_next_one_is(registered: str, followed: Following, kind: str) -> None:
    statement, values = TAMPERED[kind]
    with control_plane.transaction(registered) as cursor:  # published and changed before any gateway can read it
        pool_lock = {"pool_id": "usage"}
        control_plane.run(cursor, "lock_pool", pool_lock)
        write_epoch(cursor, snapshot(2), 1, "test", "test", "")
        cursor.execute(statement, values)
    poke_until(followed, lambda: said(followed, "keeps epoch 1: "), "the complaint")
    assert followed.router.epoch == 1
    assert followed.router.route(QUERY, now=NOW).verdict is Verdict.ROUTED
    assert store.unacknowledged(registered, "usage", 2) == ["g1"], "nothing that epoch 1 routes to may go"
    publish(registered, 3)
    poke_until(followed, lambda: followed.router.epoch == 3, "the next epoch")
    poke_until(followed, lambda: said(followed, "hears Postgres again and is at epoch 3"), "the good news")


def test_an_epoch_number_that_goes_back_is_said_and_not_adopted(registered: str, followed: Following) -> None:
    """As after a restored backup, or a failover that lost an epoch."""
    for number in (2, 3):
        publish(registered, number)
    wait_until(lambda: followed.router.epoch == 3, 20, "epoch 3")
    poke_until(followed, lambda: store.unacknowledged(registered, "usage", 3) == [], "the acknowledgement")
    execute(registered, "DELETE FROM gateway_ack WHERE epoch > 1")
    execute(registered, "DELETE FROM routing_entry WHERE epoch > 1")
    execute(registered, "DELETE FROM routing_epoch WHERE epoch > 1")
    execute(registered, "UPDATE pool SET current_epoch = 1")
    poke_until(followed, lambda: said(followed, "keeps epoch 3: Postgres says that epoch 1 is current"), "the complaint")
    for number in (2, 3):
        publish(registered, number)
        assert store.unacknowledged(registered, "usage", number) == ["g1"], "what it routes to is not taken away"
    publish(registered, 4)
    poke_until(followed, lambda: followed.router.epoch == 4, "an epoch that is newer than any before")
    poke_until(followed, lambda: store.unacknowledged(registered, "usage", 4) == [], "the acknowledgement")
    assert sum("is current, as after a restored backup" in sentence for sentence in followed.said) >= 1


def test_a_standby_is_followed_although_it_takes_no_lease(registered: str, tmp_path: Path) -> None:
    publish(registered, 1)
    following = Following(f"{registered}?options=-c%20default_transaction_read_only%3Don", tmp_path / "file")
    assert following.router.epoch == 1
    assert said(following, "is read-only, as a standby is")
    pool.set_node_state(registered, "usage", "b", NodeState.DEAD)
    poke_until(following, lambda: following.router.explain(QUERY, now=NOW)[1]["left_out"] == "is dead", "the death")
    pool.set_node_state(registered, "usage", "b", NodeState.ACTIVE)
    publish(registered, 2)
    poke_until(following, lambda: following.router.epoch == 2, "the next epoch")
    following.subscriber.stop()


def test_a_postgres_that_is_too_slow_is_left_and_heard_again(
    registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribing, "STATEMENT_SECONDS", 0.1)
    publish(registered, 1)
    following = Following(registered, tmp_path / "file")
    with control_plane.transaction(registered) as cursor:
        cursor.execute("LOCK TABLE gateway IN ACCESS EXCLUSIVE MODE")
        poke_until(following, lambda: said(following, "keeps epoch 1: Postgres at"), "the complaint")
        assert said(following, "is too slow")
        assert following.router.route(QUERY, now=NOW).verdict is Verdict.ROUTED
    publish(registered, 2)
    poke_until(following, lambda: following.router.epoch == 2, "the next epoch")
    wait_until(lambda: said(following, "hears Postgres again"), 20, "the good news")
    following.subscriber.stop()


@pytest.mark.parametrize("years", [-30, 30])
def test_a_jump_of_the_clock_changes_nothing_but_the_forecast(
    registered: str, followed: Following, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + years * 31_536_000)
    jumped = NOW.replace(year=NOW.year + years)
    publish(registered, 2)
    wait_until(lambda: followed.router.epoch == 2, 20, "the epoch")
    poke_until(followed, lambda: store.unacknowledged(registered, "usage", 2) == [], "the acknowledgement")
    assert 0 <= followed.subscriber.staleness_seconds < 3600
    assert followed.router.route(Query("e", "s", "o", jumped, jumped), now=jumped).verdict is Verdict.ROUTED
    assert followed.said == []


def test_a_gateway_uses_one_connection_to_ask_and_one_to_listen(registered: str, followed: Following) -> None:
    def sessions() -> list[int]:
        with control_plane.transaction(registered) as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid"
            )
            return [row["pid"] for row in cursor.fetchall()]

    wait_until(lambda: len(sessions()) == 2, 20, "both to be connected")
    before = sessions()
    publish(registered, 2)
    wait_until(lambda: followed.router.epoch == 2, 20, "the epoch")
    poke_until(followed, lambda: store.unacknowledged(registered, "usage", 2) == [], "the acknowledgement")
    assert sessions() == before


def factor(router: Router, node_id: str) -> float:
    """The node's score beside that of a node of which nothing was learnt."""
    scores = {row["node_id"]: float(str(row["score"])) for row in router.explain(QUERY, now=NOW)}
    return scores[node_id] / scores["b"]


def test_corrections_are_heard_between_epochs_and_fade_with_postgres_gone(
    registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registered, 1)
    where, router = [registered], Router(seed=1)
    subscriber = Subscriber(
        router, lambda: where[-1], "usage", "g1", tmp_path / "file", poll_seconds=60.0, report=lambda _: None
    )
    subscriber.start()
    corrections.write_corrections(registered, "usage", {"a": 1.6, "gone": 1.2}, 60.0)
    subscriber.poke()
    wait_until(lambda: factor(router, "a") == pytest.approx(1.6), 10, "the correction to be heard")
    publish(registered, 2)
    wait_until(lambda: router.epoch == 2, 10, "the epoch to be adopted")
    assert factor(router, "a") == pytest.approx(1.6)

    where.append("postgresql://127.0.0.1:1/none")
    monkeypatch.setattr(Subscriber, "staleness_seconds", 3 * 3600.0)
    subscriber.poke()
    wait_until(lambda: factor(router, "a") == pytest.approx(1.0, abs=0.05), 10, "the correction to fade")
    subscriber.stop()
