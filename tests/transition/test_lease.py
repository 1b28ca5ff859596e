"""Leases: one holder at a time, and the fence that stops a late one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from foreshard.errors import Refused
from foreshard.local.processes import wait_until
from foreshard.routing import database as control_plane
from foreshard.transition import lease as leases
from foreshard.transition.lease import Lease


def holds(url: str, lease: Lease) -> bool:
    try:
        with control_plane.transaction(url) as cursor:
            leases.check(cursor, lease)
    except Refused:
        return False
    return True


def test_a_held_lease_is_refused_with_its_holder_named(database: str) -> None:
    mine = leases.acquire(database, "usage_hourly", "one", 60)
    with pytest.raises(Refused, match=r"lease usage_hourly is held by one until \d{4}-"):
        leases.acquire(database, "usage_hourly", "two", 60)
    assert holds(database, mine)
    leases.acquire(database, "query_load", "two", 60)


def test_takeover_of_an_expired_lease_raises_the_fence_and_stops_the_old_holder(database: str) -> None:
    old = leases.acquire(database, "t", "one", 0)
    with control_plane.transaction(database) as cursor, pytest.raises(Refused, match="has expired"):
        leases.check(cursor, old)
    new = leases.acquire(database, "t", "two", 60)
    assert new.fence > old.fence
    assert not holds(database, old)
    with pytest.raises(Refused, match="one no longer holds lease t"):
        leases.renew(database, old, 60)
    leases.release(database, old)
    assert holds(database, new), "the late release of the old holder changes nothing"


def test_a_restarted_holder_stops_its_former_self(database: str) -> None:
    before = leases.acquire(database, "t", "one", 60)
    after = leases.acquire(database, "t", "one", 60)
    assert after.fence > before.fence
    assert not holds(database, before)
    assert holds(database, after)


def test_a_released_lease_is_free_and_its_fence_goes_on(database: str) -> None:
    first = leases.acquire(database, "t", "one", 60)
    leases.release(database, first)
    assert not holds(database, first)
    with pytest.raises(Refused, match="no longer holds"):
        leases.renew(database, first, 60)
    assert leases.acquire(database, "t", "two", 60).fence > first.fence


def test_of_concurrent_acquirers_one_gets_the_lease(database: str) -> None:
    acquirers = 8
    barrier = Barrier(acquirers)

    def attempt(number: int) -> int:
        barrier.wait()
        try:
            return leases.acquire(database, "t", f"holder {number}", 60).fence
        except Refused:
            return 0

    with ThreadPoolExecutor(acquirers) as executor:
        assert sorted(executor.map(attempt, range(acquirers))) == [0] * (acquirers - 1) + [1]


def test_a_takeover_waits_for_the_write_that_checked_the_fence(database: str) -> None:
    old = leases.acquire(database, "t", "one", 0.3)
    with ThreadPoolExecutor(1) as executor:
        with control_plane.transaction(database) as cursor:
            leases.check(cursor, old)
            wait_until(lambda: _expired(database), 10, "the lease to expire")
            takeover = executor.submit(leases.acquire, database, "t", "two", 60)
            wait_until(lambda: _someone_waits(database), 10, "the takeover to wait for the row")
            assert not takeover.done()
        assert takeover.result(10).fence > old.fence


def test_holding_renews_and_releases(database: str) -> None:
    with leases.held(database, "t", "one", 0.6) as lease:
        first = _expiry(database)
        wait_until(lambda: _expiry(database) > first, 10, "the lease to be renewed")
        assert holds(database, lease)
    assert not holds(database, lease)
    leases.acquire(database, "t", "two", 60)


def test_holding_ends_with_a_release_when_the_block_raises(database: str) -> None:
    with pytest.raises(ValueError, match="boom"), leases.held(database, "t", "one", 60):
        raise ValueError("boom")
    leases.acquire(database, "t", "two", 60)


def _expiry(url: str) -> object:
    return control_plane.query(url, "read_lease", {"name": "t"})[0]["expires_at"]


def _expired(url: str) -> bool:
    with control_plane.transaction(url) as cursor:
        cursor.execute("SELECT expires_at <= clock_timestamp() AS expired FROM lease")
        row = cursor.fetchone()
    return bool(row and row["expired"])


def _someone_waits(url: str) -> bool:
    with control_plane.transaction(url) as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        return cursor.fetchone() is not None
