"""Three Postgres servers under Patroni with etcd on one machine: a store that survives the loss of its leader.

    python -m foreshard.local.replicated_postgres FOLDER

prints the URL that gateways and planners use, and runs until TERM. For trying out and for tests: a real store has its members
on machines of their own (docs/highly-available-store.md). Consensus is etcd's, failover is Patroni's.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import psutil

from foreshard.errors import ForeshardError
from foreshard.local import processes
from foreshard.local.postgres import DATABASE
from foreshard.local.processes import ChildProcess, free_port, wait_until
from foreshard.local.server_account import Account, binaries, open_path, server_account
from foreshard.routing import database

MEMBERS = 3
START_SECONDS = 120
# Patroni's shortest: for how long a leader that is silent keeps the others waiting.
LEADER_SECONDS = 20
_SCOPE = "foreshard"


@dataclass
class Member:
    """One server: its Patroni, which starts Postgres, and the etcd beside it."""

    name: str
    folder: Path
    postgres_port: int = field(default_factory=free_port)
    rest_port: int = field(default_factory=free_port)
    client_port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    etcd: ChildProcess | None = None
    patroni: ChildProcess | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def postgres_processes(self) -> list[psutil.Process]:
        """The server and its workers: Patroni starts them in a session of their own."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if Path(process.cwd()) == self.data and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


