"""How many bytes a second may be copied in a pool: one rate for all of its copies, which outlives whoever copies.

A token bucket that is empty at the start and lends one chunk (the generic cell rate algorithm, ITU-T I.371): a chunk may begin
once the time of all chunks before it is paid for. So in no span of time do more bytes begin than the rate allows and one chunk.
The debt is a time in Postgres by its own clock: who is killed and started anew finds it there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from psycopg2 import errors

from foreshard.errors import ForeshardError, Refused
from foreshard.routing import database

# How long a wait goes without asking anew, so that another rate, or a stop, is noticed.
_ASK_SECONDS = 1.0


def set_rate(url: str, pool_id: str, bytes_per_second: float | None) -> None:
    """Sets the rate from now on, None for no limit; who waits feels it within a second.

    ForeshardError for a rate that is not above 0, Refused for a pool that is not registered.
    """
    if bytes_per_second is not None and not 0 < bytes_per_second < float("inf"):
        raise ForeshardError(f"a throttle must be above 0 bytes per second, not {bytes_per_second}; to stop copying, pause")
    try:
        database.query(url, "set_throttle", {"pool_id": pool_id, "bytes_per_second": bytes_per_second})
    except errors.ForeignKeyViolation:
        raise Refused(f"pool {pool_id} is not registered; run `foreshard init` first") from None


def read_rate(url: str, pool_id: str) -> float | None:
    """Bytes per second; None if there is no limit."""
    rows = database.query(url, "read_throttle", {"pool_id": pool_id})
    return rows[0]["bytes_per_second"] if rows else None


def reserve(url: str, pool_id: str, size: int) -> float:
    """Takes the time of `size` bytes if they may begin now, and returns 0; else takes nothing and returns how long to wait."""
    with database.transaction(url) as cursor:
        rows = database.run(cursor, "lock_throttle", {"pool_id": pool_id})
        if not rows or rows[0]["bytes_per_second"] is None:
            return 0.0
        seconds: float = database.run(cursor, "reserve_throttle", {"pool_id": pool_id, "bytes": size})[0]["seconds"]
        return seconds


def wait(url: str, pool_id: str, size: int, go_on: Callable[[], bool] = lambda: True) -> bool:
    """Waits until `size` bytes may begin and takes their time; False, with nothing taken, once `go_on` says so.

    `go_on` is asked before each try, about once a second.
    """
    while go_on():
        seconds = reserve(url, pool_id, size)
        if seconds == 0:
            return True
        time.sleep(min(seconds, _ASK_SECONDS))
    return False
