"""Which epochs keep their content, and what the history says of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foreshard.errors import Refused
from foreshard.routing import database as control_plane
from foreshard.routing import store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.upkeep.old_epochs import remove_old_epochs
from foreshard.upkeep.upkeep_settings import RetentionSettings

LAST = 8
BECAUSE = "retention keeps the newest 3 epochs and those of 30 days"


@pytest.fixture
def settings(pool_settings: Settings) -> Settings:
    return replace(pool_settings, retention=RetentionSettings(epochs=3, epoch_days=30))


@pytest.fixture
def aged(registered: str, snapshot: Snapshot) -> str:
    """Eight epochs; all but the last one are forty days old."""
    for number in range(1, LAST + 1):
        new = replace(snapshot, epoch=number, parent=number - 1)
        store.publish(registered, new, expected_epoch=number - 1, published_by="test", reason=f"epoch {number}")
    age(registered, "epoch < 8")
    return registered


def age(url: str, which: str) -> None:
    with control_plane.transaction(url) as cursor:
        cursor.execute(f"UPDATE routing_epoch SET published_at = clock_timestamp() - interval '40 days' WHERE {which}")


def with_content(url: str) -> list[int]:
    return sorted(e.epoch for e in store.history(url, "usage") if e.removed_at is None)


def test_the_newest_stay_and_the_history_says_what_was_removed(aged: str, settings: Settings, snapshot: Snapshot) -> None:
    assert remove_old_epochs(settings, aged) == f"content of 5 epochs removed, 1 to 5: {BECAUSE}"
    assert remove_old_epochs(settings, aged) == "no epoch is past its time"
    history = store.history(aged, "usage")
    assert [(e.epoch, e.parent, e.reason) for e in history] == [(n, n - 1, f"epoch {n}") for n in range(LAST, 0, -1)]
    assert {e.epoch: e.removed_because for e in history if e.removed_at} == dict.fromkeys(range(1, 6), BECAUSE)
    assert store.epoch(aged, "usage", 6) == replace(snapshot, epoch=6, parent=5)
    with pytest.raises(Refused, match="the content of epoch 5 of pool usage was removed: retention keeps"):
        store.rollback(aged, "usage", 5, "operator")
    with control_plane.transaction(aged) as cursor:
        cursor.execute("SELECT DISTINCT epoch FROM routing_entry ORDER BY epoch")
        assert [row["epoch"] for row in cursor.fetchall()] == [6, 7, 8]
    new = replace(snapshot, epoch=9, parent=8)
    store.publish(aged, new, expected_epoch=8, published_by="test", reason="and it goes on")


def test_young_ones_stay(aged: str, settings: Settings) -> None:
    with control_plane.transaction(aged) as cursor:
        cursor.execute("UPDATE routing_epoch SET published_at = clock_timestamp() WHERE epoch = 2")
    remove_old_epochs(settings, aged)
    assert with_content(aged) == [2, 6, 7, 8]


@pytest.mark.parametrize(("acknowledged", "kept"), [(4, [4, 5, 6, 7, 8]), (7, [6, 7, 8]), (None, list(range(1, LAST + 1)))])
def test_what_a_gateway_with_a_lease_may_route_by_stays(
    aged: str, settings: Settings, acknowledged: int | None, kept: list[int]
) -> None:
    for gateway, epoch, seconds in (("ahead", 8, 60.0), ("behind", acknowledged, 60.0), ("gone", 1, 0.0)):
        store.register_gateway(aged, "usage", gateway, seconds)
        if epoch is not None:
            store.acknowledge(aged, "usage", gateway, epoch)
    remove_old_epochs(settings, aged)
    assert with_content(aged) == kept


@pytest.mark.parametrize(("state", "kept"), [("running", [3, 6, 7, 8]), ("done", [6, 7, 8])])
def test_what_an_open_plan_goes_back_to_stays(aged: str, settings: Settings, state: str, kept: list[int]) -> None:
    with control_plane.transaction(aged) as cursor:
        cursor.execute(
            "INSERT INTO plan (pool_id, plan_id, base_epoch, input_digest, state, summary, document)"
            " VALUES ('usage', 'p', 3, '', %s, '', '{}')",
            (state,),
        )
    remove_old_epochs(settings, aged)
    assert with_content(aged) == kept


@pytest.mark.parametrize("epochs", [0, 1])
def test_the_current_epoch_and_the_one_before_stay_whatever_the_settings(aged: str, settings: Settings, epochs: int) -> None:
    age(aged, "true")
    remove_old_epochs(replace(settings, retention=RetentionSettings(epochs=epochs, epoch_days=1)), aged)
    assert with_content(aged) == [7, 8]


def test_without_days_all_are_kept(aged: str, settings: Settings) -> None:
    assert remove_old_epochs(replace(settings, retention=RetentionSettings(epoch_days=0)), aged) == "all epochs are kept"
    assert with_content(aged) == list(range(1, LAST + 1))


def test_gateways_long_gone_and_overtaken_acknowledgements_are_forgotten(aged: str, settings: Settings) -> None:
    store.register_gateway(aged, "usage", "here", 60)
    store.register_gateway(aged, "usage", "gone", 0)
    for epoch in (6, 7, 8):
        store.acknowledge(aged, "usage", "here", epoch)
    with control_plane.transaction(aged) as cursor:
        cursor.execute("UPDATE gateway SET lease_expires_at = clock_timestamp() - interval '31 days' WHERE gateway_id = 'gone'")
        cursor.execute("UPDATE gateway_ack SET acknowledged_at = clock_timestamp() - interval '31 days' WHERE epoch < 8")
    assert remove_old_epochs(settings, aged).endswith("; 1 gateways forgotten that are long gone")
    assert store.unacknowledged(aged, "usage", 8) == []
    with control_plane.transaction(aged) as cursor:
        cursor.execute("SELECT gateway_id, epoch FROM gateway_ack")
        assert [tuple(row.values()) for row in cursor.fetchall()] == [("here", 8)]
