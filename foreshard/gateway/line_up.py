"""The replicas of one shard that can answer now, with their weights: what a choice is made among.

Two are sampled by weight; the lower of factor × (in flight + 1) / weight gets the query. In flight is what this gateway has
there, times `TELLS` for what others have: a node's own report of that is older than its queue. The factor is the node's
correction × 1 / (1 − expected utilisation).

Sources: Mitzenmacher, "The power of two choices in randomized load balancing", 2001. The first of the two is taken at the
next multiple of the golden ratio (Weyl's sequence, 1916) instead of at random, so that each replica's turns are spread evenly
in time: shorter queues of the same weights. The second is random.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate, count

from foreshard.gateway.activity import NodeActivity
from foreshard.gateway.decision import Setting
from foreshard.gateway.routing_table import Candidate
from foreshard.model import Node, NodeState

GOLDEN_RATIO = (math.sqrt(5.0) - 1.0) / 2.0
# So many queries at a node each one of this gateway's tells of: where it has many, other gateways have more than elsewhere too.
# Simulated with 1, 2, 4 and 16 gateways, about 2 is within 5 % of the best for each (docs/routing-benchmark.md).
TELLS = 5.0 / 3.0
EVER = datetime.min.replace(tzinfo=UTC)


class Holder:
    """A node as one epoch has it and as this gateway sees it.

    `capacity` is as far as it is trusted; so is `expected`, the predicted utilisation of this interval (None: no forecast).
    """

    __slots__ = ("activity", "capacity", "expected", "node", "predicted")

    def __init__(self, node: Node, activity: NodeActivity, capacity: float) -> None:
        self.node, self.activity, self.capacity = node, activity, capacity
        self.predicted = 0.0
        self.expected: float | None = None

    @property
    def url(self) -> str:
        return self.activity.url or self.node.url

    def is_in(self, state: NodeState) -> bool:
        """Whether the epoch or the control plane since says so."""
        return self.node.state is state or self.activity.state is state

    def why_not(self, shard_id: int, clock: float) -> str:
        """Why it cannot be asked for the shard now, whatever the query; empty if it can. Ejection is another matter."""
        if self.is_in(NodeState.DEAD):
            return "is dead"
        if self.activity.refused_until.get(shard_id, clock) > clock:
            return "said the shard is not its own"
        return "" if self.url else "has no address"


class Seat:
    """One replica that may be chosen; `weight` is what counts now, among those of its shard's replicas."""

    __slots__ = ("activity", "candidate", "holder", "node_id", "shard_id", "url", "weight")

    def __init__(self, candidate: Candidate, holder: Holder, weight: float) -> None:
        self.candidate, self.holder, self.weight = candidate, holder, weight
        self.node_id, self.shard_id = candidate.node.node_id, candidate.shard_id
        self.activity, self.url = holder.activity, holder.url

    @property
    def version(self) -> int:
        """Of its shard, as far as it is known; −1 if it is not."""
        return self.activity.applied.get(self.shard_id, -1)

    @property
    def drains(self) -> bool:
        return self.holder.is_in(NodeState.DRAINING)


class Asked:
    """What a query wants of whoever answers it."""

    __slots__ = ("exclude", "minimum_version", "range_start")

    def __init__(self, range_start: datetime, minimum_version: int | None, exclude: frozenset[str]) -> None:
        self.range_start, self.minimum_version, self.exclude = range_start, minimum_version, exclude


class LineUp:
    """Immutable but for its turns. `changes` and `until` say how long it holds, `covered_from` what all cover."""

    __slots__ = ("changes", "covered_from", "cumulative", "hopeful", "seats", "setting", "turns", "until")

    def __init__(self, setting: Setting, seats: Sequence[Seat], hopeful: Seat | None, turns: Iterator[float]) -> None:
        """`hopeful`: who may be asked if there are no seats, because it may have caught up with the version asked for."""
        self.setting, self.seats, self.hopeful, self.turns = setting, tuple(seats), hopeful, turns
        total = sum(seat.weight for seat in seats)
        self.cumulative = [weight / total for weight in accumulate(seat.weight for seat in seats)]
        if seats:
            self.cumulative[-1] = 1.0
        self.changes, self.until, self.covered_from = -1, math.inf, EVER

    def suits(self, range_start: datetime, minimum_version: int | None, exclude: frozenset[str]) -> bool:
        """Whether all in it could answer the query, so that none need be made for the query alone."""
        if exclude or range_start < self.covered_from:
            return False
        if minimum_version is not None:
            for seat in self.seats:
                if seat.activity.applied.get(seat.shard_id, -1) < minimum_version:
                    return False
        return True

    def two(self, draw: Callable[[], float]) -> tuple[Seat, Seat]:
        """Two different seats of two or more, sampled by weight. Time O(log seats)."""
        cumulative, seats = self.cumulative, self.seats
        first = bisect(cumulative, next(self.turns) % 1.0)
        before = cumulative[first - 1] if first else 0.0
        width = cumulative[first] - before
        # Of what the first leaves: drawn from the line without its piece.
        at = draw() * (1.0 - width)
        second = bisect(cumulative, at if at < before else at + width)
        if second == first or second == len(seats):  # by rounding, at the edge of a piece
            second = first - 1 if first else 1
        return seats[first], seats[second]


def turns_from(start: float) -> Iterator[float]:
    """Where in [0, 1) of the weights each next first choice is, after `% 1.0`."""
    return count(start, GOLDEN_RATIO)


def line_up(shard_id: int, seats: Sequence[Seat], asked: Asked | None, clock: float, turns: Iterator[float]) -> LineUp:
    """Who of the shard's replicas can answer, whatever the query or this one. Time O(replicas · log replicas).

    A node that drains holds its data still: it is left out unless nobody else can answer.
    """
    left_out: dict[str, str] = {}
    able: list[Seat] = []
    for seat in seats:
        why_not = seat.holder.why_not(seat.shard_id, clock) or (_out_of_range(seat.candidate, asked) if asked else "")
        if why_not:
            left_out[seat.node_id] = why_not
        else:
            able.append(seat)
    tried = {s.node_id: "was tried for this query" for s in able if asked is not None and s.node_id in asked.exclude}
    ejected = _ejected(able, clock)
    untried = [seat for seat in able if seat.node_id not in tried]
    # Whoever failed may be well again, and is better than nobody.
    able = [seat for seat in untried if seat.node_id not in ejected] or untried
    left_out |= tried | {seat.node_id: ejected[seat.node_id] for seat in untried if seat not in able}
    minimum = asked.minimum_version if asked else None
    current = able if minimum is None else [seat for seat in able if seat.version >= minimum]
    hopeful = max(able, key=lambda s: (s.version < 0, s.version)) if able and not current else None
    staying = [seat for seat in current if not seat.drains] or current
    return LineUp(Setting(shard_id, len(staying), left_out), staying, hopeful, turns)


def _ejected(seats: Sequence[Seat], clock: float) -> dict[str, str]:
    """At most half of the replicas that hold what is asked for: those that failed last."""
    failed = [seat for seat in seats if seat.activity.ejected_until > clock]
    failed.sort(key=lambda seat: seat.activity.ejected_until, reverse=True)
    return {seat.node_id: "failed repeatedly" for seat in failed[: len(seats) // 2]}


def _out_of_range(candidate: Candidate, asked: Asked) -> str:
    if candidate.covers(asked.range_start) or candidate.covers_from is None:
        return ""
    return f"covers only {candidate.covers_from.date()} on"
