"""What a gateway has seen of each node: queries in flight, failures, latency, reported load and versions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from foreshard.model import NodeState

# Loads are exponential averages over this many seconds, here and in the pipelines that report them.
LOAD_SECONDS = 10.0
EJECT_AFTER = 3  # failures in a row
EJECT_SECONDS = 5.0
REFUSED_SECONDS = 1.0
_LATENCY_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended. `failed` counts towards ejection: no connection, a timeout, a server error.

    A refusal (`not_mine`, or behind the version asked for) is a sound answer and no failure. `latency_seconds` is None
    unless the query was answered; `load` and `applied_version` are what the node reported with it, None if it did not.
    """

    failed: bool
    latency_seconds: float | None = None
    load: float | None = None
    applied_version: int | None = None
    not_mine: bool = False


@dataclass(slots=True)
class NodeActivity:
    """One node as seen by one gateway; not thread-safe, the router locks. Times are monotonic seconds."""

    in_flight: int = 0
    failures: int = 0
    ejected_until: float = -math.inf
    latency: float | None = None
    load: float = 0.0
    load_at: float = -math.inf
    url: str = ""
    state: NodeState | None = None  # as the control plane last said, which may be later than the epoch
    applied: dict[int, int] = field(default_factory=dict)
    refused_until: dict[int, float] = field(default_factory=dict)

    def current_load(self, now: float) -> float:
        """Load as last reported, decayed the way the node's own average decays, plus what was sent there since."""
        return self.load * math.exp(-max(0.0, now - self.load_at) / LOAD_SECONDS)

    def moved(self, url: str) -> None:
        """A node with a new address is a new process: the old one's failures say nothing of it."""
        self.url, self.failures, self.ejected_until = url, 0, -math.inf
        self.refused_until.clear()

    def sent(self, cost: float, now: float) -> None:
        self.in_flight += 1
        self.load = self.current_load(now) + cost / LOAD_SECONDS
        self.load_at = now

    def done(self, shard_id: int, outcome: Outcome, now: float) -> None:
        self.in_flight = max(0, self.in_flight - 1)
        if outcome.load is not None:
            self.load, self.load_at = outcome.load, now
        if outcome.applied_version is not None:
            self.applied[shard_id] = outcome.applied_version
        if outcome.not_mine:
            self.applied.pop(shard_id, None)
            self.refused_until[shard_id] = now + REFUSED_SECONDS
        if not outcome.failed:
            self.failures = 0
            if outcome.latency_seconds is not None:
                self._measure(outcome.latency_seconds)
            return
        self.failures += 1
        if self.failures >= EJECT_AFTER:
            self.ejected_until = now + EJECT_SECONDS

    def _measure(self, seconds: float) -> None:
        self.latency = seconds if self.latency is None else self.latency + _LATENCY_SMOOTHING * (seconds - self.latency)
