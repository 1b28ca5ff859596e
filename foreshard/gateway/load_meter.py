"""The load a pipeline carries: cost-weighted requests per second, averaged exponentially."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from foreshard.gateway.activity import LOAD_SECONDS


class LoadMeter:
    """Thread-safe; a steady rate of r weighted requests per second tends to r."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._value, self._at = 0.0, monotonic()

    def add(self, cost: float) -> None:
        """One request of this cost."""
        with self._lock:
            self._value = self._decayed() + cost / LOAD_SECONDS
            self._at = self._monotonic()

    def value(self) -> float:
        with self._lock:
            return self._decayed()

    def _decayed(self) -> float:
        return self._value * math.exp(-(self._monotonic() - self._at) / LOAD_SECONDS)
