"""From the current layout and the forecast to a plan: replica counts first, then weights, then the few moves still needed."""

from __future__ import annotations

import time

import numpy as np

from foreshard.model import PlacementProblem, Plan, PlanMetrics
from foreshard.placement import bounds
from foreshard.placement.balance import Limits, relieve, worthwhile
from foreshard.placement.codec import input_digest, plan_id_of
from foreshard.placement.draft import Draft
from foreshard.placement.instance import FULL, NONE, Floats, Instance, build
from foreshard.placement.moves import deviations_of, layout_of, moves_of
from foreshard.placement.replicas import replicas_wanted, settle
from foreshard.placement.summary import summarise
from foreshard.placement.target import load_bound
from foreshard.placement.weights import utilisation


def solve(problem: PlacementProblem, *, seed: int = 0, iterations: int = 20_000, time_limit: float | None = None) -> Plan:
    """A plan with few moves that keeps the policy's constraints and brings every node within its target, if that can be.

    `iterations` bounds the steps of the search, `time_limit` its seconds. Without a time limit the same problem, seed and
    iterations give the same plan on any machine; the search draws nothing at random, so every seed gives the same one.
    What cannot fit is planned as well as it can be, and named in `metrics.overloaded_nodes` and `summary`. If no node accepts
    shards, nothing is copied and draining nodes keep what they hold. Raises ForeshardError if the problem contradicts itself
    or has no live node. Time O(steps of the search × shards × horizon).
    """
    instance = build(problem)
    limits = Limits(iterations, None if time_limit is None else time.monotonic() + time_limit)
    most = max(problem.policy.max_replicas, problem.policy.min_full_replicas)
    peak_bound = bounds.peak_lower_bound(instance, instance.accepts, np.ones(len(instance.shard_ids), dtype=np.bool_), most)
    bound = load_bound(instance, peak_bound)
    draft = Draft.of(instance)
    settle(draft, replicas_wanted(instance), bound)
    draft = relieve(draft, peak_bound, bound, limits)
    _keep_weights_if_as_good(draft)
    return _plan(draft, bound, "movement budget" if draft.blocked else limits.ended_by)


def _keep_weights_if_as_good(draft: Draft) -> None:
    """New weights must be published to every gateway: without moves they have to be worth it."""
    instance = draft.instance
    if (draft.kind != instance.kind).any() or not _weights_valid(instance):
        return
    before = utilisation(instance, instance.kind, instance.weight)
    if not worthwhile(instance, before, draft.utilisation()):
        draft.reweigh(instance.weight.copy())


def _weights_valid(instance: Instance) -> bool:
    held = instance.kind > NONE
    sums = instance.weight.sum(axis=1)
    return bool((instance.weight[held] >= 1e-6).all() and (np.abs(sums - 1.0) <= 1e-6)[held.any(axis=1)].all())


def _plan(draft: Draft, bound: float, ended_by: str) -> Plan:
    instance, problem = draft.instance, draft.instance.problem
    before = utilisation(instance, instance.kind, instance.weight)
    draft.reweigh(draft.weight)
    after = draft.utilisation()
    moves = moves_of(draft)
    digest = input_digest(problem)
    usable = instance.accepts | ((draft.kind > NONE).any(axis=0) & instance.live)
    most = max(
        problem.policy.max_replicas, problem.policy.min_full_replicas, int((draft.kind > NONE).sum(axis=1).max(initial=0))
    )
    served = ((draft.kind == FULL) & instance.live).any(axis=1)  # every shard, if any node accepts shards
    lowest_bytes = bounds.repair_bytes(instance) if draft.blocked else bounds.bytes_lower_bound(instance)
    metrics = PlanMetrics(
        peak_before=_rounded_peak(before),
        peak_after=_rounded_peak(after),
        peak_lower_bound=bounds.peak_lower_bound(instance, usable, served, most),
        bytes_moved=sum(move.bytes for move in moves),
        bytes_lower_bound=lowest_bytes,
        moves=len(moves),
        ended_by=ended_by,
        overloaded_nodes=_overloaded(instance, after),
    )
    return Plan(
        plan_id=plan_id_of(digest, moves),
        pool_id=problem.pool_id,
        base_epoch=problem.layout.epoch,
        input_digest=digest,
        moves=moves,
        layout=layout_of(draft),
        metrics=metrics,
        deviations=deviations_of(draft, bound),
        summary=summarise(draft, metrics, after),
    )


def _rounded_peak(used: Floats) -> float:
    return round(float(used.max(initial=0.0)), 9)


def _overloaded(instance: Instance, used: Floats) -> tuple[str, ...]:
    over = used.max(axis=1) > instance.policy.target_utilisation + 1e-9
    return tuple(instance.nodes[n].node_id for n in np.flatnonzero(over))
