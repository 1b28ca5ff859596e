"""Stopping what a server started, even after the server or its starter died: by sessions, which children stay in."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

from foreshard.errors import ForeshardError

STOP_SECONDS = 10


@dataclass(frozen=True)
class Leader:
    """A process that leads a session of its own, told from a stranger with the same id by its start time."""

    pid: int
    started: float

    def owns(self, process: psutil.Process) -> bool:
        """Whether the process is the leader or one it started, which stays in the session even when the leader died."""
        if os.getsid(process.pid) != self.pid or process.status() == psutil.STATUS_ZOMBIE:
            return False
        # A session's id is not given away while it has members, so that only a leader of another start time is a stranger.
        return not psutil.pid_exists(self.pid) or abs(psutil.Process(self.pid).create_time() - self.started) < 1


def stop_sessions(leaders: list[Leader], own: list[subprocess.Popen[bytes]], seconds: float = STOP_SECONDS) -> None:
    """TERM to every member of the sessions, KILL after `seconds`; returns when all are gone. `own` are reaped on the way."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in _members(leaders):
            with suppress(psutil.Error):
                process.send_signal(number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            left = _members(leaders)
            for child in own:
                child.poll()  # reaps it
            if not left:
                return
            time.sleep(0.1)
    if left := _members(leaders):
        numbers = ", ".join(str(process.pid) for process in left)
        raise ForeshardError(f"processes {numbers} do not stop; look at them with ps and kill them")


def _members(leaders: list[Leader]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if any(leader.owns(process) for leader in leaders):
                found.append(process)
    return found
