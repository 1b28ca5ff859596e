"""Chooses a node per query: two replicas sampled by weight, the one with the lower predicted and current load.

The rule and its sources: `foreshard.gateway.line_up`; what weights and loads count for: `foreshard.gateway.roster`.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from foreshard.errors import ForeshardError
from foreshard.gateway.activity import NodeActivity, Outcome
from foreshard.gateway.decision import Decision, Verdict, none_left
from foreshard.gateway.explanation import explained
from foreshard.gateway.line_up import Asked, LineUp
from foreshard.gateway.query import Query
from foreshard.gateway.roster import Roster
from foreshard.gateway.routing_table import RoutingTable
from foreshard.model import NodeState
from foreshard.routing.snapshot import Snapshot

if TYPE_CHECKING:
    from foreshard.gateway.batch import Batch

SLOW_START_SECONDS = 10.0
_ANYBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ShadowCopy:
    """A new replica that is to get a query as well. `key`: the epoch that began it, shard, node; `epoch`: the one of now."""

    key: tuple[int, int, str]
    url: str
    epoch: int

    @property
    def shard_id(self) -> int:
        return self.key[1]

    @property
    def node_id(self) -> str:
        return self.key[2]


class Router:
    """Thread-safe and never blocking: to be called from threads and from event loops alike.

    Holds one epoch, swapped as a whole, and what was seen of each node. `route` takes no lock: what it reads is immutable or
    a single number. `corrections` multiply a node's score (above 1: it does worse than its declared capacity says) and come
    before the epoch's, `operation_cost` weighs queries by their operation (1 for what is not listed). A replica that is new
    to the epochs, or whose node started again, comes to its weight over `slow_start_seconds`. Same seed and same calls, same
    choices.
    """

    def __init__(
        self,
        seed: int | None = None,
        corrections: Mapping[str, float] | None = None,
        operation_cost: Mapping[str, float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        slow_start_seconds: float = SLOW_START_SECONDS,
    ) -> None:
        self._draw = random.Random(seed).random
        self._corrections = dict(corrections or {})
        self._operation_cost = dict(operation_cost or {})
        self._monotonic = monotonic
        self._slow_start_seconds = slow_start_seconds
        self._lock = threading.Lock()
        self._roster: Roster | None = None
        self._activity: dict[str, NodeActivity] = {}
        # Counts what makes line-ups out of date: each was made at some count and holds while it is the same.
        self._changes = 0
        self._in_flight: Counter[int] = Counter()

    @property
    def epoch(self) -> int:
        """The epoch routed by, 0 before the first."""
        roster = self._roster
        return roster.epoch if roster else 0

    @property
    def table(self) -> RoutingTable | None:
        roster = self._roster
        return roster.table if roster else None

    def adopt(self, snapshot: Snapshot) -> bool:
        """Swaps the epoch in; False if it or a later one is held already. Raises ForeshardError, keeping the old."""
        table = RoutingTable(snapshot)
        with self._lock:
            if table.epoch <= self.epoch:
                return False
            for activity in self._activity.values():
                activity.refused_until.clear()
            roster = Roster(table, self._of, self._corrections, self._monotonic(), self._slow_start_seconds, self._roster)
            self._roster = roster
            return True

    def is_drained(self, epoch: int) -> bool:
        """True if no query that was routed by an epoch before this one is still in flight."""
        with self._lock:
            return not any(count for routed_by, count in self._in_flight.items() if routed_by < epoch)

    def route(
        self, query: Query, *, now: datetime, minimum_version: int | None = None, exclude: frozenset[str] = _ANYBODY
    ) -> Decision:
        """Where to send the query. `minimum_version` is what its token asks for; `exclude` names nodes already tried."""
        roster = self._roster
        if roster is None:
            return Decision(Verdict.NO_REPLICA, -1, 0, basis="no epoch has been published or adopted yet")
        clock = self._monotonic()
        if not roster.begin <= now < roster.end:
            roster.turn_to(now)
        key = roster.table.key(query.entity_id)
        line = self._line(roster, key, clock, query.range_start, minimum_version, exclude)
        cost = self._operation_cost.get(query.operation_id, 1.0)
        seats = line.seats
        if len(seats) > 1:
            one, other = line.two(self._draw)
            score, others = roster.score(one, clock), roster.score(other, clock)
            scores: tuple[str | float, ...] = (one.node_id, score, other.node_id, others)
            best = one if score <= others else other
        elif seats:
            best = seats[0]
            scores = (best.node_id, roster.score(best, clock))
        else:
            return self._without_choice(roster, line, minimum_version, cost)
        return Decision(
            Verdict.ROUTED,
            best.shard_id,
            roster.epoch,
            best.node_id,
            best.url,
            best.holder.predicted,
            cost,
            scores,
            line.setting,
        )

    def route_many(
        self, slots: npt.NDArray[np.int64], *, range_start: datetime, now: datetime, minimum_version: int | None = None
    ) -> Batch:
        """Where to send many queries that ask for the same time on; shape (queries,), see `foreshard.slots.slots_of`.

        By the same rule as `route`, each query counting as in flight for the next. An isolated entity goes to its slot's
        replicas, which hold it as well. Raises ForeshardError before the first epoch or for a number that is no slot.
        """
        # Compiling is only for those who route so.
        from foreshard.gateway.batch import choose_many

        roster = self._roster
        if roster is None:
            raise ForeshardError("no epoch has been published or adopted yet; wait for one before routing many queries")
        every = 1 << roster.table.snapshot.slot_bits
        if slots.size and not 0 <= int(slots.min()) <= int(slots.max()) < every:
            raise ForeshardError(f"slots are 0 to {every - 1}, but some given are {slots.min()} or {slots.max()}")
        if not roster.begin <= now < roster.end:
            roster.turn_to(now)
        clock = self._monotonic()
        present = np.unique(slots).tolist() if slots.size < every else range(every)
        lines = [(slot, self._line(roster, slot, clock, range_start, minimum_version, _ANYBODY)) for slot in present]
        for _, line in lines:
            for seat in line.seats:
                if clock >= seat.activity.factor_until:
                    roster.refresh(seat.holder, clock)
        with self._lock:
            return choose_many(roster.epoch, lines, slots, roster.turns_of_batches(self._draw), self._draw)

    def started(self, decision: Decision) -> None:
        """The query is on its way to the decision's node."""
        with self._lock:
            self._in_flight[decision.epoch] += 1
            self._of(decision.node_id).sent(decision.cost, self._monotonic())

    def finished(self, decision: Decision, outcome: Outcome) -> None:
        """Once for every `started`."""
        with self._lock:
            self._in_flight[decision.epoch] -= 1
            if self._in_flight[decision.epoch] <= 0:
                del self._in_flight[decision.epoch]
            activity, clock = self._of(decision.node_id), self._monotonic()
            left_out = activity.done(decision.shard_id, outcome, clock)
            if left_out or (activity.is_due() and activity.judge(tuple(self._activity.values()), clock)):
                self._changes += 1

    def observe(
        self,
        node_id: str,
        *,
        url: str = "",
        state: NodeState | None = None,
        applied: Mapping[int, int] | None = None,
        load: float | None = None,
        correction: float | None = None,
    ) -> None:
        """What the control plane says of a node: its address and state now, and load and versions in its last heartbeat.

        `correction` (above 0) takes the place of the epoch's for this node.
        """
        with self._lock:
            activity, clock = self._of(node_id), self._monotonic()
            if correction is not None:
                self._correct(node_id, correction)
            if load is not None:
                activity.reported(load, clock)
            for shard_id, version in (applied or {}).items():
                activity.applied[shard_id] = max(version, activity.applied.get(shard_id, version))
            if (url or activity.url, state or activity.state) == (activity.url, activity.state):
                return
            if self._is_another_process(node_id, activity, url, state):
                activity.restarted(clock)
            activity.url, activity.state = url or activity.url, state or activity.state
            self._changes += 1

    def shadows(self, query: Query, answered_by: str) -> tuple[ShadowCopy, ...]:
        """The new replicas that get this query as well, each drawn by its share; never the node that answered it."""
        table = self.table
        found = table.shadows(query.entity_id, query.range_start) if table else []
        if table is None or not found:
            return ()
        return tuple(
            ShadowCopy((s.since_epoch, s.shard_id, s.node_id), url, table.epoch)
            for s in found
            if s.node_id != answered_by and (url := self._url(table, s.node_id)) and self._draw() < s.share
        )

    def is_shadowed(self, key: tuple[int, int, str]) -> bool:
        """Whether the epoch routed by lists this new replica."""
        table = self.table
        return table is not None and table.is_shadowed(*key)

    def explain(self, query: Query, *, now: datetime, minimum_version: int | None = None) -> list[dict[str, object]]:
        """Every replica of the query's shard: its score, and why it would be left out, if it would."""
        roster = self._roster
        return explained(roster, query, now, minimum_version, self._monotonic()) if roster else []

    def _line(
        self,
        roster: Roster,
        key: int | str,
        clock: float,
        range_start: datetime,
        minimum_version: int | None,
        exclude: frozenset[str],
    ) -> LineUp:
        """Who can answer: the line-up that is kept, unless the query asks for what not all in it have."""
        # Read before the states that a new line-up is made of: what changes meanwhile is then seen next time.
        changes = self._changes
        line = roster.lines.get(key)
        if line is None or line.changes != changes or clock >= line.until:
            line = roster.line_up(key, changes, clock, self._draw)
        if line.suits(range_start, minimum_version, exclude):
            return line
        return roster.line_up_for(key, Asked(range_start, minimum_version, exclude), clock, self._draw)

    def _without_choice(self, roster: Roster, line: LineUp, minimum_version: int | None, cost: float) -> Decision:
        setting, best = line.setting, line.hopeful
        if best is None:
            ejected = [self._of(n).ejected_until - self._monotonic() for n in setting.left_out]
            wait = max(1.0, min((seconds for seconds in ejected if seconds > 0.0), default=1.0))
            reason = none_left(setting)
            return Decision(Verdict.NO_REPLICA, setting.shard_id, roster.epoch, cost=cost, basis=reason, retry_after=wait)
        reason = f"no replica of shard {setting.shard_id} is known to be at version {minimum_version}"
        predicted = best.holder.predicted
        return Decision(Verdict.BEHIND, best.shard_id, roster.epoch, best.node_id, best.url, predicted, cost, (), reason)

    def _correct(self, node_id: str, correction: float) -> None:
        self._corrections[node_id] = correction
        self._of(node_id).factor_until = -math.inf
        if self._roster is not None:
            self._roster.corrections[node_id] = correction

    def _is_another_process(self, node_id: str, activity: NodeActivity, url: str, state: NodeState | None) -> bool:
        """Whether what is said now of a node means that it was started anew."""
        table = self.table
        known = activity.url or (table.nodes[node_id].url if table and node_id in table.nodes else "")
        came_back = activity.state is NodeState.DEAD and state not in (None, NodeState.DEAD)
        return came_back or bool(url and known and url != known)

    def _url(self, table: RoutingTable, node_id: str) -> str:
        node = table.nodes.get(node_id)
        return self._of(node_id).url or (node.url if node else "")

    def _of(self, node_id: str) -> NodeActivity:
        activity = self._activity.get(node_id)
        # Two threads at once get the same one.
        return self._activity.setdefault(node_id, NodeActivity()) if activity is None else activity
