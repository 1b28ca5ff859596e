"""Whether a draft that nothing forces is worse than the layout at hand, so that it is better left alone."""

from __future__ import annotations

import numpy as np

from foreshard.model import Goal
from foreshard.placement.cluster import Cluster, Floats
from foreshard.placement.loads import node_quantiles
from foreshard.placement.movement import GOALS
from foreshard.placement.search.evaluation import evaluate
from foreshard.placement.units import assignment_of, units_of
from foreshard.placement.working import Draft, Facts, draft_of

_FORCED = [GOALS.index(g) for g in (Goal.REPAIR, Goal.DRAIN)]
_CLOSE = 1e-6


def is_worse(cluster: Cluster, facts: Facts, draft: Draft) -> bool:
    """Whether load above ceilings, the peak, or the costs with those of the moves end higher although nothing had to change.

    Each stage lowers what it is for by the loads as it finds them; a later one may undo that. Time O(S × K × (T × F + R)).
    """
    held = cluster.held.node
    too_many = ((held >= 0).sum(axis=1) > cluster.shards.most).any()
    forced = np.isin(draft.goal, _FORCED).any() or too_many or not cluster.nodes.accepts[held[held >= 0]].all()
    if forced or not cluster.accepting:
        return False
    before, after = node_quantiles(cluster, cluster.held), node_quantiles(cluster, draft.held)
    if _excess(facts, after) > _excess(facts, before) * (1 + _CLOSE) + _CLOSE * float(facts.capacity.max()):
        return True
    capacity = facts.capacity[:, None]
    allowed = max(float((before / capacity).max()), float((facts.ceiling / capacity).max()))
    if float((after / capacity).max()) > allowed * (1 + _CLOSE):
        return True
    if not (cluster.costs.soft.any() or cluster.costs.balance.any()):
        return False
    return _cost(cluster, facts, draft) > _cost(cluster, facts, draft_of(cluster, 1)) * (1 + _CLOSE) + _CLOSE


def _excess(facts: Facts, loads: Floats) -> float:
    return float(np.maximum(loads - facts.ceiling, 0.0).max(axis=1).sum())


def _cost(cluster: Cluster, facts: Facts, draft: Draft) -> float:
    shard, place = units_of(draft)
    return evaluate(assignment_of(cluster, facts, draft, 0.0), draft.node[shard, place].astype(np.int64)).total
