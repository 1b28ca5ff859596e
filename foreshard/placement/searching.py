"""The stages of a search over arrays, from the layout at hand to a draft of the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foreshard.placement.alike import are_alike, most_alike, spread_alike
from foreshard.placement.breaches import is_broken
from foreshard.placement.budget import left_of_budget
from foreshard.placement.cluster import FULL, Cluster, Floats
from foreshard.placement.counting import wanted_replicas
from foreshard.placement.effort import Effort
from foreshard.placement.exact_repair import repair_exactly
from foreshard.placement.facts import facts_of
from foreshard.placement.filling import fill
from foreshard.placement.loads import fair_share
from foreshard.placement.placing import BLOCKED, BYTES, MOVES
from foreshard.placement.polishing import polish
from foreshard.placement.relieving import relieve
from foreshard.placement.second_thoughts import is_worse
from foreshard.placement.settling import settle
from foreshard.placement.shifting import is_above
from foreshard.placement.weighing import normalise, weigh
from foreshard.placement.working import Draft, Facts, Reference, draft_of, draft_reference, facts_reference, recharge

_ROUNDS = 8  # of weights, then moves; each round may make room for the next


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
    if spread := _spread_alike(cluster, facts, draft):
        return spread
    budget = np.array([policy.max_moves, policy.max_move_bytes, 0], dtype=np.float64)
    settle(f, d, wanted, cluster.shards.least, cluster.shards.most, cluster.extra_kind(), budget)
    if not cluster.accepting:
        normalise(d)
        return Found(draft, facts, "converged")
    if is_broken(cluster, draft) and repair_exactly(cluster, facts, draft, budget):
        budget[[MOVES, BYTES]] = left_of_budget(cluster, draft)
    weigh(f, d, facts.target)
    above = np.array([is_above(f, d, n, facts.ceiling[n]) for n in range(len(facts.capacity))])
    for _ in range(_ROUNDS):
        if not _spread(cluster, f, d, budget):
            break
        weigh(f, d, facts.target)
    trimmable = above if not cluster.fresh().any() else np.zeros_like(above)
    polished = polish(cluster, facts, draft, trimmable, effort)
    if polished.changed:
        weigh(f, d, facts.target)
    normalise(d)
    if is_worse(cluster, facts, draft):
        draft = draft_of(cluster, draft.node.shape[1])
        normalise(draft_reference(draft))
    return Found(draft, facts, "movement budget" if budget[BLOCKED] else polished.ended_by)


def _spread_alike(cluster: Cluster, facts: Facts, draft: Draft) -> Found | None:
    """Where shards are alike the fewest moves are known exactly, and the cheapest of these; None where they are not."""
    if draft.node.shape[1] > 1 or cluster.costs.soft.any() or cluster.costs.balance.any() or not are_alike(cluster):
        return None
    most, fresh = most_alike(cluster, facts.ceiling), cluster.fresh()
    unit = facts.mean.max(axis=0, initial=0.0)
    loaded = unit > 0
    floors = cluster.policy.floor_load * fair_share(cluster)[:, loaded] / unit[loaded]
    least = np.where(fresh, np.floor(floors.min(axis=1)) if loaded.any() else 0, 0).astype(np.int64)
    moves = spread_alike(cluster, most, least)
    policy = cluster.policy
    if moves is None or len(moves.shard) > policy.max_moves or moves.bytes.sum() > policy.max_move_bytes:
        return None
    copies = moves.target >= 0
    shard = moves.shard[copies]
    draft.node[shard, 0], draft.kind[shard, 0] = moves.target[copies], FULL
    draft.weight[:] = draft.node >= 0
    draft.origin[shard, 0], draft.goal[shard, 0] = moves.source[copies], moves.goal[copies]
    draft.gain[shard, 0] = moves.gain[copies]
    recharge(cluster, draft)
    return Found(draft, facts, "converged")


def _spread(cluster: Cluster, facts: Reference, draft: Reference, budget: Floats) -> int:
    """Fills nodes that joined or are empty, and takes load off nodes above their ceiling; returns moves.

    What goes to a new node first comes from nodes above their ceiling, so that little moves twice.
    """
    is_fresh = cluster.fresh()
    fresh = np.flatnonzero(is_fresh)
    moves = 0
    if fresh.size:
        moves += relieve(facts, draft, fresh, cluster.policy.settle, budget)
        fair = fair_share(cluster)
        for node in fresh:
            moves += fill(facts, draft, node, is_fresh, cluster.policy.floor_load * fair[node], fair[node], budget)
    takers = np.flatnonzero(cluster.nodes.accepts)
    return moves + int(relieve(facts, draft, takers, cluster.policy.settle, budget))
