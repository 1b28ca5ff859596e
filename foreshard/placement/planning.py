"""From a placement problem to a plan: search, waves, deadlines, reasons, and the bounds beside what is attained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import numpy as np

from foreshard.model import Conflict, Isolation, Layout, Move, PlacementProblem, Plan, Replica
from foreshard.placement.building import build
from foreshard.placement.bundles import merged
from foreshard.placement.cluster import HOT, Cluster, Floats, Holdings, Ints
from foreshard.placement.codec import input_digest, plan_id_of
from foreshard.placement.conflicts import conflicts
from foreshard.placement.contradictions import refuse_contradictions
from foreshard.placement.deadlines import lateness, start_by
from foreshard.placement.effort import Effort
from foreshard.placement.explanation.deviations import deviations
from foreshard.placement.explanation.reasons import reasons
from foreshard.placement.explanation.scene import isolated
from foreshard.placement.isolation import isolations, retired
from foreshard.placement.loads import ceiling, node_quantiles, pool_quantile
from foreshard.placement.measuring import measured
from foreshard.placement.movement import GOALS, KINDS, Moves
from foreshard.placement.node_counts import node_counts
from foreshard.placement.searching import search
from foreshard.placement.solver import ITERATIONS
from foreshard.placement.summarising import summarise
from foreshard.placement.undoing import Undone, carried_out, parted
from foreshard.placement.working import Draft

_NOTICEABLE = 0.02  # new weights without moves must lower the peak, or the load above the ceilings, by this much


def solve(problem: PlacementProblem, *, seed: int = 0, iterations: int = ITERATIONS, time_limit: float | None = None) -> Plan:
    """A plan with few bytes moved that keeps every hard constraint and brings nodes under their ceilings, if that can be.

    `iterations` bounds the candidates of the local search, `time_limit` its seconds. Without a time limit the same problem,
    seed and iterations give the same plan on any machine. What cannot be done is planned as well as it can be and named in
    `conflicts`, `metrics.overloaded_nodes` and `summary`. Raises ForeshardError if the problem contradicts itself or has no
    live node. Time O(shards × (nodes + steps)) and what the changes and the local search take.
    """
    deadline = None if time_limit is None else time.monotonic() + time_limit
    effort = Effort(seed, iterations, deadline)
    refuse_contradictions(problem)
    changed = isolations(problem)
    plan = _plan(problem, changed, effort)
    carried = _possible(problem, plan, changed)
    return plan if carried == changed else _plan(problem, carried, effort)


def _possible(problem: PlacementProblem, plan: Plan, changed: tuple[Isolation, ...]) -> tuple[Isolation, ...]:
    """The isolations that the plan could carry out: one that begins is held, one that ends no more.

    None begins where the plan takes more than the movement budget, which may be for its sake.
    """
    held = {r.shard_id for r in plan.layout.replicas}
    policy, metrics = problem.policy, plan.metrics
    too_dear = metrics.moves > policy.max_moves or metrics.bytes_moved > policy.max_move_bytes
    return tuple(i for i in changed if (i.shard_id in held) is not i.ends and (i.ends or not too_dear))


def _plan(problem: PlacementProblem, changed: tuple[Isolation, ...], effort: Effort) -> Plan:
    wanted = replace(problem, shards=(*isolated(problem, changed), *retired(problem, [i for i in changed if i.ends])))
    bundled, stands = merged(wanted)
    planned = build(bundled, (r.node_id for r in problem.layout.replicas))
    found = search(planned, effort)
    cluster, draft = planned, found.draft
    moves, waves, undone = carried_out(planned, draft)
    if stands:
        cluster = build(wanted)
        rows = _rows(cluster, planned, stands)
        draft = _of_rows(draft, rows, cluster.held.node.shape[1])
        moves, waves = parted(cluster, draft, planned, rows, moves, waves)
    at_hand = build(problem) if changed else cluster
    before = node_quantiles(at_hand, at_hand.held)
    held = draft.held
    if not len(moves.shard):
        held = _weights_if_as_good(cluster, held, before)
    after = node_quantiles(cluster, held)
    metrics = measured(cluster, held, moves, waves, before, after, found.ended_by)
    deadlines = start_by(cluster, moves, waves.wave)
    said = reasons(cluster, moves, before / cluster.nodes.capacity[:, None])
    public = tuple(
        _move(cluster, moves, i, said[i], int(waves.wave[i]), deadlines.start_by[i]) for i in range(len(moves.shard))
    )
    digest = input_digest(problem)
    notes = [f"Left as it is: {left.why}." for left in undone[:3]] + [lateness(cluster, deadlines)]
    reweighed = not len(moves.shard) and not _same_weights(cluster.held, held)
    return Plan(
        plan_id=plan_id_of(digest, public),
        pool_id=problem.pool_id,
        base_epoch=problem.layout.epoch,
        input_digest=digest,
        moves=public,
        layout=_layout(cluster, held, problem.layout.epoch + 1),
        metrics=metrics,
        deviations=deviations(cluster, held).sentences,
        summary=summarise(cluster, held, metrics, after, changed, notes, reweighed, problem.heavy),
        isolations=changed,
        node_counts=node_counts(cluster, pool_quantile(cluster)),
        conflicts=(*conflicts(planned), *(_no_way(planned, left) for left in undone)),
    )


def _no_way(cluster: Cluster, left: Undone) -> Conflict:
    who = f"shard {cluster.shards.ids[left.shard]}"
    stays = f"{who} is to leave node {cluster.nodes.ids[left.source]}" if left.source >= 0 else f"{who} is to get a replica"
    return Conflict((stays, left.why), "make room where it is to go until it has moved, and plan again")


def _rows(cluster: Cluster, planned: Cluster, stands: Mapping[int, int]) -> Ints:
    """Each shard's row in the cluster of bundles, shape (S,)."""
    row = {int(shard): i for i, shard in enumerate(planned.shards.ids)}
    return np.array([row[stands.get(int(s), int(s))] for s in cluster.shards.ids], dtype=np.int64)


