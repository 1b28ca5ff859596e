"""Who is let in when not all fit: a reserved share of the rate for each class, and the rest by class.

Token buckets, as in hierarchical token bucket scheduling (Devera 2003). Each class has a bucket filled at its share of the
rate; what a full one does not take flows, with all that nobody reserved, into one that everybody may draw on. A lower class
may not draw that one below a threshold (trunk reservation, as for telephone lines: Akimaru and Kawashima 1993), so that under
overload the lowest class is refused first, and what is reserved for a class that does not ask is not wasted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshard.gateway_settings import ClassSettings

BURST_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60.0
# What of the common bucket the lowest class leaves to those above it.
_KEPT = 0.5
# How much above its capacity the best replica of a shard may be loaded for each rank above the lowest.
_OVERLOAD_STEP = 0.1


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Why a query was not let in, and in how many seconds there is room if all who were told so come when they were told to."""

    reason: str
    retry_after: float


@dataclass(slots=True)
class _Bucket:
    level: float = 0.0
    rate: float = 0.0  # per second
    depth: float = 0.0

    def has(self, cost: float) -> bool:
        """Whether it pays for `cost`; a query that costs more than the depth waits for a full bucket and leaves a debt."""
        return self.depth > 0 and self.level >= min(cost, self.depth)

    def fill(self, amount: float) -> float:
        """Adds; returns what did not fit."""
        self.level += amount
        over = max(0.0, self.level - self.depth)
        self.level -= over
        return over


class Admission:
    """Takes O(classes) per call; not thread-safe. Times are monotonic seconds, costs and rates in weighted requests.

    Over any t seconds at most rate × (t + burst) and the cost of one more query for each class is let in. A class that asks
    for no more than its share of the rate is never turned away.
    """

    def __init__(self, classes: Sequence[ClassSettings], now: float, burst_seconds: float = BURST_SECONDS) -> None:
        """`classes`: the most important first, at least one."""
        self._names = [one.name for one in classes]
        self._ranks = {name: rank for rank, name in enumerate(self._names)}
        self._shares = [one.share for one in classes]
        self._burst = burst_seconds
        self._own = [_Bucket() for _ in classes]
        self._common = _Bucket()
        self._promised = [now for _ in classes]  # until when the room of each class is given to those told to come again
        self._filled_at = now
        self.rate = 0.0

    def set_rate(self, rate: float, now: float) -> None:
        """What may be let in per second from now on; 0 while nothing is known, when everybody is let in."""
        self._fill(now)
        if rate == self.rate:
            return
        is_first = self.rate == 0
        self.rate = rate
        for bucket, share in zip(self._own, self._shares, strict=True):
            self._size(bucket, share * rate, share * rate, is_first)
        # It takes in everybody's overflow, so its depth is of the whole rate.
        self._size(self._common, max(0.0, 1 - sum(self._shares)) * rate, rate, is_first)

    def ask(self, name: str, cost: float, now: float, overload: float = 0.0) -> TurnedAway | None:
        """None lets the query in. An unknown class is the lowest. `overload`: load / capacity of the shard's best replica."""
        if self.rate <= 0 or cost <= 0:
            return None
        self._fill(now)
        rank = self._ranks.get(name, len(self._names) - 1)
        own, below = self._own[rank], len(self._names) - 1 - rank
        if own.has(cost):
            own.level -= cost
            return None
        is_overloaded = overload > 1 + _OVERLOAD_STEP * below
        kept = self._common.depth * _KEPT * rank / max(1, len(self._names) - 1)
        if not is_overloaded and self._common.level >= kept + min(cost, self._common.depth - kept):
            self._common.level -= cost
            return None
        where = "the nodes of this shard are" if is_overloaded else "the pool is"
        return TurnedAway(
            f"{where} at capacity and the share of class {self._names[rank]} is used up", self._promise(rank, cost, now)
        )

    def _promise(self, rank: int, cost: float, now: float) -> float:
        """Seconds after which this query would be served if the class got no more than what is its own."""
        of_all = max(0.0, 1 - sum(self._shares)) / len(self._shares)
        rate = self.rate * max(self._shares[rank] + of_all, 1e-3)
        # No further ahead than is told: a flood of refusals must not keep the class out for hours.
        self._promised[rank] = min(max(self._promised[rank], now) + cost / rate, now + LONGEST_RETRY_SECONDS)
        return self._promised[rank] - now

    def _fill(self, now: float) -> None:
        seconds = max(0.0, now - self._filled_at)
        self._filled_at += seconds
        over = sum(bucket.fill(bucket.rate * seconds) for bucket in self._own)
        self._common.fill(self._common.rate * seconds + over)

    def _size(self, bucket: _Bucket, rate: float, of: float, is_first: bool) -> None:
        bucket.rate, bucket.depth = rate, of * self._burst
        bucket.level = bucket.depth if is_first else min(bucket.level, bucket.depth)


def rate_of_gateway(capacity: float, gateways: int, total_load: float, own_load: float) -> float:
    """What one of several gateways may let in per second: its even part of the capacity, or all that the others leave free.

    Even parts add up to the capacity whatever is known of the others; what they leave is known from the nodes' own reports.
    """
    others = max(0.0, total_load - own_load)
    return max(capacity / max(1, gateways), capacity - others)
