"""Keeps a running HAProxy at the published epoch, by its runtime API; neither it nor its connections are restarted.

Each turn reads what HAProxy holds and does what is missing, so that it does not matter who was restarted, or killed half-way.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from foreshard.errors import ForeshardError
from foreshard.gateway.router import Router
from foreshard.gateway.subscriber import POLL_SECONDS, Subscriber
from foreshard.model import NodeState
from foreshard.proxies.haproxy_changes import changes
from foreshard.proxies.haproxy_configuration import ADMIN_SOCKET, BACKENDS, backends, map_files
from foreshard.proxies.haproxy_runtime import RuntimeApi
from foreshard.proxies.proxy_state import Address, ProxyState, Seen, wanted
from foreshard.routing.snapshot import Snapshot

TURN_SECONDS = 1.0
_DRAIN_TURN_SECONDS = 0.1
_RESOLVE_SECONDS = 10.0


class FollowedRoutes(Router):
    """What a Subscriber keeps current here: the snapshot, where nodes are, and corrections. It is drained when HAProxy is."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.changed = threading.Event()
        self.nodes: dict[str, tuple[str, NodeState]] = {}  # what was seen since the snapshot: address and state
        self.corrections: dict[str, float] = {}  # in hundredths: weights are not set anew for less
        self._settled = 0

    def adopt(self, snapshot: Snapshot) -> bool:
        adopted = super().adopt(snapshot)
        self.changed.set()
        return adopted

    def observe(self, node_id: str, **seen: Any) -> None:
        super().observe(node_id, **seen)
        if (correction := seen.get("correction")) is not None:
            self._note(self.corrections, node_id, round(correction, 2))
        if "state" in seen:
            self._note(self.nodes, node_id, (seen.get("url") or "", seen["state"] or NodeState.ACTIVE))

    def _note(self, noted: dict[str, Any], node_id: str, now: object) -> None:
        if noted.get(node_id) != now:
            noted[node_id] = now
            self.changed.set()

    def settled(self, epoch: int) -> None:
        """HAProxy routes by this epoch, and nothing is in flight that it routed by another; 0: it is not known to."""
        self._settled = epoch

    def is_drained(self, epoch: int) -> bool:
        return self._settled >= epoch


class Driver:
    """One HAProxy's. `turn` may be called at any time; `run` does so until `stop`."""

    def __init__(
        self,
        folder: Path,
        url: Callable[[], str],
        pool_id: str,
        gateway_id: str,
        report: Callable[[str], None] = lambda sentence: print(sentence, file=sys.stderr, flush=True),
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._folder, self._name, self._report = folder, gateway_id, report
        self._routes = FollowedRoutes()
        file = folder / "last_known_good"
        self._subscriber = Subscriber(self._routes, url, pool_id, gateway_id, file, poll_seconds=poll_seconds, report=report)
        self._api = RuntimeApi(folder / ADMIN_SOCKET, folder)
        self._addresses = _Addresses()
        self._stopping = threading.Event()
        self._said: tuple[str, ...] = ()
        self._at = 0  # the epoch that was put in place last

    def run(self) -> None:
        """Until `stop`; raises ForeshardError if another driver drives this HAProxy."""
        with _alone(self._folder):
            self._subscriber.start()
            try:
                while not self._stopping.is_set():
                    self._routes.changed.clear()
                    is_settled = self._turn()
                    self._routes.changed.wait(TURN_SECONDS if is_settled else _DRAIN_TURN_SECONDS)
            finally:
                self._subscriber.stop()

    def look(self) -> None:
        """What Postgres says is read now, not at the next poll."""
        self._subscriber.poke()

    def stop(self) -> None:
        """Takes no lock: a signal's handler calls it."""
        self._stopping.set()
        self._routes.changed.set()

    def _turn(self) -> bool:
        """Whether HAProxy is at the epoch with nothing left to drain, or is not to be helped before the next turn."""
        table = self._routes.table
        if table is None:
            return True
        try:
            state, leaving = self._apply(table.snapshot)
            self._say(state.remarks)
            in_flight = self._api.busy() & leaving if leaving else frozenset()
        except (ForeshardError, OSError) as error:
            self._routes.settled(0)
            self._at = 0
            self._say((f"{self._name} cannot bring HAProxy to epoch {table.epoch}, and tries again: {error}",))
            return True
        if not in_flight:
            self._routes.settled(state.epoch)
        return not in_flight

    def _apply(self, snapshot: Snapshot) -> tuple[ProxyState, set[tuple[str, str]]]:
        held = self._api.held()
        corrections = {**dict(snapshot.corrections), **self._routes.corrections}
        state = wanted(replace(snapshot, corrections=tuple(corrections.items())), self._seen(snapshot), held)
        steps = changes(held, state)
        self._api.carry_out(steps)
        if steps.leaving:
            self._api.delete(steps.leaving)
        self._write(state, snapshot.slot_bits)
        if self._at != state.epoch:
            self._at = state.epoch
            self._report(f"{self._name}: HAProxy is at epoch {state.epoch}, after {len(steps.commands)} commands")
        return state, set(steps.leaving)

    def _seen(self, snapshot: Snapshot) -> dict[str, Seen]:
        found = {}
        for node in snapshot.nodes:
            url, state = self._routes.nodes.get(node.node_id, ("", node.state))
            gone = NodeState.DEAD in (state, node.state)
            drains = NodeState.DRAINING in (state, node.state)
            now = NodeState.DEAD if gone else NodeState.DRAINING if drains else state
            found[node.node_id] = Seen(self._addresses.of(url or node.url), now)
        return found

    def _write(self, state: ProxyState, slot_bits: int) -> None:
        """The files that HAProxy starts from the next time."""
        write_files(self._folder, {**map_files(state), BACKENDS: backends(state, slot_bits, self._folder)})

    def _say(self, sentences: tuple[str, ...]) -> None:
        for sentence in sentences:
            if sentence not in self._said:
                self._report(sentence)
        self._said = sentences


class _Addresses:
    """IP addresses of nodes' URLs; a name is asked for again after a while, and keeps its address if it is not known then."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Address | None]] = {}

    def of(self, url: str) -> Address | None:
        """None if the node has no address or a name that is not known; raises ForeshardError for what HAProxy cannot ask."""
        if not url:
            return None
        host, port = _plain(url)
        try:
            return str(ipaddress.ip_address(host)), port
        except ValueError:
            asked_at, address = self._known.get(url, (float("-inf"), None))
        if time.monotonic() - asked_at > _RESOLVE_SECONDS:
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
                address = str(found[0]), port
            except OSError:
                pass
            self._known[url] = (time.monotonic(), address)
        return address


def _plain(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:
        parts, host, port = urlsplit(""), "", 0
    if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query:
        raise ForeshardError(f"HAProxy can ask nodes at http://host:port only, not at {url[:80]!r}; correct the node's url")
    return host, port


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Each file whole or as it was; those that are the same already are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        if path.exists() and path.read_text("utf-8") == text:
            continue
        handle, whole = tempfile.mkstemp(dir=folder, prefix="_")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(whole, path)
        except BaseException:
            os.unlink(whole)
            raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "driver.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ForeshardError(f"another process drives the HAProxy of {folder}; stop it first") from None
        yield
