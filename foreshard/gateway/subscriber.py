"""Follows the published epochs: LISTEN, polling, the last-known-good file, acknowledgements and the gateway's lease.

With Postgres gone the router goes on with what it holds; `staleness_seconds` says for how long nothing newer could be heard of.
"""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg2

from foreshard.errors import ForeshardError
from foreshard.gateway import last_known_good
from foreshard.gateway.router import Router
from foreshard.learning.correction import Correction
from foreshard.model import NodeState
from foreshard.routing import database, pool, store
from foreshard.routing.corrections import correction_of
from foreshard.routing.database import KeptConnection, ReadOnly
from foreshard.routing.subscription import Subscription

POLL_SECONDS = 3.0
LEASE_SECONDS = 30.0
# After which a slow Postgres counts as one that is gone.
STATEMENT_SECONDS = 5.0
_DRAIN_POLL_SECONDS = 0.1
_REST_SECONDS = 0.3


class Subscriber:
    """One background thread that keeps a router current, and one that listens.

    `url` is called for each attempt, since an embedded server may come back on another port; it may raise ForeshardError.
    """

    def __init__(
        self,
        router: Router,
        url: Callable[[], str],
        pool_id: str,
        gateway_id: str,
        file: Path,
        *,
        poll_seconds: float = POLL_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        report: Callable[[str], None] = lambda sentence: print(sentence, file=sys.stderr, flush=True),
        each_turn: Callable[[str], None] = lambda url: None,
    ) -> None:
        """`each_turn` is called with the URL at the end of each turn that heard Postgres, and once at the stop."""
        self._router, self._url, self._pool_id, self._gateway_id = router, url, pool_id, gateway_id
        self._file = file
        self._poll_seconds, self._lease_seconds = poll_seconds, lease_seconds
        self._report, self._each_turn = report, each_turn
        self.desired_nodes: int | None = None  # of the pool, as last heard
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._asked = False  # to look at once
        self._look_at = math.inf  # after an adopted epoch
        self._heard_at = time.monotonic()
        self._acknowledged = 0
        self._kept_epoch = 0  # of the file
        self._corrections: dict[str, Correction] = {}  # as read at _heard_at
        self._problem = ""
        self._kept: KeptConnection | None = None
        self._threads = [
            threading.Thread(target=self._follow, name="routing-follow", daemon=True),
            threading.Thread(target=self._listen, name="routing-listen", daemon=True),
        ]

    def start(self) -> None:
        """Adopts the last-known-good file, then what is published if Postgres answers, then follows in the background."""
        try:
            kept = last_known_good.load(self._file, self._pool_id)
            if kept is not None and self._router.adopt(kept):
                self._kept_epoch = kept.epoch
        except ForeshardError as error:
            self._report(str(error))
        if self._router.epoch:
            # There is something to route by: a Postgres that does not answer must not hold up the start.
            self.poke()
        else:
            self._turn()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stops following and gives the lease up, so that no transition waits for a gateway that is gone."""
        self._stopping.set()
        self.poke()
        for thread in self._threads:
            thread.join(timeout=5)
        with suppress(ForeshardError):
            self._each_turn(self._url())
        with suppress(ForeshardError):
            store.register_gateway(self._url(), self._pool_id, self._gateway_id, 0.0)
        self._close()

    def poke(self) -> None:
        """Someone saw a newer epoch: look now instead of at the next poll."""
        self._asked = True
        self._wake.set()

    @property
    def staleness_seconds(self) -> float:
        """Seconds since Postgres last confirmed what is current."""
        return time.monotonic() - self._heard_at

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self._pause()
            if not self._stopping.is_set():
                self._turn()

    def _pause(self) -> None:
        """Until the next poll, or somebody asks, or the moment when an epoch is drained that is still to be acknowledged."""
        until = time.monotonic() + self._poll_seconds
        while not self._asked and (left := min(until, self._look_at) - time.monotonic()) > 0:
            epoch = self._router.epoch
            owes = self._acknowledged < epoch and not self._problem and self._look_at == math.inf
            if owes and self._router.is_drained(epoch):
                break
            if self._wake.wait(min(left, _DRAIN_POLL_SECONDS) if owes else left):
                self._wake.clear()
        self._asked, self._look_at = False, math.inf

    def _turn(self) -> None:
        try:
            self._keep()  # what was adopted over the other connection, whether or not Postgres is still there
            self._refresh(self._connection())
        except (ForeshardError, psycopg2.Error, OSError) as error:
            sentence = " ".join(str(error).split())
            if sentence != self._problem:
                self._report(f"gateway {self._gateway_id} keeps epoch {self._router.epoch}: {sentence}")
            self._problem = sentence
            self._fade_corrections()
            return
        if self._problem:
            self._report(f"gateway {self._gateway_id} hears Postgres again and is at epoch {self._router.epoch}")
        self._problem = ""

    def _connection(self) -> KeptConnection:
        """The one that is kept; a new one if the server has come back at another address."""
        url = self._url()
        if self._kept is None or self._kept.url != url:
            self._close()
            self._kept = KeptConnection(url, STATEMENT_SECONDS)
        return self._kept

    def _close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def _refresh(self, postgres: KeptConnection) -> None:
        unwritten = self._renew(postgres)
        # Only the number is read at each poll; a snapshot may be large.
        heard = pool.read_pool(postgres, self._pool_id)
        self.desired_nodes = heard.desired_nodes
        if heard.current_epoch > self._router.epoch:
            snapshot = store.current(postgres, self._pool_id)
            if snapshot is not None:
                self._router.adopt(snapshot)
        self._keep()
        for row in database.query(postgres, "observe_nodes", {"pool_id": self._pool_id}):
            applied = {int(shard): int(version) for shard, version in (row["shards"] or {}).items()}
            node_id, state, correction = row["node_id"], NodeState(row["state"]), correction_of(row)
            factor = correction.now() if correction else None
            self._router.observe(node_id, url=row["url"], state=state, applied=applied, correction=factor)
            if correction:
                self._corrections[node_id] = correction
        self._refuse_an_older(heard.current_epoch)
        self._heard_at = time.monotonic()
        if unwritten is not None:
            raise unwritten
        epoch = self._router.epoch
        # Old copies go once every gateway has acknowledged: so only when no query routed by an older epoch is in flight.
        if self._acknowledged < epoch and self._router.is_drained(epoch):
            store.acknowledge(postgres, self._pool_id, self._gateway_id, epoch)
            self._acknowledged = epoch
        self._each_turn(postgres.url)

    def _fade_corrections(self) -> None:
        """With Postgres gone nobody says what holds of them now: they fade as they would there."""
        for node_id, correction in self._corrections.items():
            self._router.observe(node_id, correction=correction.now(self.staleness_seconds))

    def _renew(self, postgres: KeptConnection) -> ReadOnly | None:
        """Prolongs the lease. A standby takes none, but what it knows is still followed."""
        try:
            store.register_gateway(postgres, self._pool_id, self._gateway_id, self._lease_seconds)
        except ReadOnly as error:
            return error
        return None

    def _refuse_an_older(self, current: int) -> None:
        """Epochs only grow. A smaller one is of a restored backup: what it routes to may be gone, so nothing is adopted."""
        if current < self._router.epoch:
            raise ForeshardError(
                f"Postgres says that epoch {current} is current, as after a restored backup; publish until it has passed "
                f"{self._router.epoch}, or stop the gateway, delete {self._file} and start it again"
            )

    def _listen(self) -> None:
        while not self._stopping.is_set():
            with suppress(ForeshardError), Subscription(self._url(), self._pool_id, self._router.epoch) as subscription:
                # A lost server may come back at another address: then the loop around this one asks for it again.
                while not self._stopping.is_set() and not self._problem:
                    if subscription.wait(timeout=1.0) is not None:
                        self._adopt(subscription)
            # The other thread says what is wrong; it also polls, so nothing is lost meanwhile.
            self._stopping.wait(0.5)

    def _adopt(self, subscription: Subscription) -> None:
        """At once and over the connection that heard of it; what is wrong with the epoch is said by the turn that follows.

        That turn can wait a moment, drawn anew each time: all gateways hear of an epoch together, and what each then has to
        write would keep the others from adopting it.
        """
        with suppress(ForeshardError):
            snapshot = subscription.snapshot()
            if snapshot is not None and self._router.adopt(snapshot):
                self._look_at = time.monotonic() + random.uniform(0.0, _REST_SECONDS)
                self._wake.set()
                return
        self.poke()

    def _keep(self) -> None:
        """Writes the last-known-good file once an epoch has been adopted that is not in it."""
        table = self._router.table
        if table is not None and table.epoch > self._kept_epoch:
            last_known_good.save(self._file, table.snapshot)
            self._kept_epoch = table.epoch
