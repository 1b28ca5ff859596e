"""The load a pipeline carries, and how long its queries take: averaged exponentially over the last seconds."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from foreshard.gateway.activity import LOAD_SECONDS

# With fewer in memory than this, each counting less the older it is, nothing is said of how long they take.
_LEAST_QUERIES = 1.0


class LoadMeter:
    """Thread-safe; a steady rate of r weighted requests per second tends to r. A query's time is the mean of recent ones."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._value, self._at = 0.0, monotonic()
        self._seconds = self._took = 0.0  # of queries that ended, and how many: both decay
        self._took_at = self._at

    def add(self, cost: float) -> None:
        """One request of this cost."""
        with self._lock:
            self._value = self._decayed() + cost / LOAD_SECONDS
            self._at = self._monotonic()

    def took(self, seconds: float) -> None:
        """A query was answered after so long."""
        with self._lock:
            now = self._monotonic()
            kept = math.exp(-(now - self._took_at) / LOAD_SECONDS)
            self._seconds, self._took, self._took_at = self._seconds * kept + seconds, self._took * kept + 1.0, now

    def service_seconds(self) -> float | None:
        """How long a query takes now; None after a while without any."""
        with self._lock:
            left = self._took * math.exp(-(self._monotonic() - self._took_at) / LOAD_SECONDS)
            return self._seconds / self._took if left >= _LEAST_QUERIES else None

    def value(self) -> float:
        with self._lock:
            return self._decayed()

    def _decayed(self) -> float:
        return self._value * math.exp(-(self._monotonic() - self._at) / LOAD_SECONDS)
