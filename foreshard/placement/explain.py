"""A plan for people: each node before and after, each move with its reason, and how near to the bounds it comes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.model import PlacementProblem, Plan
from foreshard.placement.instance import Floats
from foreshard.placement.load import node_load


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node's highest predicted load, the step it falls on, and that load over capacity, before and after the plan."""

    node_id: str
    state: str
    capacity: float
    load_before: float
    load_after: float
    utilisation_before: float
    utilisation_after: float
    step_before: str
    step_after: str
    shards_before: int
    shards_after: int


@dataclass(frozen=True, slots=True)
class MoveRow:
    position: int
    kind: str
    shard_id: int
    source: str
    target: str
    bytes: int
    coverage: str
    reason: str


@dataclass(frozen=True, slots=True)
class BoundRow:
    """What the plan attains beside the least that is possible; `gap` is the part by which it is above."""

    measure: str
    attained: float
    lower_bound: float
    gap: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """`str()` renders it as plain text."""

    summary: str
    ended_by: str
    nodes: tuple[NodeRow, ...]
    moves: tuple[MoveRow, ...]
    bounds: tuple[BoundRow, ...]
    deviations: tuple[str, ...]

    def __str__(self) -> str:
        return render(self)


def table(plan: Plan, problem: PlacementProblem) -> Explanation:
    """The plan's rows. Raises ForeshardError if the problem contradicts itself. Time O(replicas × steps)."""
    before, after = node_load(problem, problem.layout), node_load(problem, plan.layout)
    metrics = plan.metrics
    return Explanation(
        summary=plan.summary,
        ended_by=metrics.ended_by,
        nodes=tuple(_node_row(plan, problem, i, before[i], after[i]) for i in range(len(problem.nodes))),
        moves=tuple(
            MoveRow(
                i,
                m.kind.value,
                m.shard_id,
                m.source,
                m.target,
                m.bytes,
                f"from {m.covers_from}" if m.covers_from else "all time",
                m.reason,
            )
            for i, m in enumerate(plan.moves, 1)
        ),
        bounds=(
            _bound("peak utilisation", metrics.peak_after, metrics.peak_lower_bound),
            _bound("bytes moved", float(metrics.bytes_moved), float(metrics.bytes_lower_bound)),
        ),
        deviations=plan.deviations,
    )


def render(explanation: Explanation) -> str:
    """Plain text, lines of columns."""
    lines = [
        explanation.summary,
        "",
        "node                 state     capacity  before   after  peak before       peak after        shards",
    ]
    for n in explanation.nodes:
        lines.append(
            f"{n.node_id:<20} {n.state:<9} {n.capacity:>8.4g} {n.utilisation_before:>7.2f} {n.utilisation_after:>7.2f}  "
            f"{n.step_before:<16}  {n.step_after:<16}  {n.shards_before} -> {n.shards_after}"
        )
    if explanation.moves:
        lines += ["", "moves"]
    for m in explanation.moves:
        way = " -> ".join(end for end in (m.source, m.target) if end)
        lines.append(f"{m.position:>4}  {m.kind:<9} shard {m.shard_id:<6} {way}, {m.bytes:,} bytes, {m.coverage}: {m.reason}")
    lines += ["", "bounds"]
    for b in explanation.bounds:
        lines.append(f"  {b.measure:<18} {b.attained:>14,.4g}  lower bound {b.lower_bound:>14,.4g}  gap {b.gap:.1%}")
    lines.append(f"  search ended by: {explanation.ended_by}")
    if explanation.deviations:
        lines += ["", "off their hash preference", *(f"  {d}" for d in explanation.deviations)]
    return "\n".join(lines) + "\n"


def _node_row(plan: Plan, problem: PlacementProblem, index: int, before: Floats, after: Floats) -> NodeRow:
    node = problem.nodes[index]
    load_before, load_after = float(before.max(initial=0.0)), float(after.max(initial=0.0))
    return NodeRow(
        node_id=node.node_id,
        state=node.state.value,
        capacity=node.capacity,
        load_before=load_before,
        load_after=load_after,
        utilisation_before=load_before / node.capacity,
        utilisation_after=load_after / node.capacity,
        step_before=_step(problem, before),
        step_after=_step(problem, after),
        shards_before=len(problem.layout.of_node(node.node_id)),
        shards_after=len(plan.layout.of_node(node.node_id)),
    )


def _step(problem: PlacementProblem, load: Floats) -> str:
    return problem.steps[int(np.argmax(load))].strftime("%Y-%m-%d %H:%M") if problem.steps else ""


def _bound(measure: str, attained: float, lower: float) -> BoundRow:
    return BoundRow(measure, attained, lower, attained / lower - 1.0 if lower > 0 else 0.0)
