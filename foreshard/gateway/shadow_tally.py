"""What one gateway process saw of new replicas that get a part of the queries as well: running totals, written to Postgres.

Totals of a shadow are written when they changed, under a name of this process's own: one that starts anew begins at 0 and
writes rows of its own, so that nothing is lost or counted twice.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from foreshard.transition.shadowing import ShadowReport, write_shadow
from foreshard.usage.latency_histogram import bucket_of

OUTCOMES = ("compared", "mismatched", "failed", "skipped")
_FORGET_SECONDS = 60.0
_LONGEST_EXAMPLE = 500

ShadowKey = tuple[int, int, str]  # the epoch that began it, shard, node


@dataclass(slots=True)
class _Totals:
    outcomes: Counter[str] = field(default_factory=Counter)
    old_latency: Counter[int] = field(default_factory=Counter)
    new_latency: Counter[int] = field(default_factory=Counter)
    example: str = ""
    counted: int = 0
    written: int = 0  # `counted` as last written
    counted_at: float = 0.0

    def report(self, key: ShadowKey) -> ShadowReport:
        since_epoch, shard_id, node_id = key
        return ShadowReport(
            since_epoch,
            shard_id,
            node_id,
            compared=self.outcomes["compared"],
            mismatched=self.outcomes["mismatched"],
            failed=self.outcomes["failed"],
            skipped=self.outcomes["skipped"],
            old_latency=dict(self.old_latency),
            new_latency=dict(self.new_latency),
            example=self.example,
        )


class ShadowTally:
    """Thread-safe. `is_current` says whether the epoch routed by still lists a shadow."""

    def __init__(
        self,
        pool_id: str,
        gateway_id: str,
        is_current: Callable[[ShadowKey], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool_id, self._reporter = pool_id, f"{gateway_id}/{uuid.uuid4().hex[:12]}"
        self._is_current, self._monotonic = is_current, monotonic
        self._lock = threading.Lock()
        self._totals: dict[ShadowKey, _Totals] = {}
        self._outcomes: Counter[str] = Counter()

    @property
    def outcomes(self) -> dict[str, int]:
        """Outcome → how many queries had it since this process started; those that mismatched were also compared."""
        with self._lock:
            return {outcome: self._outcomes[outcome] for outcome in OUTCOMES}

    def answered(self, key: ShadowKey, old_ms: float, new_ms: float, same: bool | None, example: str) -> None:
        """Both replicas answered. `same`: whether with the same rows; None: not comparable, as at different versions."""
        outcomes = ("skipped",) if same is None else ("compared",) if same else ("compared", "mismatched")
        with self._lock:
            totals = self._count(key, outcomes)
            totals.old_latency[bucket_of(old_ms)] += 1
            totals.new_latency[bucket_of(new_ms)] += 1
            # Other rows say more than a failure that may have come before.
            if same is False and totals.outcomes["mismatched"] == 1:
                totals.example = example[:_LONGEST_EXAMPLE]

    def failed(self, key: ShadowKey, example: str) -> None:
        """The new replica gave no answer where the old one did."""
        with self._lock:
            totals = self._count(key, ("failed",))
            totals.example = totals.example or example[:_LONGEST_EXAMPLE]

    def write(self, url: str) -> None:
        """Writes what changed since the last time; raises ForeshardError, and then the next call writes it."""
        for key, report, counted in self._unwritten():
            write_shadow(url, self._pool_id, self._reporter, report)
            with self._lock:
                self._totals[key].written = counted
        self._forget()

    def _count(self, key: ShadowKey, outcomes: tuple[str, ...]) -> _Totals:
        totals = self._totals.setdefault(key, _Totals())
        totals.outcomes.update(outcomes)
        self._outcomes.update(outcomes)
        totals.counted += 1
        totals.counted_at = self._monotonic()
        return totals

    def _unwritten(self) -> list[tuple[ShadowKey, ShadowReport, int]]:
        with self._lock:
            changed = [(key, totals) for key, totals in self._totals.items() if totals.counted != totals.written]
            return [(key, totals.report(key), totals.counted) for key, totals in changed]

    def _forget(self) -> None:
        """Drops what is over and written; late answers come well within the time that it is kept for."""
        before = self._monotonic() - _FORGET_SECONDS
        with self._lock:
            for key, totals in list(self._totals.items()):
                if totals.counted == totals.written and totals.counted_at < before and not self._is_current(key):
                    del self._totals[key]
