"""Child processes of our own: each in its own process group, with a log, stopped by the ids recorded at its start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from foreshard.errors import ForeshardError

POLL_SECONDS = 0.05
_TAIL_LINES = 5


@dataclass
class ChildProcess:
    """A running child; `group` is its process group, which holds everything it starts unless that leaves on purpose."""

    process: subprocess.Popen[bytes]
    group: int
    log_path: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self, timeout: float = 10) -> int | None:
        """TERM to the group, wait up to `timeout` seconds, KILL what is left; returns the exit status of the child."""
        deadline = time.monotonic() + timeout
        self._signal(signal.SIGTERM)
        while time.monotonic() < deadline:
            self.process.poll()  # reaps the child, so that the group can become empty
            if not _members(self.group):
                break
            time.sleep(POLL_SECONDS)
        else:
            self._signal(signal.SIGKILL)
        return self.process.wait()

    def kill(self) -> None:
        """KILL to the group, and wait for the child."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # While a member lives its group id cannot be given to another process; without members there is nothing to stop.
        if _members(self.group):
            try:
                os.killpg(self.group, number)
            except ProcessLookupError:
                return


def start(
    command: Sequence[str | Path],
    log_path: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    identity: Mapping[str, Any] | None = None,
) -> ChildProcess:
    """Starts a child in a session of its own, its output appended to `log_path`; `env` None inherits ours.

    `identity`: `user`, `group` and `extra_groups` of another account, as `subprocess` takes them; None: our own.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    try:
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
                **(identity or {}),
            )
    except OSError as error:
        raise ForeshardError(f"cannot start {words[0]}: {error.strerror or error}") from None
    return ChildProcess(process, process.pid, log_path)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now; another process may still take it before you do."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until(
    condition: Callable[[], bool], timeout: float, what: str, *, log_path: Path | None = None, child: ChildProcess | None = None
) -> None:
    """Polls until `condition()` holds; raises ForeshardError naming `what`, with the log's tail, after `timeout` seconds.

    With `child`, its log is the one shown, and waiting ends at once when it exits.
    """
    log = log_path or (child.log_path if child else None)
    deadline = time.monotonic() + timeout
    while not condition():
        if child is not None and not child.is_running():
            raise ForeshardError(f"waited for {what}, but its process exited with {child.process.returncode}{tail(log)}")
        if time.monotonic() > deadline:
            raise ForeshardError(f"waited {timeout:g} s for {what}{tail(log)}")
        time.sleep(POLL_SECONDS)


def tail(log_path: Path | None) -> str:
    """The last lines of a log as the end of a sentence; empty without a log."""
    if log_path is None or not log_path.exists():
        return ""
    lines = log_path.read_bytes()[-8192:].decode("utf-8", "replace").split("\n")
    last = [line.rstrip() for line in lines if line.strip()][-_TAIL_LINES:]
    return f"; the log {log_path} ends: " + " | ".join(last) if last else f"; the log {log_path} is empty"


def _members(group: int) -> list[int]:
    """The processes of a group that still run; those that ended and wait to be reaped do not count."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.Error, PermissionError):
            continue
    return found
