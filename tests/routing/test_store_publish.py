"""Publication by compare-and-set: invariants 1, 2, 4 and 5, against a real Postgres."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from threading import Barrier

import pytest

from foreshard.errors import ForeshardError, Refused
from foreshard.model import NodeState, Replica
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.routing.snapshot import PredictedLoad, Snapshot
from foreshard.transition import lease as leases
from foreshard.transition.store import ReplicaRecord, delete_replicas, read_replicas, upsert_replicas


def following(snapshot: Snapshot, **changes: object) -> Snapshot:
    return replace(snapshot, epoch=snapshot.epoch + 1, parent=snapshot.epoch, **changes)  # type: ignore[arg-type]


def publish(url: str, snapshot: Snapshot) -> None:
    store.publish(url, snapshot, expected_epoch=snapshot.parent, published_by="test", reason="because")


def test_what_is_published_is_read_back_whole(registered: str, snapshot: Snapshot) -> None:
    assert store.current(registered, "usage") is None
    first = replace(
        snapshot,
        replicas=(*snapshot.replicas, Replica(0, "c", 0.5, date(2013, 11, 20)), Replica(4, "b")),
        isolated=(("UA-1545 %s ü", 4),),
        predicted=(PredictedLoad(0, datetime(2013, 11, 28, 5, tzinfo=UTC), 1.5),),
    )
    publish(registered, first)
    assert store.current(registered, "usage") == first
    second = following(snapshot)
    publish(registered, second)
    assert store.current(registered, "usage") == second
    assert store.epoch(registered, "usage", 1) == first
    assert [(e.epoch, e.parent, e.is_current) for e in store.history(registered, "usage", 10)] == [(2, 1, True), (1, 0, False)]
    with control_plane.transaction(registered) as cursor:
        cursor.execute("SELECT count(*) AS n FROM routing_entry WHERE epoch = 1")
        assert cursor.fetchone() == {"n": len(first.replicas)}
        cursor.execute("SELECT count(*) AS n FROM isolated_entity")
        assert cursor.fetchone() == {"n": 0}, "epoch 2 isolates nobody"


def test_of_concurrent_publishers_exactly_one_wins(published: str, snapshot: Snapshot) -> None:
    publishers = 8
    barrier = Barrier(publishers)

    def attempt(number: int) -> str:
        barrier.wait()
        try:
            store.publish(published, following(snapshot), expected_epoch=1, published_by=f"p{number}", reason="race")
        except Refused as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor(publishers) as executor:
        won = list(executor.map(attempt, range(publishers)))
    assert won.count("won") == 1
    assert all("epoch 1 is no longer current" in answer for answer in won if answer != "won")
    newest = store.history(published, "usage", 10)
    assert [record.epoch for record in newest] == [2, 1]
    assert newest[0].published_by == f"p{won.index('won')}"


@pytest.mark.parametrize("number", [1, 3])
def test_an_epoch_is_neither_repeated_nor_skipped(published: str, snapshot: Snapshot, number: int) -> None:
    with pytest.raises(Refused, match="take the next number"):
        store.publish(published, replace(snapshot, epoch=number, parent=1), expected_epoch=1, published_by="t", reason="r")
    assert store.current(published, "usage") == snapshot


def test_a_shard_short_of_full_replicas_is_refused_by_name(published: str, snapshot: Snapshot) -> None:
    short = tuple(replica for replica in snapshot.replicas if (replica.shard_id, replica.node_id) != (2, "a"))
    with pytest.raises(Refused, match="shard 2 has 1 full replicas on live nodes and needs 2"):
        publish(published, following(snapshot, replicas=short))
    hot = tuple(replace(r, covers_from=date(2013, 11, 20)) if r.shard_id == 3 else r for r in snapshot.replicas)
    with pytest.raises(Refused, match="shard 3 has 0 full replicas"):
        publish(published, following(snapshot, replicas=hot))
    assert store.current(published, "usage") == snapshot, "nothing was written"


def test_a_replica_on_a_dead_node_does_not_count(published: str, snapshot: Snapshot) -> None:
    pool.set_node_state(published, "usage", "b", NodeState.DEAD)
    with pytest.raises(Refused, match="shard 0 has 1 full replicas"):
        publish(published, following(snapshot))


def test_a_pool_of_one_node_needs_one_replica(registered: str, snapshot: Snapshot) -> None:
    for node_id in ("b", "c"):
        pool.set_node_state(registered, "usage", node_id, NodeState.DEAD)
    alone = replace(snapshot, nodes=snapshot.nodes[:1], replicas=tuple(Replica(shard, "a") for shard in range(4)))
    publish(registered, alone)
    assert store.current(registered, "usage") == alone


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (Replica(0, "c", 0.0), "weight 0.0 is not a positive number"),
        (Replica(0, "c", math.inf), "weight inf"),
        (Replica(0, "c", math.nan), "weight nan"),
        (Replica(0, "z"), "not among the epoch's nodes"),
        (Replica(4, "a"), "there is no such shard"),
        (Replica(0, "a"), "listed twice"),
    ],
)
def test_a_senseless_replica_is_refused(published: str, snapshot: Snapshot, extra: Replica, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        publish(published, following(snapshot, replicas=(*snapshot.replicas, extra)))


@pytest.mark.parametrize(
    ("isolated", "sentence"),
    [
        ((("x", 3),), "a slot's number"),
        ((("x", 4), ("x", 5)), "an entity is isolated twice"),
        ((("x", 4), ("y", 4)), "the same shard"),
    ],
)
def test_a_senseless_isolation_is_refused(
    published: str, snapshot: Snapshot, isolated: tuple[tuple[str, int], ...], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        publish(published, following(snapshot, isolated=isolated))


def test_a_shard_number_may_pass_to_another_isolated_entity(published: str, snapshot: Snapshot) -> None:
    publish(published, following(snapshot, isolated=(("x", 4), ("y", 5))))
    publish(published, replace(snapshot, epoch=3, parent=2, isolated=(("y", 4), ("x", 5))))
    with control_plane.transaction(published) as cursor:
        cursor.execute("SELECT entity_id, shard_id, since_epoch FROM isolated_entity ORDER BY entity_id")
        assert [tuple(row.values()) for row in cursor.fetchall()] == [("x", 5, 3), ("y", 4, 3)]


def test_the_old_holder_cannot_publish_after_a_takeover(published: str, snapshot: Snapshot) -> None:
    old = leases.acquire(published, "controller", "one", ttl_seconds=0)
    new = leases.acquire(published, "controller", "two", ttl_seconds=60)
    with pytest.raises(Refused, match="one no longer holds lease controller"):
        store.publish(published, following(snapshot), expected_epoch=1, published_by="one", reason="late", lease=old)
    assert store.current(published, "usage") == snapshot
    store.publish(published, following(snapshot), expected_epoch=1, published_by="two", reason="new", lease=new)
    assert store.history(published, "usage", 1)[0].published_by == "two"


def test_slot_bits_that_differ_from_the_pool_are_refused(published: str, snapshot: Snapshot) -> None:
    with pytest.raises(Refused, match="slot_bits 1, pool usage has 2"):
        publish(published, following(snapshot, slot_bits=1))


def test_an_unregistered_pool_is_named(database: str, snapshot: Snapshot) -> None:
    with pytest.raises(Refused, match="pool usage is not registered"):
        publish(database, snapshot)


def test_a_damaged_snapshot_is_not_served(published: str) -> None:
    with control_plane.transaction(published) as cursor:
        cursor.execute("UPDATE routing_epoch SET snapshot = set_byte(snapshot, 20, 255 - get_byte(snapshot, 20))")
    with pytest.raises(ForeshardError, match="does not match its checksum"):
        store.current(published, "usage")


def hold_all(url: str, snapshot: Snapshot) -> None:
    upsert_replicas(url, "usage", [ReplicaRecord(r.shard_id, r.node_id, "verified", None, 7, 7) for r in snapshot.replicas])


def test_rollback_publishes_the_old_content_as_a_new_epoch(published: str, snapshot: Snapshot) -> None:
    hold_all(published, snapshot)
    publish(published, following(snapshot, replicas=(*snapshot.replicas, Replica(0, "c"))))
    pool.set_node_url(published, "usage", "a", "http://a:2")
    assert store.rollback(published, "usage", 1, "operator") == 3
    back = store.current(published, "usage")
    assert back is not None
    assert (back.epoch, back.parent, back.replicas) == (3, 2, snapshot.replicas)
    assert back.nodes[0].url == "http://a:2", "addresses are those of now"
    assert {r.state for r in read_replicas(published, "usage")} == {"serving"}
    with pytest.raises(Refused, match="already current"):
        store.rollback(published, "usage", 3, "operator")


@pytest.mark.parametrize("state", ["retiring", "copying", None])
def test_rollback_to_a_replica_that_is_gone_is_refused(published: str, snapshot: Snapshot, state: str | None) -> None:
    hold_all(published, snapshot)
    without = tuple(r for r in snapshot.replicas if (r.shard_id, r.node_id) != (0, "a"))
    publish(published, following(snapshot, replicas=(*without, Replica(0, "c"))))
    if state is None:
        delete_replicas(published, "usage", [(0, "a")])
    else:
        upsert_replicas(published, "usage", [ReplicaRecord(0, "a", state)])
    with pytest.raises(Refused, match=f"shard 0 on a is not verified .*its replica is {state or 'missing'}"):
        store.rollback(published, "usage", 1, "operator")
    assert pool.read_pool(published, "usage").current_epoch == 2


def test_rollback_to_an_epoch_that_never_was_is_named(published: str) -> None:
    with pytest.raises(ForeshardError, match="has no epoch 9"):
        store.rollback(published, "usage", 9, "operator")
