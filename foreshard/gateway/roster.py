"""One adopted epoch: its routing table with what is seen of its nodes, and a line-up per shard that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from foreshard.gateway.activity import LOAD_SECONDS, NodeActivity
from foreshard.gateway.line_up import EVER, TELLS, Asked, Holder, LineUp, Seat, line_up, turns_from
from foreshard.gateway.routing_table import Candidate, RoutingTable

# Part of a node's expected load that is what it reports; the rest is the forecast.
REPORTED_SHARE = 0.5
# A node is never thought closer to its capacity than this: reports lag, and what is in flight says how long its queue is.
HIGHEST_UTILISATION = 0.8
# For so long an expected utilisation is good.
_FACTOR_SECONDS = 0.1
# The weight that a replica has at the least in its slow start, and how many steps it takes to all of it.
_SLOWEST = 0.1
_STEPS = 50


class Roster:
    """Not changed after construction but for what it keeps to be quick, so that any thread may route by it at any time."""

    def __init__(
        self,
        table: RoutingTable,
        activity_of: Callable[[str], NodeActivity],
        corrections: Mapping[str, float],
        clock: float,
        slow_start_seconds: float,
        before: Roster | None,
    ) -> None:
        """`corrections` are those that came after the epoch. Time O(replicas + nodes)."""
        snapshot = table.snapshot
        self.table, self.epoch, self.adopted_at = table, table.epoch, clock
        self.skill = min(1.0, max(0.0, snapshot.skill))
        self.corrections = {**dict(snapshot.corrections), **corrections}
        mean = sum(n.capacity for n in snapshot.nodes) / max(1, len(snapshot.nodes))
        self.holders = {
            node.node_id: Holder(node, activity_of(node.node_id), self.skill * node.capacity + (1.0 - self.skill) * mean)
            for node in snapshot.nodes
        }
        self.lines: dict[int | str, LineUp] = {}
        self.begin = self.end = EVER  # of the interval that predictions are in place for
        self._slow_start_seconds = slow_start_seconds
        self._replicas = {(r.shard_id, r.node_id) for r in snapshot.replicas}
        self._turns: npt.NDArray[np.float64] | None = None
        self._appeared = self._appearances(before, clock)

    def line_up(self, key: int | str, changes: int, clock: float, draw: Callable[[], float]) -> LineUp:
        """Made anew and kept. `changes` is the count of changes of nodes' states from before what is read here."""
        kept = self.lines.get(key)
        seats, settled = self._seats(key, clock)
        found = line_up(self._shard(key), seats, None, clock, kept.turns if kept else turns_from(draw()))
        found.covered_from = max((s.candidate.covers_from or EVER for s in seats), default=EVER)
        found.changes, found.until = changes, min([settled, *(t for s in seats for t in _ends(s) if t > clock)])
        self.lines[key] = found
        return found

    def line_up_for(self, key: int | str, asked: Asked, clock: float, draw: Callable[[], float]) -> LineUp:
        """For one query that not all replicas could answer."""
        return line_up(self._shard(key), self._seats(key, clock)[0], asked, clock, turns_from(draw()))

    def seats(self, key: int | str, clock: float) -> list[Seat]:
        """Of all replicas, whether they can answer or not."""
        return self._seats(key, clock)[0]

    def turns_of_batches(self, draw: Callable[[], float]) -> npt.NDArray[np.float64]:
        """Where each slot's turns are among queries that are routed many at once, shape (slots,)."""
        if self._turns is None:
            every = 1 << self.table.snapshot.slot_bits
            self._turns = (draw() + 0.5**0.5 * np.arange(every)) % 1.0
        return self._turns

    def turn_to(self, now: datetime) -> None:
        """Puts the predictions of the interval that holds `now` in place."""
        seconds = self.table.snapshot.interval_seconds
        index = int(now.timestamp()) // seconds
        loads = {node_id: self.table.predicted_load(node_id, now) for node_id in self.holders}
        known = [load for load in loads.values() if load is not None]
        even = sum(known) / (sum(h.capacity for h in self.holders.values()) or 1.0)
        for node_id, holder in self.holders.items():
            load = loads[node_id]
            holder.predicted = load or 0.0
            holder.expected = None if load is None else self.skill * load / holder.capacity + (1.0 - self.skill) * even
            holder.activity.factor_until = -math.inf
        self.begin = datetime.fromtimestamp(index * seconds, UTC)
        self.end = datetime.fromtimestamp((index + 1) * seconds, UTC)

    def score(self, seat: Seat, clock: float) -> float:
        """What the lower of gets the query."""
        activity = seat.activity
        if clock >= activity.factor_until:
            self.refresh(seat.holder, clock)
        return activity.factor * (TELLS * activity.in_flight + 1.0) / seat.weight

    def refresh(self, holder: Holder, clock: float) -> None:
        """The node's factor on scores: its correction, stretched by 1 / (1 − utilisation) as a queue's delay is.

        What a node reports is an average: just after an epoch with other weights it tells of the old ones, so that the
        forecast, if there is one, counts for more until the average has turned over.
        """
        activity = holder.activity
        expected = reported = activity.current_load(clock) / holder.capacity
        if holder.expected is not None:
            share = REPORTED_SHARE * -math.expm1(-(clock - self.adopted_at) / LOAD_SECONDS)
            expected = holder.expected + share * (reported - holder.expected)
        correction = self.corrections.get(holder.node.node_id, 1.0)
        activity.factor = correction / (1.0 - min(HIGHEST_UTILISATION, expected))
        activity.factor_until = clock + _FACTOR_SECONDS

    def _shard(self, key: int | str) -> int:
        return key if isinstance(key, int) else self.table.shard_of(key)

    def _seats(self, key: int | str, clock: float) -> tuple[list[Seat], float]:
        """Weights as published, shrunk toward even as far as they are not trusted, and less during a slow start."""
        candidates = self.table.candidates_of(key)
        total = sum(c.weight for c in candidates)
        seats, until = [], math.inf
        for candidate in candidates:
            holder = self.holders[candidate.node.node_id]
            weight = self.skill * candidate.weight / total + (1.0 - self.skill) / len(candidates)
            ramp = self._ramp(candidate, holder, clock)
            if ramp < 1.0:
                until = clock + self._slow_start_seconds / _STEPS
            seats.append(Seat(candidate, holder, weight * ramp))
        return seats, until

    def _ramp(self, candidate: Candidate, holder: Holder, clock: float) -> float:
        since = self._appeared.get((candidate.shard_id, candidate.node.node_id), -math.inf)
        since = max(since, holder.activity.restarted_at)
        if clock >= since + self._slow_start_seconds:
            return 1.0
        return max(_SLOWEST, (clock - since) / self._slow_start_seconds)

    def _appearances(self, before: Roster | None, clock: float) -> dict[tuple[int, str], float]:
        """When replicas came that are still in their slow start; those of the first epoch were there before."""
        if before is None:
            return {}
        recent = {r: t for r, t in before._appeared.items() if r in self._replicas and t + self._slow_start_seconds > clock}
        return {replica: clock for replica in self._replicas - before._replicas} | recent


def _ends(seat: Seat) -> tuple[float, float]:
    """When what may keep the replica out passes by itself."""
    return seat.activity.ejected_until, seat.activity.refused_until.get(seat.shard_id, -math.inf)
