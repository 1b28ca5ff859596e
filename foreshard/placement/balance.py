"""Moves that relieve nodes: from the most utilised node, the replica whose departure lowers the peak most for its bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foreshard.placement.draft import BALANCE, Draft, Note
from foreshard.placement.instance import NONE, Bools, Floats, Instance, Ints
from foreshard.placement.target import peak_with
from foreshard.placement.weights import balanced

NOTICEABLE = 0.02  # a plan's moves must lower the peak, or the overload, by this much
_CLOSE = 1.02  # a peak this near to the lower bound is not worth a move


@dataclass
class Limits:
    """What ends the search: steps left, and the time on the monotonic clock at which it stops."""

    iterations: int
    deadline: float | None = None
    ended_by: str = "converged"

    def step(self) -> bool:
        """Counts a step; False, and says why, when no more may be taken."""
        if self.iterations <= 0:
            self.ended_by = "iterations"
            return False
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.ended_by = "time limit"
            return False
        self.iterations -= 1
        return True


@dataclass(frozen=True)
class Step:
    shard: int
    source: int
    target: int


def overload(instance: Instance, used: Floats) -> float:
    """Σ over nodes of the load above capacity × target utilisation at the node's worst step."""
    above = np.maximum(used.max(axis=1) - instance.policy.target_utilisation, 0.0) * instance.capacity
    return float(np.add.accumulate(above)[-1])


def worthwhile(instance: Instance, before: Floats, after: Floats) -> bool:
    """Whether utilisations `after`, shape (N, T), are noticeably better than `before`: less overload or a lower peak."""
    over_before, over_after = overload(instance, before), overload(instance, after)
    if over_before > 1e-9 and over_after <= over_before * (1 - NOTICEABLE):
        return True
    return over_after <= over_before + 1e-9 and float(after.max()) <= float(before.max()) * (1 - NOTICEABLE)


def relieve(draft: Draft, peak_bound: float, bound: float, limits: Limits) -> Draft:
    """The draft, its weights balanced, with moves in rounds for as long as each round is worth it.

    An empty node takes shards whenever that lowers the peak noticeably; between nodes that hold shards something moves only
    if one is above its bound. So a new node is filled without stirring the others.
    A round depends only on where the replicas are, so a search that has
    converged finds nothing when it starts from its own result.
    """
    draft.reweigh(balanced(draft.instance, draft.kind))
    better: Draft | None = draft
    while better is not None and limits.ended_by == "converged":
        draft = better
        rounds = (_round(draft, takers, peak_bound, bound, limits) for takers in _takers(draft, peak_bound, bound))
        better = next((trial for trial in rounds if trial is not None), None)
    return better or draft


def _takers(draft: Draft, peak_bound: float, bound: float) -> Iterator[Bools]:
    """The sets of nodes, shape (N,), that may take shards, in the order in which they are tried."""
    peak, empty = float(draft.utilisation().max()), _empty(draft)
    if empty.any() and peak > peak_bound * _CLOSE:
        yield empty
    if draft.instance.accepting > 1 and peak > bound:
        yield draft.instance.accepts


def _round(draft: Draft, takers: Bools, peak_bound: float, bound: float, limits: Limits) -> Draft | None:
    """The draft after one search with its weights balanced anew, or None if that is not worth its moves."""
    scratch, trial = draft.copied(), draft.copied()
    steps = _search(scratch, takers, peak_bound, bound, limits)
    draft.blocked |= scratch.blocked
    for step in steps:
        _apply(trial, step)
    trial.reweigh(balanced(trial.instance, trial.kind))
    trial.blocked |= scratch.blocked
    return trial if steps and worthwhile(draft.instance, draft.utilisation(), trial.utilisation()) else None


def _empty(draft: Draft) -> Bools:
    """Which accepting nodes hold nothing, shape (N,)."""
    empty: Bools = draft.instance.accepts & ~(draft.kind > NONE).any(axis=0)
    return empty


def _search(draft: Draft, takers: Bools, peak_bound: float, bound: float, limits: Limits) -> list[Step]:
    """Steps that lower the peak greedily, cut where most of the relief is reached: the rest would move much for little."""
    steps: list[Step] = []
    trace = [_height(draft)]
    while limits.step():
        step = _best_step(draft, takers, peak_bound, bound)
        if step is None:
            break
        _apply(draft, step)
        steps.append(step)
        trace.append(_height(draft))
    return steps[: _enough(trace)]


def _height(draft: Draft) -> tuple[float, float]:
    used = draft.utilisation()
    return overload(draft.instance, used), float(used.max())


