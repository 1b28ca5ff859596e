"""What a killed starter left behind is stopped, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from foreshard.local.processes import wait_until
from foreshard.local.sessions import Leader, stop_sessions

pytestmark = pytest.mark.live

# A server with a worker in a process group of its own, as Airflow's task supervisors make them.
SERVER = """
import os, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", sys.argv[2]], process_group=0, stdout=subprocess.PIPE)
worker.stdout.readline()
open(sys.argv[1], "w").write(str(worker.pid))
time.sleep(600)
"""
PATIENT = "import time; print(flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"

Start = Callable[[str], tuple[subprocess.Popen[bytes], psutil.Process]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a server whose worker runs the given program; returns both."""

    def started(worker: str) -> tuple[subprocess.Popen[bytes], psutil.Process]:
        file = tmp_path / "worker"
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(file), worker], start_new_session=True)
        wait_until(lambda: file.exists() and file.read_text() != "", 10, "the worker to start")
        return server, psutil.Process(int(file.read_text()))

    return started


def _leader(server: subprocess.Popen[bytes]) -> Leader:
    return Leader(server.pid, psutil.Process(server.pid).create_time())


def _is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("worker", [PATIENT, STUBBORN], ids=["patient", "stubborn"])
def test_a_server_and_its_workers_are_stopped(start: Start, worker: str) -> None:
    server, process = start(worker)
    stop_sessions([_leader(server)], [server], seconds=1)
    assert server.returncode == -signal.SIGTERM
    assert _is_gone(process)


def test_the_worker_of_a_killed_server_is_stopped(start: Start) -> None:
    server, process = start(PATIENT)
    leader = _leader(server)
    server.kill()
    server.wait()
    assert process.is_running()
    stop_sessions([leader], [], seconds=5)
    assert _is_gone(process)


def test_a_stranger_with_the_recorded_id_is_left_alone(start: Start) -> None:
    server, process = start(PATIENT)
    actual = _leader(server)
    stop_sessions([Leader(actual.pid, actual.started - 3600)], [], seconds=1)
    assert server.poll() is None
    assert process.is_running()
    stop_sessions([actual], [server], seconds=5)
