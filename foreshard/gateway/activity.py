"""What a gateway has seen of each node: queries in flight, failures, latency, reported load and versions."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from statistics import median

from foreshard.model import NodeState

# Loads are exponential averages over this many seconds, here and in the pipelines that report them.
LOAD_SECONDS = 10.0
EJECT_AFTER = 3  # failures in a row
EJECT_SECONDS = 5.0
REFUSED_SECONDS = 1.0
# An outlier fails this share of its queries and this many times the share of the median node, or is this many times slower.
OUTLIER_FAILURES = 0.3
OUTLIER_FAILURE_RATIO = 3.0
OUTLIER_LATENCY_RATIO = 10.0
# Answers and failures after which a node is first judged against the others, and then each time that many more have come.
JUDGED_EVERY = 20
_SMOOTHING = 0.1


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


@dataclass(slots=True, eq=False)
class NodeActivity:
    """One node as seen by one gateway; written under the router's lock, read without. Times are monotonic seconds.

    `factor` is what its score is multiplied by until `factor_until`: see `foreshard.gateway.line_up`.
    """

    in_flight: int = 0
    failures: int = 0
    ejected_until: float = -math.inf
    attempts: int = 0
    failure_share: float = 0.0
    latency: float | None = None
    load: float = 0.0
    load_at: float = -math.inf
    url: str = ""
    state: NodeState | None = None  # as the control plane last said, which may be later than the epoch
    restarted_at: float = -math.inf
    applied: dict[int, int] = field(default_factory=dict)
    refused_until: dict[int, float] = field(default_factory=dict)
    factor: float = 1.0
    factor_until: float = -math.inf

    def current_load(self, now: float) -> float:
        """Load as last reported, decayed the way the node's own average decays, plus what was sent there since."""
        return self.load * math.exp(-max(0.0, now - self.load_at) / LOAD_SECONDS)

    def reported(self, load: float, now: float) -> None:
        self.load, self.load_at, self.factor_until = load, now, -math.inf

    def restarted(self, now: float) -> None:
        """A node with a new address or back from the dead is a new process: the old one's failures say nothing of it."""
        self.failures, self.ejected_until, self.restarted_at = 0, -math.inf, now
        self._forget()
        self.refused_until.clear()

    def sent(self, cost: float, now: float) -> None:
        self.in_flight += 1
        self.load = self.current_load(now) + cost / LOAD_SECONDS
        self.load_at = now

    def done(self, shard_id: int, outcome: Outcome, now: float) -> bool:
        """Whether the node is to be left out from now on, for this shard or for all."""
        self.in_flight = max(0, self.in_flight - 1)
        if outcome.load is not None:
            self.reported(outcome.load, now)
        if outcome.applied_version is not None:
            self.applied[shard_id] = outcome.applied_version
        if outcome.not_mine:
            self.applied.pop(shard_id, None)
            self.refused_until[shard_id] = now + REFUSED_SECONDS
        self.attempts += 1
        self.failure_share += _SMOOTHING * (outcome.failed - self.failure_share)
        if not outcome.failed:
            self.failures = 0
            if outcome.latency_seconds is not None:
                self._measure(outcome.latency_seconds)
            return outcome.not_mine
        self.failures += 1
        if self.failures >= EJECT_AFTER:
            self.ejected_until = now + EJECT_SECONDS
        return self.failures >= EJECT_AFTER

    def is_due(self) -> bool:
        """Whether it is time to judge the node against the others."""
        return self.attempts % JUDGED_EVERY == 0 and self.attempts > 0

    def judge(self, nodes: Collection[NodeActivity], now: float) -> bool:
        """Ejects the node if it is an outlier among the nodes, and says so. Time O(nodes · log nodes)."""
        others = [n for n in nodes if n is not self and n.attempts >= JUDGED_EVERY]
        if not others:
            return False
        failing = self.failure_share >= max(OUTLIER_FAILURES, OUTLIER_FAILURE_RATIO * median(n.failure_share for n in others))
        latencies = [n.latency for n in others if n.latency is not None]
        slow = self.latency is not None and latencies and self.latency > OUTLIER_LATENCY_RATIO * median(latencies)
        if not failing and not slow:
            return False
        self.ejected_until = now + EJECT_SECONDS
        self._forget()  # it comes back without its past, or it would be ejected again for it
        return True

    def _forget(self) -> None:
        self.attempts, self.failure_share, self.latency = 0, 0.0, None

    def _measure(self, seconds: float) -> None:
        self.latency = seconds if self.latency is None else self.latency + _SMOOTHING * (seconds - self.latency)
