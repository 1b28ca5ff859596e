"""Gateways and nodes as the control plane sees them: notification, acknowledgement, heartbeats."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from foreshard.errors import ForeshardError
from foreshard.routing import database as control_plane
from foreshard.routing import store
from foreshard.routing.publication import channel
from foreshard.routing.snapshot import Snapshot
from foreshard.routing.subscription import Subscription


def publish(url: str, snapshot: Snapshot, number: int) -> None:
    new = replace(snapshot, epoch=number, parent=number - 1)
    store.publish(url, new, expected_epoch=number - 1, published_by="test", reason="because")


def test_a_waiting_gateway_hears_of_a_new_epoch(published: str, snapshot: Snapshot) -> None:
    with Subscription(published, "usage") as subscription, ThreadPoolExecutor(1) as executor:
        assert subscription.wait(0) == 1, "what was published before is reported first"
        assert subscription.wait(0) is None
        waiting = executor.submit(subscription.wait, 30)
        publish(published, snapshot, 2)
        assert waiting.result() == 2


def test_the_newest_of_several_epochs_is_reported_once(published: str, snapshot: Snapshot) -> None:
    with Subscription(published, "usage", after=1) as subscription:
        assert subscription.wait(0) is None
        publish(published, snapshot, 2)
        publish(published, snapshot, 3)
        heard = [subscription.wait(5)]
        if heard == [2]:  # both came, but not yet in one read
            heard.append(subscription.wait(5))
        assert heard[-1] == 3
        assert subscription.wait(0) is None


def test_an_epoch_published_while_the_connection_was_lost_is_not_missed(published: str, snapshot: Snapshot) -> None:
    with Subscription(published, "usage", after=1) as subscription:
        assert subscription.wait(0) is None
        with control_plane.transaction(published) as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query ILIKE '%%current_epoch%%' AND pid <> pg_backend_pid()"
            )
            assert cursor.rowcount == 1
        publish(published, snapshot, 2)
        assert subscription.wait(10) == 2


def test_a_server_that_is_away_raises_nothing() -> None:
    subscription = Subscription("postgresql://postgres@127.0.0.1:1/none", "usage")
    assert subscription.wait(0) is None


@pytest.mark.parametrize("one", ["usage", "Usage", "usage-a", "usage a", "ü", "x" * 200])
def test_channels_are_valid_and_distinct(published: str, one: str) -> None:
    with control_plane.transaction(published) as cursor:
        control_plane.run(cursor, "notify_epoch", {"channel": channel(one), "payload": "1"})
    others = ["usage", "Usage", "usage-a", "usage a", "usage_a", "ü", "x" * 200, "x" * 201]
    assert [channel(other) for other in others].count(channel(one)) == 1


def test_a_gateway_with_a_live_lease_holds_back_until_it_acknowledges(published: str) -> None:
    store.register_gateway(published, "usage", "g1", 60)
    store.register_gateway(published, "usage", "g2", 60)
    store.register_gateway(published, "usage", "gone", 0)
    assert store.unacknowledged(published, "usage", 1) == ["g1", "g2"]
    store.acknowledge(published, "usage", "g1", 1)
    store.acknowledge(published, "usage", "g1", 1)
    assert store.unacknowledged(published, "usage", 1) == ["g2"]
    store.acknowledge(published, "usage", "g2", 2)
    assert store.unacknowledged(published, "usage", 1) == []
    assert store.unacknowledged(published, "usage", 2) == ["g1"]
    store.register_gateway(published, "usage", "gone", 60)
    assert store.unacknowledged(published, "usage", 2) == ["g1", "gone"]


def test_an_unknown_gateway_or_pool_is_named(published: str) -> None:
    with pytest.raises(ForeshardError, match="gateway nobody is not registered"):
        store.acknowledge(published, "usage", "nobody", 1)
    with pytest.raises(ForeshardError, match="pool other is not registered"):
        store.register_gateway(published, "other", "g", 1)


def test_heartbeats_keep_the_latest_report(published: str) -> None:
    store.write_heartbeat(published, "usage", "a", 1.0, {0: 16})
    store.write_heartbeat(published, "usage", "a", 2.5, {0: 17, 3: 16})
    beat = store.read_heartbeats(published, "usage")["a"]
    assert (beat.load, beat.shards) == (2.5, {0: 17, 3: 16})
    assert (beat.capacity, beat.incarnation) == (10.0, "")
    store.write_heartbeat(published, "usage", "a", 2.5, {}, capacity=7.0, incarnation="second start")
    beat = store.read_heartbeats(published, "usage")["a"]
    assert (beat.capacity, beat.incarnation) == (7.0, "second start")
    assert 0 <= beat.age_seconds < 60
    with pytest.raises(ForeshardError, match="has no node z"):
        store.write_heartbeat(published, "usage", "z", 1.0, {})
    with pytest.raises(ForeshardError, match="load nan"):
        store.write_heartbeat(published, "usage", "a", float("nan"), {})
