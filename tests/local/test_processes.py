"""Children of our own: stopped with all they started, and explained when they do not come up."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from foreshard.errors import ForeshardError
from foreshard.local import processes

# Ignores TERM, starts a child that ignores it too, and says so.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # an ignored signal stays ignored in the processes started from here
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""
PARENT_THAT_LEAVES = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
"""


def python(code: str, log: Path, env: dict[str, str] | None = None) -> processes.ChildProcess:
    return processes.start([sys.executable, "-c", code], log, env)


def test_stopping_ends_the_whole_group_even_if_it_ignores_term(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    child = python(STUBBORN, log)
    processes.wait_until(lambda: b"up" in log.read_bytes() and b"child" in log.read_bytes(), 20, "both to be up", child=child)
    grandchild = int(log.read_text().split("child ")[1].split()[0])
    assert child.is_running()
    assert psutil.pid_exists(grandchild)
    assert child.stop(timeout=0.2) == -9
    processes.wait_until(lambda: not _runs(grandchild), 5, "the grandchild to be gone")
    assert child.stop() == -9, "stopping again changes nothing"


def test_a_grandchild_that_outlives_the_child_is_stopped_too(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = python(PARENT_THAT_LEAVES, log)
    processes.wait_until(lambda: not child.is_running(), 20, "the child to end")
    grandchild = int(log.read_text())
    assert _runs(grandchild)
    child.stop()
    assert not _runs(grandchild)


def test_a_polite_child_ends_by_term_and_sees_its_environment(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = python("import os, time; print(os.environ['WHO'], flush=True); time.sleep(600)", log, {"WHO": "me"})
    processes.wait_until(lambda: log.read_text() == "me\n", 20, "the greeting", child=child)
    assert child.stop() == -15


def test_waiting_in_vain_says_for_what_and_shows_the_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("first\nlast words\n")
    with pytest.raises(ForeshardError, match=r"waited 0.1 s for rain; the log .*x.log ends: first \| last words"):
        processes.wait_until(lambda: False, 0.1, "rain", log_path=log)


def test_waiting_for_a_child_that_exits_ends_at_once(tmp_path: Path) -> None:
    child = python("raise SystemExit('no port left')", tmp_path / "x.log")
    with pytest.raises(ForeshardError, match=r"waited for the port, but its process exited with 1; .*no port left"):
        processes.wait_until(lambda: False, 60, "the port", child=child)


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ForeshardError, match="cannot start no-such-command: No such file"):
        processes.start(["no-such-command"], tmp_path / "x.log")


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
