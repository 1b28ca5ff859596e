"""The most memory that this process and all its descendants held together, sampled while a block runs."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

_PAUSE_SECONDS = 2.0


class PeakMemory:
    """Use in a `with` block; `peak_bytes` is the highest sum of proportional set sizes seen so far."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(_PAUSE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, sum(_held(p) for p in [own, *own.children(recursive=True)]))


def _held(process: psutil.Process) -> int:
    """Memory shared between processes counts once in all: each bears its part of it (PSS), where the kernel tells it."""
    try:
        told = process.memory_full_info()
        return int(getattr(told, "pss", 0) or told.rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0
