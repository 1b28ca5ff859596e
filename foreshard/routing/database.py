"""Connections, transactions, shipped statements and migrations of the control plane's Postgres."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn
from psycopg2.extras import RealDictCursor

from foreshard import resources
from foreshard.errors import ForeshardError

CONNECT_SECONDS = 10
Row = dict[str, Any]


def connect(url: str) -> Connection:
    """An open connection, not in autocommit; raises ForeshardError naming host and port, never the password."""
    where = address(url)
    options: dict[str, Any] = {"application_name": "foreshard", "connect_timeout": CONNECT_SECONDS}
    try:
        # What the URL says wins over these defaults.
        connection: Connection = psycopg2.connect(url, **{k: v for k, v in options.items() if k not in parse_dsn(url)})
    except psycopg2.OperationalError as error:
        raise ForeshardError(
            f"cannot connect to Postgres at {where}: {_reason(error)}; start it with `foreshard up` or correct postgres_url"
        ) from None
    return connection


def address(url: str) -> str:
    """`host:port` of a URL, of each of its hosts if it names several; raises ForeshardError if it is none.

    Its text is never shown, as it may hold a password.
    """
    try:
        parts = parse_dsn(url)
    except psycopg2.ProgrammingError:
        parts = {"port": "none"}
    host, port = parts.get("host", "localhost"), parts.get("port", "5432")
    # An unescaped @ in a password makes its rest a part of the host or of what follows.
    ports = [one or "5432" for one in port.split(",")]
    hosts = host.split(",")
    if "@" in host + parts.get("dbname", "") or not all(one.isdigit() for one in ports) or len(ports) not in (1, len(hosts)):
        raise ForeshardError(
            "postgres_url is not a Postgres URL; write postgresql://user@host:port/database, an @ within as %40"
        )
    return ", ".join(f"{one}:{ports[i % len(ports)]}" for i, one in enumerate(hosts))


@contextmanager
def transaction(url: str) -> Iterator[RealDictCursor]:
    """A cursor whose rows are dictionaries; commits at the end of the block, rolls back if it raises.

    A server lost on the way and a database without foreshard's tables raise ForeshardError.
    """
    connection = connect(url)
    try:
        with connection.cursor(cursor_factory=RealDictCursor) as cursor:
            yield cursor
        connection.commit()
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise ForeshardError(
            f"Postgres at {address(url)} broke off: {_reason(error)}; nothing is half-written, run the command again"
        ) from None
    except errors.UndefinedTable:
        raise ForeshardError(f"the database at {address(url)} has no foreshard tables; run `foreshard init`") from None
    except errors.UndefinedColumn:
        raise ForeshardError(f"the database at {address(url)} is of an older version; run `foreshard init`") from None
    finally:
        with suppress(psycopg2.Error):
            connection.close()  # rolls back what is not committed


def run(cursor: RealDictCursor, name: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """Executes the shipped statement `sql/<name>.sql` and returns its rows, none if it gives none."""
    cursor.execute(statement(name), parameters)
    return [dict(row) for row in cursor.fetchall()] if cursor.description else []


def query(url: str, name: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """One shipped statement in a transaction of its own."""
    with transaction(url) as cursor:
        return run(cursor, name, parameters)


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`; its parameters are written `%(x)s`."""
    return resources.text("sql", f"{name}.sql")


def migrate(url: str) -> list[str]:
    """Applies the migrations not yet applied, in order, in one transaction; returns their file names.

    Grants what each role may do as well, see missing_roles. Safe to repeat and to run from several processes at once. Raises
    ForeshardError if a migration was changed after it was applied, or if the database was migrated by a newer foreshard.
    """
    shipped = {name: resources.text("sql", "migrations", name) for name in resources.names("sql/migrations", ".sql")}
    with transaction(url) as cursor:
        run(cursor, "lock_migrations")
        run(cursor, "create_schema_migration")
        applied = {row["name"]: row["checksum"] for row in run(cursor, "list_migrations")}
        _check_history(applied, shipped)
        pending = [name for name in shipped if name not in applied]
        for name in pending:
            cursor.execute(shipped[name])
            run(cursor, "record_migration", {"name": name, "checksum": _checksum(shipped[name])})
        run(cursor, "grant_roles")
    return pending


def missing_roles(url: str) -> list[str]:
    """The roles that the server lacks because no migration was allowed to create them; docs/routing-store.md says what to do.

    Grants their rights to those that are there.
    """
    with transaction(url) as cursor:
        run(cursor, "lock_migrations")
        return [row["role_name"] for row in run(cursor, "grant_roles")]


def _check_history(applied: Mapping[str, str], shipped: Mapping[str, str]) -> None:
    for name, checksum in applied.items():
        if name not in shipped:
            raise ForeshardError(f"the database has migration {name}, which this version does not know; upgrade foreshard")
        if checksum != _checksum(shipped[name]):
            raise ForeshardError(
                f"migration {name} was changed after this database had applied it; restore the file and add a new migration"
            )
    if applied and any(name < max(applied) for name in shipped if name not in applied):
        raise ForeshardError("a migration numbered below those already applied was added; give it the next number")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _reason(error: psycopg2.Error) -> str:
    """The last line of a driver's message: libpq puts what went wrong there, and never the password."""
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return "the connection is closed"
    return lines[0].split("failed: ")[-1].removeprefix("FATAL:").strip().rstrip(".")
