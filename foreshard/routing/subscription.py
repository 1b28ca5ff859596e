"""One pool's epochs as they are published: LISTEN on a connection of its own, and the snapshot read over it."""

from __future__ import annotations

import selectors
import time
from contextlib import suppress

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extras import RealDictCursor

from foreshard.errors import ForeshardError
from foreshard.routing import database
from foreshard.routing.database import Row
from foreshard.routing.publication import channel
from foreshard.routing.snapshot import Snapshot, decode

_RECONNECT_SECONDS = 0.2
_STATEMENT_SECONDS = 10.0


def decoded(row: Row, pool_id: str) -> Snapshot:
    """The snapshot in a row of routing_epoch; raises ForeshardError if it is damaged or another one."""
    snapshot = decode(bytes(row["snapshot"]), row["checksum"])
    if (snapshot.pool_id, snapshot.epoch) != (pool_id, row["epoch"]):
        raise ForeshardError(
            f"the row of epoch {row['epoch']} of pool {pool_id} holds epoch {snapshot.epoch} of pool {snapshot.pool_id}: "
            "it was changed after publication"
        )
    return snapshot


class Subscription:
    """LISTENs to one pool's epochs. Also notices the epochs published while the connection was lost or not yet made."""

    def __init__(self, url: str, pool_id: str, after: int = 0) -> None:
        """Connects at the first `wait`; epochs up to `after` are not reported."""
        self._url = url
        self._pool_id = pool_id
        self._seen = after
        self._connection: Connection | None = None

    def wait(self, timeout: float) -> int | None:
        """The newest epoch not yet reported, waiting up to `timeout` seconds for one; None if there was none.

        A server that is away is asked again until the time is over; that raises nothing, as gateways go on with what they have.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = self._try(deadline)
            if found is not None and found > self._seen:
                self._seen = found
                return found
            if time.monotonic() >= deadline:
                return None

    def snapshot(self) -> Snapshot | None:
        """The current snapshot, read over the connection that listens; None before the first, or if the server is away.

        Raises ForeshardError if it is damaged.
        """
        if self._connection is None:
            return None
        try:
            with self._connection.cursor(cursor_factory=RealDictCursor) as cursor:
                rows = database.run(cursor, "read_current_snapshot", {"pool_id": self._pool_id})
        except psycopg2.Error:
            self.close()
            return None
        return decoded(rows[0], self._pool_id) if rows else None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, deadline: float) -> int | None:
        try:
            if self._connection is None:
                return self._listen()
            return self._notified(self._connection, max(0.0, deadline - time.monotonic()))
        except (psycopg2.Error, ForeshardError):
            self.close()
            time.sleep(max(0.0, min(_RECONNECT_SECONDS, deadline - time.monotonic())))
            return None

    def _listen(self) -> int | None:
        """Listens first and reads second, so that nothing falls between the two."""
        connection = database.KeptConnection(self._url, _STATEMENT_SECONDS).open()
        self._connection = connection
        connection.autocommit = True
        with connection.cursor() as cursor:
            name = sql.Identifier(channel(self._pool_id))
            cursor.execute(sql.SQL(database.statement("listen")).format(channel=name))
            cursor.execute(database.statement("read_current_epoch"), {"pool_id": self._pool_id})
            row = cursor.fetchone()
        return int(row[0]) if row else None

    @staticmethod
    def _notified(connection: Connection, timeout: float) -> int | None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.select(timeout)
        connection.poll()
        epochs = [int(notice.payload) for notice in connection.notifies]
        connection.notifies.clear()
        return max(epochs, default=None)
