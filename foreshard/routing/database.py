"""Connections, transactions, shipped statements and migrations of the control plane's Postgres."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn
from psycopg2.extras import RealDictCursor

from foreshard import resources
from foreshard.errors import ForeshardError, Refused

CONNECT_SECONDS = 10
# From this migration on the database itself knows what each role may do.
_FIRST_WITH_ROLES = "0006_routing_store.sql"
Row = dict[str, Any]


def connect(url: str, silence_milliseconds: int = 0) -> Connection:
    """An open connection, not in autocommit; raises ForeshardError naming host and port, never the password.

    `silence_milliseconds`: how long a server may leave what was sent to it unconfirmed; 0: as long as the system allows.
    """
    where = address(url)
    options: dict[str, Any] = {"application_name": "foreshard", "connect_timeout": CONNECT_SECONDS}
    if silence_milliseconds:
        options |= {
            "tcp_user_timeout": silence_milliseconds,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        }
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


def create(url: str, name: str) -> None:
    """Creates the database if it is missing; `url` is that of another one on the same server."""
    connection = connect(url)
    try:
        connection.autocommit = True  # CREATE DATABASE refuses to run inside a transaction
        with connection.cursor() as cursor:
            cursor.execute(statement("find_database"), {"name": name})
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL(statement("create_database")).format(name=sql.Identifier(name)))
    finally:
        connection.close()


class ReadOnly(ForeshardError):
    """Postgres takes no writes, as a standby does; it still answers."""


class KeptConnection:
    """One connection for many transactions, for a process that asks often: made at the first, and anew after one failed.

    Not for two threads at once. A statement that takes longer than `statement_seconds` fails, and a server that falls silent
    is given up after about as long, so that whoever asks is never stuck.
    """

    def __init__(self, url: str, statement_seconds: float) -> None:
        self.url = url
        self._milliseconds = int(1000 * statement_seconds)
        self._connection: Connection | None = None

    def open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            made = connect(self.url, silence_milliseconds=self._milliseconds)
            # By a statement: a pooler between refuses it among the connection's parameters.
            with made.cursor() as cursor:
                cursor.execute(statement("set_statement_timeout"), {"milliseconds": str(self._milliseconds)})
            made.commit()
            self._connection = made
        return self._connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.close()  # rolls back what is not committed


@contextmanager
def transaction(source: str | KeptConnection) -> Iterator[RealDictCursor]:
    """A cursor whose rows are dictionaries; commits at the end of the block, rolls back if it raises.

    What Postgres or the network does wrong raises ForeshardError in one sentence: a server that is lost, slow or read-only, a
    database without foreshard's tables; Refused if the user lacks the role for it.
    """
    is_kept = isinstance(source, KeptConnection)
    url = source.url if isinstance(source, KeptConnection) else source
    with told(url):
        connection = source.open() if isinstance(source, KeptConnection) else connect(source)
        try:
            with connection.cursor(cursor_factory=RealDictCursor) as cursor:
                yield cursor
            connection.commit()
        except BaseException:
            is_kept = False
            raise
        finally:
            if not is_kept:
                with suppress(psycopg2.Error):
                    connection.close()  # rolls back what is not committed


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turns what Postgres and its driver raise within the block into ForeshardError, in one sentence."""
    try:
        yield
    except errors.QueryCanceled as error:
        raise ForeshardError(
            f"Postgres at {address(url)} is too slow: {_reason(error)}; nothing is half-written, try again"
        ) from None
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise ForeshardError(
            f"Postgres at {address(url)} broke off: {_reason(error)}; nothing is half-written, run the command again"
        ) from None
    except errors.ReadOnlySqlTransaction:
        raise ReadOnly(
            f"Postgres at {address(url)} is read-only, as a standby is; nothing was written, wait for the failover or let "
            "postgres_url name the primary"
        ) from None
    except errors.InsufficientPrivilege as error:
        user = parse_dsn(url).get("user", "")
        raise Refused(
            f"user {user} may not do this in Postgres at {address(url)}: {_reason(error)}; grant it the role of its job, see "
            "docs/routing-store.md"
        ) from None
    except errors.UndefinedTable:
        raise ForeshardError(f"the database at {address(url)} has no foreshard tables; run `foreshard init`") from None
    except errors.UndefinedColumn:
        raise ForeshardError(f"the database at {address(url)} is of an older version; run `foreshard init`") from None


def run(cursor: RealDictCursor, name: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """Executes the shipped statement `sql/<name>.sql` and returns its rows, none if it gives none."""
    cursor.execute(statement(name), parameters)
    return [dict(row) for row in cursor.fetchall()] if cursor.description else []


def query(source: str | KeptConnection, name: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """One shipped statement in a transaction of its own."""
    with transaction(source) as cursor:
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
            run(cursor, "record_migration", {"name": name, "checksum": checksum(shipped[name])})
        if _FIRST_WITH_ROLES in shipped:
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
    for name, recorded in applied.items():
        if name not in shipped:
            raise ForeshardError(f"the database has migration {name}, which this version does not know; upgrade foreshard")
        if recorded != checksum(shipped[name]):
            raise ForeshardError(
                f"migration {name} was changed after this database had applied it; restore the file and add a new migration"
            )
    if applied and any(name < max(applied) for name in shipped if name not in applied):
        raise ForeshardError("a migration numbered below those already applied was added; give it the next number")


def checksum(text: str) -> str:
    """What a migration's text is recognised by later."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _reason(error: psycopg2.Error) -> str:
    """The last line of a driver's message: libpq puts what went wrong there, and never the password."""
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return "the connection is closed"
    return lines[0].split("failed: ")[-1].removeprefix("FATAL:").strip().rstrip(".")
