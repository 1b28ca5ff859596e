"""Chooses a node per query: two replicas sampled by weight, the one with the lower predicted and current load.

Source of the two choices: Mitzenmacher, "The power of two choices in randomized load balancing", 2001.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from foreshard.gateway.activity import NodeActivity, Outcome
from foreshard.gateway.decision import Decision, Score, Verdict, none_left, why
from foreshard.gateway.query import Query
from foreshard.gateway.routing_table import Candidate, RoutingTable
from foreshard.model import NodeState
from foreshard.routing.snapshot import Snapshot

# Part of a node's expected load that is taken from the forecast; the rest is what it carries now.
PREDICTED_SHARE = 0.5
# A node is never thought closer to its capacity than this, so that scores stay finite and ordered by what is in flight.
HIGHEST_UTILISATION = 0.95
# How far a node's latency, against the other nodes', may raise or lower its score.
LATENCY_BOUNDS = (0.25, 4.0)


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
    """Thread-safe. Holds one immutable routing table, swapped as a whole, and what was seen of each node.

    `corrections` multiply a node's score (above 1: it does worse than its declared capacity says), `operation_cost`
    weighs queries by their operation (1 for what is not listed). Same seed and same calls, same choices.
    """

    def __init__(
        self,
        seed: int | None = None,
        corrections: Mapping[str, float] | None = None,
        operation_cost: Mapping[str, float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._random = random.Random(seed)
        self._corrections = dict(corrections or {})
        self._operation_cost = dict(operation_cost or {})
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._table: RoutingTable | None = None
        self._activity: dict[str, NodeActivity] = {}
        self._in_flight: Counter[int] = Counter()

    @property
    def epoch(self) -> int:
        """The epoch routed by, 0 before the first."""
        table = self._table
        return table.epoch if table else 0

    @property
    def table(self) -> RoutingTable | None:
        return self._table

    def adopt(self, snapshot: Snapshot) -> bool:
        """Swaps the table in; False if this epoch or a later one is held already. Raises ForeshardError, keeping the old."""
        table = RoutingTable(snapshot)
        with self._lock:
            if table.epoch <= self.epoch:
                return False
            self._table = table
            for activity in self._activity.values():
                activity.refused_until.clear()
            return True

    def is_drained(self, epoch: int) -> bool:
        """True if no query that was routed by an epoch before this one is still in flight."""
        with self._lock:
            return not any(count for routed_by, count in self._in_flight.items() if routed_by < epoch)

    def route(
        self, query: Query, *, now: datetime, minimum_version: int | None = None, exclude: frozenset[str] = frozenset()
    ) -> Decision:
        """Where to send the query. `minimum_version` is what its token asks for; `exclude` names nodes already tried."""
        table = self._table
        if table is None:
            return Decision(Verdict.NO_REPLICA, -1, 0, reason="no epoch has been published or adopted yet")
        with self._lock:
            return self._route(table, query, now, minimum_version, exclude)

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
            self._of(decision.node_id).done(decision.shard_id, outcome, self._monotonic())

    def observe(
        self,
        node_id: str,
        *,
        url: str = "",
        state: NodeState | None = None,
        applied: Mapping[int, int] | None = None,
        correction: float | None = None,
    ) -> None:
        """What the control plane says of a node: its address and state now, and the versions in its last heartbeat.

        `correction` (above 0) takes the place of the epoch's for this node.
        """
        with self._lock:
            if correction is not None:
                self._corrections[node_id] = correction
            activity = self._of(node_id)
            if url and url != activity.url:
                activity.moved(url)
            activity.state = state or activity.state
            for shard_id, version in (applied or {}).items():
                activity.applied[shard_id] = max(version, activity.applied.get(shard_id, version))

    def shadows(self, query: Query, answered_by: str) -> tuple[ShadowCopy, ...]:
        """The new replicas that get this query as well, each drawn by its share; never the node that answered it."""
        table = self._table
        found = table.shadows(query.entity_id, query.range_start) if table else []
        if table is None or not found:
            return ()
        with self._lock:
            return tuple(
                ShadowCopy((s.since_epoch, s.shard_id, s.node_id), url, table.epoch)
                for s in found
                if s.node_id != answered_by and (url := self._url(table, s.node_id)) and self._random.random() < s.share
            )

    def is_shadowed(self, key: tuple[int, int, str]) -> bool:
        """Whether the epoch routed by lists this new replica."""
        table = self._table
        return table is not None and table.is_shadowed(*key)

    def explain(self, query: Query, *, now: datetime, minimum_version: int | None = None) -> list[dict[str, object]]:
        """Every replica of the query's shard: its score, and why it would be left out, if it would."""
        table = self._table
        if table is None:
            return []
        with self._lock:
            clock = self._monotonic()
            return [
                {
                    "node_id": candidate.node.node_id,
                    "shard_id": candidate.shard_id,
                    "weight": candidate.weight,
                    "covers_from": candidate.covers_from.date().isoformat() if candidate.covers_from else None,
                    "applied_version": self._of(candidate.node.node_id).applied.get(candidate.shard_id),
                    "in_flight": self._of(candidate.node.node_id).in_flight,
                    "score": self._score(table, candidate, now, clock),
                    "left_out": self._left_out(candidate, query, clock, frozenset())
                    or (
                        "" if self._has_version(candidate, minimum_version) else f"not known to be at version {minimum_version}"
                    ),
                }
                for candidate in table.candidates(query.entity_id)
            ]

    def _route(
        self, table: RoutingTable, query: Query, now: datetime, minimum_version: int | None, exclude: frozenset[str]
    ) -> Decision:
        clock = self._monotonic()
        left_out: dict[str, str] = {}
        able: list[Candidate] = []
        for candidate in table.candidates(query.entity_id):
            why_not = self._left_out(candidate, query, clock, exclude)
            if why_not:
                left_out[candidate.node.node_id] = why_not
            else:
                able.append(candidate)
        found = Decision(
            Verdict.ROUTED,
            table.shard_of(query.entity_id),
            table.epoch,
            cost=self._operation_cost.get(query.operation_id, 1.0),
        )
        if not able:
            return replace(
                found,
                verdict=Verdict.NO_REPLICA,
                reason=none_left(found.shard_id, left_out),
                retry_after=self._retry_after(clock),
            )
        current = [candidate for candidate in able if self._has_version(candidate, minimum_version)]
        if not current:
            best = max(able, key=self._hopeful)
            reason = f"no replica of shard {found.shard_id} is known to be at version {minimum_version}"
            return self._chosen(found, table, best, (), now, verdict=Verdict.BEHIND, reason=reason)
        # A node that drains still holds its data: it is asked only when nobody else can answer.
        staying = [candidate for candidate in current if not self._drains(candidate)] or current
        sampled = self._sample_two(staying)
        scores = tuple(Score(c.node.node_id, self._score(table, c, now, clock)) for c in sampled)
        best = sampled[min(range(len(sampled)), key=lambda i: scores[i].score)]
        return self._chosen(found, table, best, scores, now, reason=why(found.shard_id, scores, len(staying), left_out))

    def _chosen(
        self,
        found: Decision,
        table: RoutingTable,
        candidate: Candidate,
        scores: tuple[Score, ...],
        now: datetime,
        reason: str,
        verdict: Verdict = Verdict.ROUTED,
    ) -> Decision:
        node = candidate.node
        return replace(
            found,
            verdict=verdict,
            shard_id=candidate.shard_id,
            node_id=node.node_id,
            url=self._url(table, node.node_id),
            predicted_load=table.predicted_load(node.node_id, now) or 0.0,
            candidates=scores,
            reason=reason,
        )

    def _left_out(self, candidate: Candidate, query: Query, clock: float, exclude: Iterable[str]) -> str:
        node, activity = candidate.node, self._of(candidate.node.node_id)
        if NodeState.DEAD in (node.state, activity.state):
            return "is dead"
        if not candidate.covers(query.range_start) and candidate.covers_from:
            return f"covers only {candidate.covers_from.date()} on"
        if node.node_id in exclude:
            return "was tried for this query"
        if activity.ejected_until > clock:
            return "failed repeatedly"
        if activity.refused_until.get(candidate.shard_id, clock) > clock:
            return "said the shard is not its own"
        return "" if activity.url or node.url else "has no address"

    def _drains(self, candidate: Candidate) -> bool:
        return NodeState.DRAINING in (candidate.node.state, self._of(candidate.node.node_id).state)

    def _has_version(self, candidate: Candidate, minimum_version: int | None) -> bool:
        known = self._of(candidate.node.node_id).applied.get(candidate.shard_id)
        return minimum_version is None or (known is not None and known >= minimum_version)

    def _hopeful(self, candidate: Candidate) -> tuple[bool, int]:
        """Nodes of which no version is known come first, then the most advanced."""
        known = self._of(candidate.node.node_id).applied.get(candidate.shard_id)
        return known is None, known or 0

    def _sample_two(self, candidates: list[Candidate]) -> list[Candidate]:
        """Two (or the only one) without replacement, by weight: Efraimidis and Spirakis 2006."""
        keyed = [(self._random.random() ** (1.0 / candidate.weight), i) for i, candidate in enumerate(candidates)]
        return [candidates[i] for _, i in sorted(keyed, reverse=True)[:2]]

    def _score(self, table: RoutingTable, candidate: Candidate, now: datetime, clock: float) -> float:
        """Correction × (in flight + 1) / (weight · capacity), stretched by 1 / (1 − utilisation) as a queue's delay is."""
        node, activity = candidate.node, self._of(candidate.node.node_id)
        current, predicted = activity.current_load(clock), table.predicted_load(node.node_id, now)
        expected = current if predicted is None else PREDICTED_SHARE * predicted + (1 - PREDICTED_SHARE) * current
        idle = 1.0 - min(HIGHEST_UTILISATION, expected / node.capacity)
        base = (activity.in_flight + 1) / (candidate.weight * node.capacity)
        return self._corrections.get(node.node_id, 1.0) * self._slowness(activity) * base / idle

    def _slowness(self, activity: NodeActivity) -> float:
        """The node's latency against the mean of all nodes: a node that answers slowly without failing is asked less."""
        known = [a.latency for a in self._activity.values() if a.latency is not None]
        if activity.latency is None or not known or not sum(known):
            return 1.0
        low, high = LATENCY_BOUNDS
        return min(high, max(low, activity.latency / (sum(known) / len(known))))

    def _retry_after(self, clock: float) -> float:
        ejected = [a.ejected_until - clock for a in self._activity.values() if a.ejected_until > clock]
        return max(1.0, min(ejected, default=1.0))

    def _url(self, table: RoutingTable, node_id: str) -> str:
        node = table.nodes.get(node_id)
        return self._of(node_id).url or (node.url if node else "")

    def _of(self, node_id: str) -> NodeActivity:
        activity = self._activity.get(node_id)
        if activity is None:
            activity = self._activity[node_id] = NodeActivity()
        return activity
