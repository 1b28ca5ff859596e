"""Leases with a fence: one writer at a time, and a late one is stopped by the number it carries.

The lease's time decides who may begin; the fence, checked in the transaction that writes, decides who may finish. Times are
the database server's clock, so that the clocks of holders do not matter.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from psycopg2.extras import RealDictCursor

from foreshard.errors import ForeshardError, Refused
from foreshard.routing import database

_RETRY_SECONDS = 0.5
_blocks = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Lease:
    """What a holder shows with every write; `fence` grows with each acquisition of the name."""

    name: str
    holder: str
    fence: int


def acquire(url: str, name: str, holder: str, ttl_seconds: float) -> Lease:
    """Takes a lease that is free, expired or held under the same name; always raises its fence.

    Refused, naming the holder and when the lease expires, if another one holds it.
    """
    parameters = {"name": name, "holder": holder, "ttl_seconds": ttl_seconds}
    with database.transaction(url) as cursor:
        rows = database.run(cursor, "acquire_lease", parameters)
        if not rows:
            other = database.run(cursor, "read_lease", parameters)[0]
            raise Refused(
                f"lease {name} is held by {other['holder']} until {other['expires_at']:%Y-%m-%d %H:%M:%S %Z}; "
                "wait until then or stop that process"
            )
    return Lease(name, holder, rows[0]["fence"])


def renew(url: str, lease: Lease, ttl_seconds: float) -> None:
    """Prolongs the lease from now on; Refused if it was released or taken over."""
    if not database.query(url, "renew_lease", {**_parameters(lease), "ttl_seconds": ttl_seconds}):
        raise Refused(_lost(lease))


def release(url: str, lease: Lease) -> None:
    """Frees the lease at once; nothing happens if it was taken over."""
    database.query(url, "release_lease", _parameters(lease))


def check(cursor: RealDictCursor, lease: Lease) -> None:
    """Raises Refused unless the lease holds now; keeps it from being taken over until the cursor's transaction ends."""
    rows = database.run(cursor, "check_lease", _parameters(lease))
    if not rows:
        raise Refused(_lost(lease))
    if rows[0]["expired"]:
        raise Refused(f"lease {lease.name} of {lease.holder} has expired; nothing was written, acquire it again and start over")


@contextmanager
def held(url: str, name: str, holder: str, ttl_seconds: float, wait_seconds: float = 0.0) -> Iterator[Lease]:
    """Holds a lease for the block: renewed every third of its time in a background thread, released at the end.

    Waits up to `wait_seconds` for another holder, then is refused. A lease lost on the way does not interrupt the block:
    the write that shows it is refused.
    """
    lease = _acquire_within(url, name, holder, ttl_seconds, wait_seconds)
    ended = threading.Event()
    thread = threading.Thread(target=_keep, args=(url, lease, ttl_seconds, ended), name=f"lease {name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join()
        with suppress(ForeshardError):  # an unreachable server lets it expire; the block's own error matters more
            release(url, lease)


def process_name(actor: str) -> str:
    """A holder's name that no other process, and no other block of this one, has."""
    return f"{actor} on {socket.gethostname()}, process {os.getpid()}.{next(_blocks)}"


@contextmanager
def sole_writer(url: str, pool_id: str, what: str) -> Iterator[Lease]:
    """Holds the lease of a step that writes tables alone, waiting minutes for another process that has it."""
    with held(url, f"{pool_id}/{what}", process_name(what), ttl_seconds=60, wait_seconds=300) as lease:
        yield lease


def _acquire_within(url: str, name: str, holder: str, ttl_seconds: float, wait_seconds: float) -> Lease:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return acquire(url, name, holder, ttl_seconds)
        except Refused:
            if time.monotonic() >= deadline:
                raise
            time.sleep(min(_RETRY_SECONDS, wait_seconds))


def _keep(url: str, lease: Lease, ttl_seconds: float, ended: threading.Event) -> None:
    pause = ttl_seconds / 3
    while not ended.wait(pause):
        try:
            renew(url, lease, ttl_seconds)
            pause = ttl_seconds / 3
        except Refused:
            return
        except ForeshardError:  # the server is away for now
            pause = min(_RETRY_SECONDS, ttl_seconds / 3)


def _parameters(lease: Lease) -> dict[str, object]:
    return {"name": lease.name, "holder": lease.holder, "fence": lease.fence}


def _lost(lease: Lease) -> str:
    return f"{lease.holder} no longer holds lease {lease.name} (fence {lease.fence}); it was taken over, nothing was written"
