"""The local search on a draft: where costs are to be lowered, or what shifting single replicas could not mend."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foreshard.model import Goal
from foreshard.placement.assignment import Assignment
from foreshard.placement.budget import restore_if_too_dear
from foreshard.placement.cluster import Bools, Cluster, Ints
from foreshard.placement.effort import Effort
from foreshard.placement.movement import GOALS
from foreshard.placement.placing import relocate
from foreshard.placement.search.evaluation import broken, evaluate
from foreshard.placement.search.improve import improve
from foreshard.placement.shifting import excess, share_of, worst_step
from foreshard.placement.units import assignment_of, units_of
from foreshard.placement.working import Draft, Facts, draft_reference, facts_reference

_NOTICEABLE = 0.02  # part of the overload that must go for a plan's further moves
_SMALL = 20_000  # loads of all units together, up to which the bytes of relieving nodes are tried to be lowered
_LARGEST = 2_000_000  # loads of all units together, above which overload alone is left to shifting


class Polished(NamedTuple):
    changed: bool
    ended_by: str


def polish(cluster: Cluster, facts: Facts, draft: Draft, trimmable: Bools, effort: Effort) -> Polished:
    """Improves the draft in place within the movement budget.

    Where it is only about the bytes of relieving nodes no replica moves but those that were on `trimmable` nodes, shape (N,).
    """
    has_costs = _has_costs(cluster)
    over = overload(facts, draft)
    loads = draft.node.size * facts.mean.shape[1]
    mendable = over > 0 and loads <= _LARGEST
    needed = has_costs or mendable or _is_broken(cluster, draft)
    if not needed and not ((draft.goal == _BALANCE).any() and trimmable.any() and loads <= _SMALL):
        return Polished(False, "converged")
    shard, place = units_of(draft)
    if not shard.size:
        return Polished(False, "converged")
    assignment = assignment_of(cluster, facts, draft, _overload_weight(cluster, facts))
    start = draft.node[shard, place].astype(np.int64)
    if not needed:
        assignment = assignment._replace(fixed=assignment.fixed | ~trimmable[np.maximum(assignment.initial, 0)])
    improved = improve(assignment, start, seed=effort.seed, iterations=effort.iterations, time_limit=effort.seconds_left())
    if _worth(assignment, start, improved.node, has_costs):
        before = draft.copied()
        relieved = evaluate(assignment, improved.node).overload < evaluate(assignment, start).overload
        _carry_over(facts, draft, shard, place, improved.node, Goal.BALANCE if relieved or not has_costs else Goal.COST)
        return Polished(not restore_if_too_dear(cluster, draft, before), improved.ended_by)
    return Polished(False, improved.ended_by)


def overload(facts: Facts, draft: Draft) -> float:
    """Σ over nodes and steps of the load above the ceiling."""
    f, d = facts_reference(facts), draft_reference(draft)
    return float(sum(excess(f, d, n, facts.ceiling[n] * (1 + 1e-9)) for n in np.flatnonzero(facts.live)))


_BALANCE = GOALS.index(Goal.BALANCE)


def _has_costs(cluster: Cluster) -> bool:
    costs = cluster.costs
    return bool(
        costs.soft.any()
        or costs.balance.any()
        or costs.pair.any()
        or cluster.shards.move_cost.any()
        or cluster.policy.group_move_cost > 0
    )


def _is_broken(cluster: Cluster, draft: Draft) -> bool:
    """Whether a node is above a limit, or a group may be spread wrongly: what placing single replicas does not mend."""
    groups = cluster.groups
    over = (draft.used > cluster.nodes.limit * (1 + 1e-12)).any()
    return bool(over or groups.distinct.any() or (groups.min_zones > 1).any() or len(groups.near))


def _overload_weight(cluster: Cluster, facts: Facts) -> float:
    """So high that a hundredth of a node's ceiling outweighs every move: overload comes before bytes."""
    shards = cluster.shards
    moves = float(shards.size.max(axis=1).sum()) * cluster.policy.gigabyte_cost / 1e9 + float(shards.move_cost.sum())
    lowest = float(np.min(facts.ceiling, where=facts.ceiling > 0, initial=np.inf))
    return (1.0 + moves) / (0.01 * lowest) if np.isfinite(lowest) else 0.0


def _worth(assignment: Assignment, start: Ints, node: Ints, has_costs: bool) -> bool:
    """Whether the result is cheaper; where only overload counts, noticeably."""
    if sum(broken(assignment, node).values()) < sum(broken(assignment, start).values()):
        return True
    before, after = evaluate(assignment, start), evaluate(assignment, node)
    if has_costs:
        return after.total < before.total
    if before.overload > 0:
        return after.overload < before.overload * (1 - _NOTICEABLE)
    return after.total < before.total


def _carry_over(facts: Facts, draft: Draft, shard: Ints, place: Ints, node: Ints, goal: Goal) -> None:
    f, d = facts_reference(facts), draft_reference(draft)
    for s, k, n in zip(shard, place, node, strict=True):
        if draft.node[s, k] != n:
            source = draft.node[s, k]
            step, gain = worst_step(f, d, source, s, share_of(f, d, s, k)) if goal is Goal.BALANCE else (-1, 0.0)
            relocate(f, d, s, k, n, draft.kind[s, k], GOALS.index(goal), step, gain)