def _enough(trace: list[tuple[float, float]]) -> int:
    """The fewest steps that take away nine tenths of the peak that all steps take away, and all overload that they do."""
    over = trace[-1][0]
    lowest = min(p for _, p in trace)
    for count, (o, p) in enumerate(trace):
        if o <= over + 0.01 * trace[0][0] + 1e-12 and p <= lowest + 0.1 * max(0.0, trace[0][1] - lowest):
            return count
    return len(trace) - 1


def _best_step(draft: Draft, takers: Bools, peak_bound: float, bound: float) -> Step | None:
    instance = draft.instance
    peaks = draft.utilisation().max(axis=1)
    worst = np.lexsort((np.arange(len(peaks)), -peaks))
    aim = peak_bound * _CLOSE
    for position, source in enumerate(worst):
        over = peaks[source] > instance.policy.target_utilisation
        if peaks[source] <= aim or (position > 0 and not over):
            return None
        for step in _steps_from(draft, takers, int(source), float(peaks[source]), aim, bound):
            kinds = draft.relocated(step.shard, step.source, step.target, int(draft.kind[step.shard, step.source]))
            if draft.fits_budget(step.shard, kinds):
                return step
    return None


def _steps_from(draft: Draft, takers: Bools, source: int, peak: float, aim: float, bound: float) -> Iterator[Step]:
    """Improving relocations off one node, the most relief per byte first, a few of them.

    A replica that goes to a node of its first ranks counts for more, and one that leaves such a node for less.
    """
    instance = draft.instance
    shards = np.flatnonzero(draft.kind[:, source] > NONE)
    targets = np.flatnonzero(takers & (np.arange(len(instance.nodes)) != source))
    if not shards.size or not targets.size:
        return
    part = np.array([draft.share(int(s))[source] for s in shards])
    left = peak_with(draft, np.array([source]), -part[None, :], shards)[0]
    taken = peak_with(draft, targets, np.broadcast_to(part, (len(targets), len(shards))), shards)
    worse = np.maximum(taken, left[None, :])
    gain = peak - np.maximum(worse, aim)
    allowed = (
        (worse < peak * (1 - 1e-4)) & (draft.kind[shards][:, targets].T == NONE) & ~_zone_lost(draft, shards, source, targets)
    )
    roomy = allowed & (taken <= bound)
    if roomy.any():
        allowed = roomy
    score = gain * _preference(draft, shards, source, targets) / _bytes(instance, draft, shards, source)[None, :]
    score = np.where(allowed, score, -1.0)
    flat = np.argsort(-score, axis=None, kind="stable")[:16]
    for target, shard in zip(*np.unravel_index(flat, score.shape), strict=True):
        if score[target, shard] > 0:
            yield Step(int(shards[shard]), source, int(targets[target]))


def _preference(draft: Draft, shards: Ints, source: int, targets: Ints) -> Floats:
    held = (draft.kind[shards] > NONE).sum(axis=1)
    ranks = draft.instance.rank[shards]
    wanted_there = (ranks[:, targets] < held[:, None]).T
    at_home = ranks[:, source] < held
    factor: Floats = np.where(wanted_there, 2.0, 1.0) * np.where(at_home, 1.0, 2.0)[None, :]
    return factor


def _bytes(instance: Instance, draft: Draft, shards: Ints, source: int) -> Floats:
    """Size of each replica, and a tenth of the mean one so that tiny shards do not count as free."""
    size = instance.size[shards, draft.kind[shards, source]].astype(np.float64)
    price: Floats = size + 0.1 * float(np.add.accumulate(size)[-1]) / len(size) + 1.0
    return price


def _zone_lost(draft: Draft, shards: Ints, source: int, targets: Ints) -> Bools:
    """Which moves, shape (targets, shards), would put a replica that is alone in its zone beside another."""
    held = draft.kind[shards] > NONE
    held[:, source] = False
    beside = (held.astype(np.int64) @ draft.instance.same_zone.astype(np.int64)) > 0
    lost: Bools = (beside[:, targets] & ~beside[:, [source]]).T
    return lost


def _apply(draft: Draft, step: Step) -> None:
    instance = draft.instance
    used = draft.utilisation()[step.source]
    at = int(used.argmax())
    carried = float(draft.share(step.shard)[step.source] * instance.mean[step.shard, at])
    reason = (
        f"node {instance.nodes[step.source].node_id} predicted at {used[at]:.2f} of capacity at {instance.step_label(at)}, "
        f"cap {instance.policy.target_utilisation:.2f}; shard {instance.shard_ids[step.shard]} carries {carried:.3g}/s of it"
    )
    kinds = draft.relocated(step.shard, step.source, step.target, int(draft.kind[step.shard, step.source]))
    draft.relocate(step.shard, step.source, step.target, kinds, Note(BALANCE, reason))
