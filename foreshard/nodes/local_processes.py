"""Nodes as processes of this machine: `foreshard pipeline` in a session of its own, found again by its record and lock."""

from __future__ import annotations

import fcntl
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from foreshard.errors import ForeshardError
from foreshard.local import processes
from foreshard.nodes.launch import LOCK, RECORD
from foreshard.nodes.provisioner import Operation, Verb
from foreshard.settings import Settings

STOP_SECONDS = 10.0
# Start times are computed from the time of boot, which moves when the clock is set.
_CLOCK_SECONDS = 5.0


class LocalProcesses:
    """Each node's record, lock and log are in `home/nodes/<node_id>`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.home / "nodes"

    def add_node(self, node_id: str, capacity: float, zone: str, operation_id: str) -> Operation:
        folder = self._root / node_id
        folder.mkdir(parents=True, exist_ok=True)
        if not _is_locked(folder):
            launch: list[str | Path] = [sys.executable, "-m", "foreshard.nodes.launch", folder, *self._command(node_id)]
            child = processes.start(launch, folder / "log")
            # It also ends when somebody else has started the node meanwhile. Nobody is left to try later, after a removal.
            processes.wait_until(
                lambda: _is_process(folder, child.pid) or not child.is_running(),
                self._settings.provisioner.timeout_seconds,
                f"node {node_id} to start",
                log_path=child.log_path,
            )
        running = _awaited(folder)
        if running is None:
            raise ForeshardError(f"node {node_id} did not start{processes.tail(folder / 'log')}")
        return Operation(Verb.ADD, node_id, f"runs as process {running.pid}, its log is {folder / 'log'}")

    def drain_node(self, node_id: str, operation_id: str) -> Operation:
        return Operation(Verb.DRAIN, node_id, "its process goes on until it is removed")

    def remove_node(self, node_id: str, operation_id: str) -> Operation:
        folder = self._root / node_id
        running = _awaited(folder)
        if running is None:
            return Operation(Verb.REMOVE, node_id, "it did not run")
        _stop(running)
        processes.wait_until(lambda: not _is_locked(folder), STOP_SECONDS, f"process {running.pid} of node {node_id} to end")
        return Operation(Verb.REMOVE, node_id, f"process {running.pid} was stopped")

    def observe(self) -> Mapping[str, str]:
        folders = sorted(self._root.iterdir()) if self._root.is_dir() else []
        return {folder.name: _state(folder) for folder in folders if (folder / LOCK).exists()}

    def _command(self, node_id: str) -> list[str]:
        file = self._settings.path
        if file is None:
            raise ForeshardError("the local provisioner needs a settings file that its nodes read too; write foreshard.toml")
        declared = next((n.url for n in self._settings.nodes if n.node_id == node_id), "")
        port = urlsplit(declared).port if declared else None
        words = [sys.executable, "-m", "foreshard.cli", "pipeline", "--node", node_id]
        return [*words, "--port", str(port or 0), "--settings", str(file)]


def _state(folder: Path) -> str:
    if not _is_locked(folder):
        return "stopped"
    return "starting" if _process(folder) is None else "running"


def _is_locked(folder: Path) -> bool:
    """Whether a process has the node's lock; it goes with the process, however that ends."""
    try:
        with (folder / LOCK).open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _process(folder: Path) -> psutil.Process | None:
    """The node's process; None if there is none, or if the id recorded is another process's by now."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        process = psutil.Process(int(record["pid"]))
        is_same = abs(process.create_time() - float(record["started"])) < _CLOCK_SECONDS
        alive = is_same and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return process if alive and _is_locked(folder) else None


def _is_process(folder: Path, pid: int) -> bool:
    found = _process(folder)
    return found is not None and bool(found.pid == pid)


def _awaited(folder: Path) -> psutil.Process | None:
    """The node's process, waiting for the record of one that has just taken the lock."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        found = _process(folder)
        if found is not None or not _is_locked(folder):
            return found
        if time.monotonic() > deadline:
            raise ForeshardError(f"the lock {folder / LOCK} is held, but not by the process recorded beside it; end its holder")
        time.sleep(processes.POLL_SECONDS)


def _stop(process: psutil.Process) -> None:
    """TERM, and KILL after STOP_SECONDS; psutil refuses to signal a process that only has the same id."""
    try:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
    except psutil.NoSuchProcess:
        return
    except psutil.Error as error:
        raise ForeshardError(f"process {process.pid} cannot be stopped: {error}") from None
