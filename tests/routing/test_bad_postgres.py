"""A Postgres that is read-only, slow or of another version: each is one sentence, and nothing is half-written."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest

from foreshard.errors import ForeshardError, Refused
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.routing.snapshot import Snapshot


def with_option(url: str, option: str) -> str:
    """The same database, in sessions that have this setting."""
    return f"{url}?options=-c%20{quote(option)}"


def publish(url: str, snapshot: Snapshot) -> None:
    store.publish(url, replace(snapshot, epoch=2, parent=1), expected_epoch=1, published_by="test", reason="because")


def test_a_read_only_postgres_is_named_and_still_read(published: str, snapshot: Snapshot) -> None:
    standby = with_option(published, "default_transaction_read_only=on")
    with pytest.raises(ForeshardError, match=r"^Postgres at 127.0.0.1:\d+ is read-only, as a standby is; nothing was written"):
        publish(standby, snapshot)
    with pytest.raises(ForeshardError, match="is read-only"):
        store.register_gateway(standby, "usage", "g", 30)
    assert store.current(standby, "usage") == snapshot


def test_a_postgres_that_is_too_slow_is_named_and_the_publication_leaves_nothing(published: str, snapshot: Snapshot) -> None:
    with control_plane.transaction(published) as cursor:
        control_plane.run(cursor, "lock_pool", {"pool_id": "usage"})
        with pytest.raises(ForeshardError, match=r"^Postgres at 127.0.0.1:\d+ is too slow: [^\n]*statement timeout"):
            publish(with_option(published, "statement_timeout=200"), snapshot)
    assert [e.epoch for e in store.history(published, "usage")] == [1]
    publish(published, snapshot)
    assert pool.read_pool(published, "usage").current_epoch == 2


def test_a_kept_connection_survives_what_went_wrong_with_it(published: str, snapshot: Snapshot) -> None:
    kept = control_plane.KeptConnection(published, statement_seconds=0.2)
    assert store.current(kept, "usage") == snapshot
    first = kept.open()
    assert store.current(kept, "usage") == snapshot
    assert kept.open() is first
    with control_plane.transaction(published) as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (first.info.backend_pid,))
    with pytest.raises(ForeshardError, match="broke off"):
        store.current(kept, "usage")
    assert store.current(kept, "usage") == snapshot, "and the next one is made anew"
    with control_plane.transaction(published) as cursor:
        control_plane.run(cursor, "lock_pool", {"pool_id": "usage"})
        with pytest.raises(ForeshardError, match="is too slow"):
            control_plane.query(kept, "lock_pool", {"pool_id": "usage"})
    assert store.current(kept, "usage") == snapshot
    kept.close()


def test_the_kept_connections_limit_is_on_each_of_its_connections(published: str) -> None:
    kept = control_plane.KeptConnection(published, statement_seconds=7)
    for _ in range(2):
        with control_plane.transaction(kept) as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == {"statement_timeout": "7s"}
        kept.close()


def test_an_older_database_is_named(published: str) -> None:
    with control_plane.transaction(published) as cursor:
        cursor.execute("ALTER TABLE routing_epoch DROP COLUMN reason")
    with pytest.raises(ForeshardError, match="is of an older version; run `foreshard init`"):
        store.history(published, "usage")


def test_a_refusal_is_not_repeated_in_vain(published: str) -> None:
    with control_plane.transaction(published) as cursor:
        cursor.execute("CREATE USER nobody_at_all")
    with pytest.raises(Refused, match=r"user nobody_at_all may not do this in Postgres at .*grant it the role of its job"):
        store.current(published.replace("postgres@", "nobody_at_all@"), "usage")
