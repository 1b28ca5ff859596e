"""Every migration may be killed, repeated, and begun by two processes at once: the schema is then that of an unbroken run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from foreshard import resources
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.local.processes import wait_until
from foreshard.routing import database as control_plane

MIGRATIONS = resources.names("sql/migrations", ".sql")
_MIGRATE = "import sys; from foreshard.routing import database; print(database.migrate(sys.argv[1]))"


def schema(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Columns, constraints, indexes and rights: all that migrations make."""
    parts = {
        "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'public' ORDER BY 1, 2",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2, 3",
        "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        "rights": "SELECT table_name, grantee, privilege_type FROM information_schema.role_table_grants"
        " WHERE table_schema = 'public' ORDER BY 1, 2, 3",
        "columns' rights": "SELECT table_name, column_name, grantee, privilege_type FROM information_schema.column_privileges"
        " WHERE table_schema = 'public' ORDER BY 1, 2, 3, 4",
        "migrations": "SELECT name, checksum FROM schema_migration ORDER BY 1",
    }
    with control_plane.transaction(url) as cursor:
        found = {}
        for part, query in parts.items():
            cursor.execute(query)
            found[part] = [tuple(row.values()) for row in cursor.fetchall()]
    return found


@pytest.fixture(scope="module")
def unbroken(postgres: EmbeddedPostgres) -> dict[str, list[tuple[object, ...]]]:
    url = postgres.create_database("migrated_unbroken")
    control_plane.migrate(url)
    return schema(url)


@pytest.fixture
def before(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> str:
    """A database that has the migrations before one of them."""
    kind, number = request.param
    url = postgres.create_database(f"migrated_{kind}_{number}")
    with control_plane.transaction(url) as cursor:
        control_plane.run(cursor, "create_schema_migration")
        for name in MIGRATIONS[:number]:
            text = resources.text("sql", "migrations", name)
            cursor.execute(text)
            control_plane.run(cursor, "record_migration", {"name": name, "checksum": control_plane.checksum(text)})
    return url


def every(kind: str) -> list[object]:
    return [pytest.param((kind, number), id=name[:4]) for number, name in enumerate(MIGRATIONS)]


def waiting(url: str) -> int:
    """How many sessions of the database wait for a lock."""
    with control_plane.transaction(url) as cursor:
        cursor.execute(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(cursor.fetchall()[0]["n"])


@pytest.mark.parametrize("before", every("killed"), indirect=True)
def test_a_killed_migration_leaves_nothing_and_is_repeated(before: str, unbroken: object) -> None:
    untouched = schema(before)
    blocker = control_plane.connect(before)
    with blocker.cursor() as cursor:
        # The migration has been carried out, and waits to be recorded.
        cursor.execute("LOCK TABLE schema_migration IN SHARE MODE")
        child = subprocess.Popen([sys.executable, "-c", _MIGRATE, before], stdout=subprocess.DEVNULL)
        wait_until(lambda: waiting(before) == 1, 60, "the migration to be carried out")
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    blocker.close()
    with control_plane.transaction(before) as cursor:  # behind what the killed process still had under way
        control_plane.run(cursor, "lock_migrations")
    assert schema(before) == untouched
    control_plane.migrate(before)
    assert schema(before) == unbroken
    assert control_plane.migrate(before) == []
    assert schema(before) == unbroken


@pytest.mark.parametrize("before", every("twice"), indirect=True)
def test_of_two_processes_one_migrates(before: str, unbroken: object) -> None:
    blocker = control_plane.connect(before)
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE schema_migration IN SHARE MODE")
        children = [
            subprocess.Popen([sys.executable, "-c", _MIGRATE, before], stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        wait_until(lambda: waiting(before) == 2, 60, "both to be under way")
    blocker.close()
    said = [child.communicate()[0].strip() for child in children]
    number = len(control_plane.query(before, "list_migrations"))
    assert [child.returncode for child in children] == [0, 0]
    assert "[]" in said, "one found nothing to do"
    assert (number, schema(before)) == (len(MIGRATIONS), unbroken)


def test_the_routing_stores_migration_run_again_by_hand_changes_nothing(database: str, unbroken: object) -> None:
    with control_plane.transaction(database) as cursor:
        cursor.execute(resources.text("sql", "migrations", "0006_routing_store.sql"))
    assert schema(database) == unbroken