def _of_rows(draft: Draft, rows: Ints, places: int) -> Draft:
    """The draft of bundles as one of their shards, with at least so many places: each shard is where its bundle is."""
    short = max(0, places - draft.node.shape[1])
    empty = {"node": -1, "kind": 0, "weight": 0.0, "origin": -1, "goal": -1, "step": -1, "gain": 0.0}
    return draft._replace(
        **{
            name: np.pad(getattr(draft, name)[rows], ((0, 0), (0, short)), constant_values=nothing)
            for name, nothing in empty.items()
        }
    )


def _weights_if_as_good(cluster: Cluster, held: Holdings, before: Floats) -> Holdings:
    """New weights must be published to every gateway: without moves they have to be worth it."""
    old = cluster.held
    present = old.node >= 0
    sums = old.weight.sum(axis=1)
    if (old.weight[present] < 1e-6).any() or (np.abs(sums - 1.0) > 1e-6)[present.any(axis=1)].any():
        return held
    after = node_quantiles(cluster, held)
    limit, capacity = ceiling(cluster), cluster.nodes.capacity[:, None]
    over_before, over_after = (float(np.maximum(x - limit, 0.0).max(axis=1).sum()) for x in (before, after))
    if over_before > 1e-9 * float(limit.max(initial=0.0)):
        return held if over_after <= over_before * (1 - _NOTICEABLE) else old
    lower = float((after / capacity).max()) <= float((before / capacity).max()) * (1 - _NOTICEABLE)
    return held if lower and over_after <= 0.0 else old


def _same_weights(old: Holdings, new: Holdings) -> bool:
    places = min(old.weight.shape[1], new.weight.shape[1])
    return bool(np.allclose(old.weight[:, :places], new.weight[:, :places], atol=1e-9))


def _layout(cluster: Cluster, held: Holdings, epoch: int) -> Layout:
    shard, place = np.nonzero(held.node >= 0)
    order = np.lexsort((held.node[shard, place], shard))
    replicas = []
    for s, k in zip(shard[order].tolist(), place[order].tolist(), strict=True):
        node, hot = int(held.node[s, k]), held.kind[s, k] == HOT
        day = cluster.hot_from.get((s, node), cluster.covers_from) if hot else None
        replicas.append(Replica(int(cluster.shards.ids[s]), cluster.nodes.ids[node], float(held.weight[s, k]), day))
    return Layout(epoch, tuple(replicas))


def _move(cluster: Cluster, moves: Moves, i: int, reason: str, wave: int, begin: datetime | None) -> Move:
    names = cluster.nodes.ids
    source, target = int(moves.source[i]), int(moves.target[i])
    return Move(
        kind=KINDS[moves.kind[i]],
        shard_id=int(cluster.shards.ids[moves.shard[i]]),
        source=names[source] if source >= 0 else "",
        target=names[target] if target >= 0 else "",
        covers_from=cluster.covers_from if target >= 0 and moves.holds[i] == HOT else None,
        bytes=int(moves.bytes[i]),
        reason=reason,
        goal=GOALS[moves.goal[i]],
        gain=float(moves.gain[i]),
        wave=wave,
        start_by=begin,
    )
