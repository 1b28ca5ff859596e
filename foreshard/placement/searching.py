"""The stages of a search over arrays, from the layout at hand to a draft of the next."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foreshard.placement.breaches import is_broken
from foreshard.placement.cluster import Bools, Cluster, Floats
from foreshard.placement.counting import wanted_replicas
from foreshard.placement.exact_repair import repair_exactly
from foreshard.placement.facts import facts_of
from foreshard.placement.filling import fill
from foreshard.placement.loads import fair_share
from foreshard.placement.placing import BLOCKED
from foreshard.placement.polishing import polish
from foreshard.placement.relieving import relieve
from foreshard.placement.settling import settle
from foreshard.placement.weighing import normalise, weigh
from foreshard.placement.working import Draft, Facts, Reference, draft_of, draft_reference, facts_reference

_ROUNDS = 8  # of weights, then moves; each round may make room for the next


@dataclass(frozen=True)
class Effort:
    """What bounds the search: steps of its last, improving stage, and the monotonic time at which it stops."""

    seed: int = 0
    iterations: int = 20_000
    deadline: float | None = None

    def seconds_left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


class Found(NamedTuple):
    draft: Draft
    facts: Facts
    ended_by: str


def search(cluster: Cluster, effort: Effort) -> Found:
    """The draft of the next layout: replica counts, weights, moves between nodes, and where costs or overload remain a local
    search. Time O(S × K × T × F) and what the changes take."""
    facts = facts_of(cluster)
    wanted = wanted_replicas(cluster, cluster.held)
    draft = draft_of(cluster, int(wanted.max(initial=1)))
    policy = cluster.policy
    f, d = facts_reference(facts), draft_reference(draft)
    budget = np.array([policy.max_moves, policy.max_move_bytes, 0], dtype=np.float64)
    if not cluster.accepting:
        settle(f, d, wanted, cluster.shards.least, cluster.shards.most, cluster.extra_kind(), budget)
        normalise(d)
        return Found(draft, facts, "converged")
    settle(f, d, wanted, cluster.shards.least, cluster.shards.most, cluster.extra_kind(), budget)
    if is_broken(cluster, draft):
        repair_exactly(cluster, facts, draft)
    for _ in range(_ROUNDS):
        weigh(f, d, facts.target)
        if not _spread(cluster, f, d, budget):
            break
    ended_by = polish(cluster, facts, draft, effort.seed, effort.iterations, effort.seconds_left())
    weigh(f, d, facts.target)
    normalise(d)
    return Found(draft, facts, "movement budget" if budget[BLOCKED] else ended_by)


def _spread(cluster: Cluster, facts: Reference, draft: Reference, budget: Floats) -> int:
    """Fills nodes that joined or are empty, and takes load off nodes above their ceiling; returns moves.

    What goes to a new node first comes from nodes above their ceiling, so that little moves twice.
    """
    is_fresh = cluster.nodes.accepts & (cluster.nodes.joining | ~_holds(cluster))
    fresh = np.flatnonzero(is_fresh)
    moves = 0
    if fresh.size:
        moves += relieve(facts, draft, fresh, cluster.policy.settle, budget)
        fair = fair_share(cluster)
        for node in fresh:
            moves += fill(facts, draft, node, is_fresh, cluster.policy.floor_load * fair[node], fair[node], budget)
    takers = np.flatnonzero(cluster.nodes.accepts)
    return moves + int(relieve(facts, draft, takers, cluster.policy.settle, budget))


def _holds(cluster: Cluster) -> Bools:
    """Which nodes hold anything in the layout at hand, shape (N,)."""
    node = cluster.held.node
    held: Bools = np.bincount(node[node >= 0], minlength=len(cluster.nodes.ids)) > 0
    return held
