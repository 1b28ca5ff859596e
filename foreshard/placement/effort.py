"""How much a search may take."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """What bounds the search: candidates of its last, improving stage, and the monotonic time at which it stops.

    Without `iterations` the clock sets the pace of that stage: as good as the time allows, but not repeatable.
    """

    seed: int = 0
    iterations: int | None = 20_000
    deadline: float | None = None

    def seconds_left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
