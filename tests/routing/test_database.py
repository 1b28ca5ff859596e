"""Connections, transactions, migrations and the registered pool."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from foreshard import resources
from foreshard.errors import ForeshardError, Refused
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.model import Node, NodeState, Policy
from foreshard.routing import database as control_plane
from foreshard.routing import pool
from foreshard.settings import NodeSettings, Settings

MIGRATIONS = resources.names("sql/migrations", ".sql")


def test_migrating_again_applies_nothing(database: str) -> None:
    assert control_plane.migrate(database) == []


def test_concurrent_migrations_apply_each_once(postgres: EmbeddedPostgres) -> None:
    url = postgres.create_database("migrated_at_once")
    barrier = Barrier(4)

    def migrate(_: int) -> list[str]:
        barrier.wait()
        return control_plane.migrate(url)

    with ThreadPoolExecutor(4) as executor:
        applied = sorted(executor.map(migrate, range(4)))
    assert applied == [[], [], [], MIGRATIONS]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("UPDATE schema_migration SET checksum = 'x'", "0001_control_plane.sql was changed after"),
        ("INSERT INTO schema_migration VALUES ('9999_future.sql', 'x')", "9999_future.sql, which this version does not know"),
    ],
)
def test_a_history_that_does_not_match_is_refused(database: str, damage: str, sentence: str) -> None:
    with control_plane.transaction(database) as cursor:
        cursor.execute(damage)
    with pytest.raises(ForeshardError, match=sentence):
        control_plane.migrate(database)


def test_a_transaction_that_raises_leaves_nothing(registered: str) -> None:
    def delete_and_fail() -> None:
        with control_plane.transaction(registered) as cursor:
            cursor.execute("DELETE FROM node")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        delete_and_fail()
    assert len(pool.read_nodes(registered, "usage")) == 3


def test_a_server_that_is_down_is_named_without_the_password() -> None:
    with pytest.raises(ForeshardError) as raised:
        control_plane.connect("postgresql://user:s3cret@127.0.0.1:1/name")
    assert re.match(r"cannot connect to Postgres at 127.0.0.1:1: .*refused.*; start it with `foreshard up`", str(raised.value))
    assert "s3cret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["s3cret", "postgresql://u:s3cret@h:p:q/x", "postgresql://u:pa@s3cret/x@h/y", "mysql://u:s3cret@h/x"]
)
def test_what_is_no_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ForeshardError, match="postgres_url is not a Postgres URL") as raised:
        control_plane.connect(url)
    assert "s3cret" not in str(raised.value)


def test_a_missing_database_is_named(postgres_url: str) -> None:
    with pytest.raises(ForeshardError, match='database "none" does not exist'):
        control_plane.connect(postgres_url.replace("/foreshard", "/none"))


def test_a_database_without_tables_says_what_to_run(postgres: EmbeddedPostgres) -> None:
    url = postgres.create_database("empty")
    with pytest.raises(ForeshardError, match="has no foreshard tables; run `foreshard init`"):
        pool.read_pool(url, "usage")


def test_a_connection_that_is_cut_is_one_sentence(database: str) -> None:
    def cut_oneself_off() -> None:
        with control_plane.transaction(database) as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(ForeshardError, match=r"^Postgres at 127.0.0.1:\d+ broke off: [^\n]*; nothing is half-written"):
        cut_oneself_off()


def test_every_shipped_statement_is_used_and_every_used_one_ships() -> None:
    shipped = {name.removesuffix(".sql") for name in resources.names("sql", ".sql")}
    folders = [resources.folder(name) for name in ("foreshard", "spark_jobs", "dags", "plugins")]
    text = "".join(path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py"))
    called = set(re.findall(r'(?:statement\(|(?:run|query)\(\s*[\w.()]+,\s*)"(\w+)"', text))
    assert called <= shipped
    assert {name for name in shipped if f'"{name}"' not in text} == set()


def test_registering_again_updates_declarations_and_keeps_what_runs(registered: str, pool_settings: Settings) -> None:
    pool.set_node_url(registered, "usage", "a", "http://127.0.0.1:1")
    pool.set_node_state(registered, "usage", "b", NodeState.DRAINING)
    changed = replace(
        pool_settings,
        policy=Policy(min_full_replicas=1, hot_share=0.5),
        nodes=(NodeSettings("a", 11.0, zone="z"), NodeSettings("d", 1.0)),
    )
    registration = pool.register(registered, changed)
    assert registration == pool.read_pool(registered, "usage")
    assert (registration.policy, registration.slot_bits, registration.current_epoch) == (changed.policy, 2, 0)
    assert pool.read_nodes(registered, "usage") == (
        Node("a", 11.0, url="http://127.0.0.1:1", zone="z"),
        Node("b", 10.0, NodeState.DRAINING),
        Node("c", 20.0, url="http://c"),
        Node("d", 1.0),
    )


def test_changed_slot_bits_are_refused_and_nothing_is_written(registered: str, pool_settings: Settings) -> None:
    with pytest.raises(Refused, match="has slot_bits 2, not 3"):
        pool.register(registered, replace(pool_settings, slot_bits=3, nodes=(NodeSettings("new", 1.0),)))
    assert [node.node_id for node in pool.read_nodes(registered, "usage")] == ["a", "b", "c"]


def test_an_unknown_pool_or_node_is_named(registered: str) -> None:
    with pytest.raises(ForeshardError, match="pool other is not registered"):
        pool.read_pool(registered, "other")
    with pytest.raises(ForeshardError, match="pool usage has no node z"):
        pool.set_node_state(registered, "usage", "z", NodeState.DEAD)
    with pytest.raises(ForeshardError, match="pool usage has no node z"):
        pool.set_node_url(registered, "usage", "z", "")
