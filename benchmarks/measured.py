"""Runs a command and measures it with all its children: wall time, CPU time, and the peak of resident memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Measured:
    """Seconds and bytes; `java_memory` is the JVM's alone."""

    wall: float
    cpu: float
    memory: int
    java_memory: int


def run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Measured:
    """Runs the command to its end; raises SystemExit with the end of its log if it fails."""
    before = os.times()
    began = time.monotonic()
    with log.open("w") as output:
        child = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
    peak, java = [0], [0]
    sampler = threading.Thread(target=_sample, args=(child.pid, peak, java), daemon=True)
    sampler.start()
    status = child.wait()
    wall = time.monotonic() - began
    sampler.join()
    if status != 0:
        raise SystemExit(f"{command[1]} failed:\n" + "\n".join(log.read_text().splitlines()[-20:]))
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Measured(wall, cpu, peak[0], java[0])


def _sample(pid: int, peak: list[int], java: list[int]) -> None:
    """Until the process is gone: the most that it and its children held at once."""
    while psutil.pid_exists(pid):
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return
            family = [process, *process.children(recursive=True)]
            sizes = [(p.memory_info().rss, p.name()) for p in family]
        except psutil.Error:
            continue
        peak[0] = max(peak[0], sum(size for size, _ in sizes))
        java[0] = max([java[0], *(size for size, name in sizes if name == "java")])
        time.sleep(0.2)
