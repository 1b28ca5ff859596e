"""A plan for people: nodes before and after, waves of moves, bounds, what is ahead, and what cannot be done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from foreshard.model import Conflict, Goal, Isolation, Layout, Move, NodeCount, NodeState, PlacementProblem, Plan, PlanMetrics
from foreshard.placement.cluster import Floats
from foreshard.placement.explanation.deviations import deviations
from foreshard.placement.explanation.nothing import next_move
from foreshard.placement.explanation.scene import Scene, scene
from foreshard.placement.explanation.wording import figure, number

_SENTENCES = 20  # deviations written out; all are counted


@dataclass(frozen=True, slots=True)
class NodeRow:
    """Of one node the highest predicted load as a share of its capacity, and when, before and after the plan."""

    node_id: str
    state: str
    capacity: float
    utilisation_before: float
    utilisation_after: float
    step_before: str
    step_after: str
    bound: float  # share of capacity above which it is relieved, at step_after; 0 if it accepts no shards
    over: bool  # above its bound at some step after the plan
    shards_before: int
    shards_after: int


@dataclass(frozen=True, slots=True)
class MoveGroup:
    """The moves of one wave that serve one goal. `gain` in `unit`; `example`: the reason of the one that gains most."""

    goal: str
    moves: int
    bytes: int
    gain: float
    unit: str
    start_by: datetime | None  # the earliest of them
    positions: tuple[int, ...]  # in the plan, from 1
    example: str


@dataclass(frozen=True, slots=True)
class Wave:
    number: int  # from 1
    moves: int
    bytes: int
    start_by: datetime | None
    groups: tuple[MoveGroup, ...]


@dataclass(frozen=True, slots=True)
class BoundRow:
    """What the plan attains beside the least that is possible; `gap` is the part by which it is above."""

    measure: str
    attained: float
    lower_bound: float
    gap: float


@dataclass(frozen=True, slots=True)
class Report:
    """Nodes, deviations and what comes next need the problem; without it they are empty."""

    plan_id: str
    pool_id: str
    base_epoch: int
    summary: str
    metrics: PlanMetrics
    nodes: tuple[NodeRow, ...]
    isolations: tuple[Isolation, ...]
    waves: tuple[Wave, ...]
    moves: tuple[Move, ...]
    bounds: tuple[BoundRow, ...]
    node_counts: tuple[NodeCount, ...]
    conflicts: tuple[Conflict, ...]
    deviations: int
    deviation_sentences: tuple[str, ...]
    nothing: str  # why nothing moves, and what rise of load would change that; empty if something does


# What a move of each goal gains.
UNITS = {
    Goal.REPAIR: "replicas",
    Goal.DRAIN: "replicas",
    Goal.REPLICATE: "replicas",
    Goal.FILL: "/s",
    Goal.BALANCE: "/s",
    Goal.COST: "of cost",
    Goal.CONSOLIDATE: "replicas",
}


def report(problem: PlacementProblem | None, plan: Plan) -> Report:
    """Raises ForeshardError if the problem contradicts itself. Time O(replicas + shards × (T × F + N))."""
    shown = scene(problem, plan) if problem is not None else None
    off, sentences = (len(plan.deviations), plan.deviations) if shown is None else _deviations(shown)
    return Report(
        plan_id=plan.plan_id,
        pool_id=plan.pool_id,
        base_epoch=plan.base_epoch,
        summary=plan.summary,
        metrics=plan.metrics,
        nodes=_nodes(shown) if shown else (),
        isolations=plan.isolations,
        waves=waves(plan.moves),
        moves=plan.moves,
        bounds=_bounds(plan.metrics),
        node_counts=plan.node_counts,
        conflicts=plan.conflicts,
        deviations=off,
        deviation_sentences=tuple(sentences),
        nothing=str(next_move(shown.after, shown.problem.heavy)) if shown and _quiet(shown) else "",
    )


def _quiet(shown: Scene) -> bool:
    """Nothing moves because nothing has to: no node above its bound, no demand in conflict."""
    load, limit = shown.after.load, shown.after.ceiling
    over = shown.after.cluster.nodes.accepts[:, None] & (load > limit * (1.0 + 1e-9))
    return not shown.plan.moves and not shown.plan.conflicts and not over.any()


def waves(moves: Sequence[Move]) -> tuple[Wave, ...]:
    """Moves by wave and, within each, by goal in the order in which goals are served."""
    by_wave: dict[int, dict[Goal, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, move in enumerate(moves):
        by_wave[move.wave][move.goal].append(i)
    found = []
    for wave in sorted(by_wave):
        groups = tuple(_group(moves, goal, by_wave[wave][goal]) for goal in Goal if goal in by_wave[wave])
        count, total = sum(g.moves for g in groups), sum(g.bytes for g in groups)
        found.append(Wave(wave + 1, count, total, _earliest([g.start_by for g in groups]), groups))
    return tuple(found)


def _group(moves: Sequence[Move], goal: Goal, positions: list[int]) -> MoveGroup:
    own = [moves[i] for i in positions]
    return MoveGroup(
        goal=goal.value,
        moves=len(own),
        bytes=sum(m.bytes for m in own),
        gain=sum(m.gain for m in own),
        unit=UNITS[goal],
        start_by=_earliest([m.start_by for m in own]),
        positions=tuple(i + 1 for i in positions),
        example=max(own, key=lambda m: m.gain).reason,
    )


def _earliest(times: Sequence[datetime | None]) -> datetime | None:
    return min((t for t in times if t is not None), default=None)


def gained(group: MoveGroup) -> str:
    """The gain with its unit."""
    if group.unit == "replicas":
        return number(round(group.gain), "replica")
    return f"{figure(group.gain)}{group.unit}" if group.unit == "/s" else f"{figure(group.gain)} {group.unit}"


def _deviations(shown: Scene) -> tuple[int, tuple[str, ...]]:
    found = deviations(shown.whole.cluster, shown.whole.held, most=_SENTENCES, copied=shown.whole.copied)
    return found.count, found.sentences


def _nodes(shown: Scene) -> tuple[NodeRow, ...]:
    nodes = shown.after.cluster.nodes
    state = {n.node_id: n.state for n in shown.problem.nodes}
    before, after = _counts(shown.problem.layout), _counts(shown.plan.layout)
    rows = []
    for i, name in enumerate(nodes.ids):
        capacity = float(nodes.capacity[i])
        was, now = _worst(shown.before.load[i]), _worst(shown.after.load[i])
        rows.append(
            NodeRow(
                node_id=name,
                state=state.get(name, NodeState.DEAD).value,
                capacity=capacity,
                utilisation_before=float(shown.before.load[i, was]) / capacity,
                utilisation_after=float(shown.after.load[i, now]) / capacity,
                step_before=shown.after.cluster.step_label(was),
                step_after=shown.after.cluster.step_label(now),
                bound=float(shown.after.ceiling[i, now]) / capacity if nodes.accepts[i] else 0.0,
                over=bool(nodes.accepts[i] and (shown.after.load[i] > shown.after.ceiling[i] * (1.0 + 1e-9)).any()),
                shards_before=before.get(name, 0),
                shards_after=after.get(name, 0),
            )
        )
    return tuple(rows)


def _worst(load: Floats) -> int:
    return int(np.argmax(load))


def _counts(layout: Layout) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for replica in layout.replicas:
        found[replica.node_id] += 1
    return found


def _bounds(metrics: PlanMetrics) -> tuple[BoundRow, ...]:
    return (
        BoundRow(
            "peak utilisation", metrics.peak_after, metrics.peak_lower_bound, _gap(metrics.peak_after, metrics.peak_lower_bound)
        ),
        BoundRow(
            "bytes moved",
            float(metrics.bytes_moved),
            float(metrics.bytes_lower_bound),
            _gap(metrics.bytes_moved, metrics.bytes_lower_bound),
        ),
    )


def _gap(attained: float, lower: float) -> float:
    return attained / lower - 1.0 if lower > 0 else 0.0