class ReplicatedPostgres:
    """Members are numbered from 0; every commit is on two servers before it is confirmed (synchronous replication)."""

    def __init__(self, folder: Path, members: int = MEMBERS) -> None:
        self.folder = folder.resolve()
        self.members = [Member(f"store-{i}", self.folder / f"store-{i}") for i in range(members)]

    @property
    def url(self) -> str:
        """Names every member; the driver finds the one that takes writes. Add a user and a password in production."""
        hosts = ",".join(f"127.0.0.1:{member.postgres_port}" for member in self.members)
        return f"postgresql://postgres@{hosts}/{DATABASE}?target_session_attrs=read-write&connect_timeout=3"

    def start(self) -> str:
        """Starts all members, creates the database `foreshard` and returns its URL; raises ForeshardError, stopping all."""
        if shutil.which("etcd") is None:
            raise ForeshardError("etcd is not installed; install it (on Debian: apt-get install etcd-server)")
        try:
            account = server_account()
            if account.is_other:
                open_path(binaries())
                open_path(Path(sys.executable).resolve().parent)  # of the interpreter that Patroni runs in
            for member in self.members:
                self._prepare(member, account)
                self._start_etcd(member)
            for i in range(len(self.members)):
                self.start_member(i)
            self.wait_until_replicated()
            self._create_database()
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Stops what was started here, Postgres servers first."""
        for member in self.members:
            if member.patroni is not None:
                member.patroni.stop(30)
        for member in self.members:
            _kill(member.postgres_processes)
            if member.etcd is not None:
                member.etcd.stop()

    def leader(self) -> int | None:
        """The number of the member that takes writes; None while there is none."""
        for i, member in enumerate(self.members):
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{member.rest_port}/primary", timeout=2).status_code == 200:
                    return i
        return None

    def kill_postgres(self, member: int) -> None:
        """SIGKILLs the member's Postgres; its Patroni lives and gives the lead away."""
        _kill(self.members[member].postgres_processes)

    def kill_member(self, member: int) -> None:
        """SIGKILLs the member's Patroni and Postgres: the others notice after LEADER_SECONDS."""
        patroni = self.members[member].patroni
        if patroni is not None:
            patroni.kill()
        self.kill_postgres(member)

    def kill_etcd(self, member: int) -> None:
        """SIGKILLs the member's etcd; two of three go on."""
        etcd = self.members[member].etcd
        if etcd is not None:
            etcd.kill()

    def start_member(self, member: int) -> None:
        """Starts a member's Patroni, and its etcd if that is gone; it rejoins, rewinding what no other server has."""
        one = self.members[member]
        if one.etcd is None or not one.etcd.is_running():
            self._start_etcd(one)
        account = server_account()
        one.patroni = processes.start(
            [sys.executable, "-m", "patroni", one.folder / "patroni.json"],
            one.folder / "patroni.log",
            identity=account.identity,
            cwd=one.folder,
        )

    def wait_until_replicated(self, seconds: float = START_SECONDS) -> int:
        """Waits for a leader that every other running member streams from, one synchronously; returns the leader."""
        running = sum(m.patroni is not None and m.patroni.is_running() for m in self.members)
        wait_until(lambda: self._is_replicated(running), seconds, "a leader that replicates", log_path=self._log())
        leader = self.leader()
        if leader is None:
            return self.wait_until_replicated(seconds)
        return leader

    def _is_replicated(self, running: int) -> bool:
        for member in self.members:
            with suppress(httpx.HTTPError, ValueError):
                seen = httpx.get(f"http://127.0.0.1:{member.rest_port}/cluster", timeout=2).json()
                states = [(one["role"], one["state"]) for one in seen.get("members", [])]
                followers = [role for role, state in states if state == "streaming"]
                if ("leader", "running") in states and "sync_standby" in followers and len(followers) == running - 1:
                    return True
        return False

    def _log(self) -> Path | None:
        leader = self.leader()
        return self.members[leader or 0].folder / "patroni.log"

    def _prepare(self, member: Member, account: Account) -> None:
        member.folder.mkdir(parents=True, exist_ok=True)
        if account.is_other:
            account.take(member.folder)
            open_path(member.folder)
        file = member.folder / "patroni.json"  # JSON is YAML
        file.write_text(json.dumps(self._configuration(member), indent=2), "utf-8")

    def _configuration(self, member: Member) -> Mapping[str, Any]:
        return {
            "scope": _SCOPE,
            "name": member.name,
            "restapi": {"listen": f"127.0.0.1:{member.rest_port}", "connect_address": f"127.0.0.1:{member.rest_port}"},
            "etcd3": {"hosts": [f"127.0.0.1:{one.client_port}" for one in self.members]},
            "bootstrap": {
                "dcs": {
                    "ttl": LEADER_SECONDS,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    # A leader whose Postgres died is not waited for.
                    "primary_start_timeout": 0,
                    # No epoch may be confirmed that one server alone holds, so a store without a second one takes no writes.
                    "synchronous_mode": True,
                    "synchronous_mode_strict": True,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"max_connections": 300, "wal_level": "replica", "wal_log_hints": True},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, "no-locale"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{member.postgres_port}",
                "connect_address": f"127.0.0.1:{member.postgres_port}",
                "data_dir": str(member.data),
                "bin_dir": str(binaries()),
                "pgpass": str(member.folder / "pgpass"),
                "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "replicator"}},
                # The members are on one machine, where everyone may connect, as to the embedded server.
                "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication replicator 127.0.0.1/32 trust"],
                # No UNIX socket: its path is limited to about 100 bytes.
                "parameters": {"unix_socket_directories": ""},
            },
        }

    def _start_etcd(self, member: Member) -> None:
        client, peer = f"http://127.0.0.1:{member.client_port}", f"http://127.0.0.1:{member.peer_port}"
        everyone = ",".join(f"{one.name}=http://127.0.0.1:{one.peer_port}" for one in self.members)
        member.etcd = processes.start(
            [
                "etcd", "--name", member.name, "--data-dir", member.folder / "etcd",
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", everyone, "--initial-cluster-token", _SCOPE, "--log-level", "warn",
            ],
            member.folder / "etcd.log",
            identity=server_account().identity,
        )  # fmt: skip

    def _create_database(self) -> None:
        database.create(self.url.replace(f"/{DATABASE}?", "/postgres?"), DATABASE)
        # The driver asks the members in turn, and gives up at the first that does not know the database yet.
        for member in self.members:
            wait_until(lambda m=member: _knows_database(m), START_SECONDS, f"{member.name} to hold the database")  # type: ignore[misc]


def _knows_database(member: Member) -> bool:
    with suppress(ForeshardError):
        database.connect(f"postgresql://postgres@127.0.0.1:{member.postgres_port}/{DATABASE}").close()
        return True
    return False


def _kill(find: Callable[[], list[psutil.Process]]) -> None:
    """SIGKILLs what `find` gives until it gives nothing: a server that dies may be starting a worker."""
    while victims := find():
        for process in victims:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(victims, timeout=10)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m foreshard.local.replicated_postgres FOLDER")
    stopping = threading.Event()

    def asked_to_stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked_to_stop)
    store = ReplicatedPostgres(Path(sys.argv[1]))
    try:
        print(store.start(), flush=True)
        stopping.wait()
    except ForeshardError as error:
        sys.exit(str(error))
    finally:
        store.stop()


if __name__ == "__main__":
    main()
