"""What a person is asked before a plan runs: nodes before and after, what moves and why, and the bounds, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from foreshard.model import PlacementProblem, Plan
from foreshard.placement.explanation.report import gained, report
from foreshard.placement.explanation.wording import moment, size

_MOVES_SHOWN = 20


def question(plan: Plan, problem: PlacementProblem) -> str:
    """The plan as tables; the moves themselves as far as there are few."""
    shown = report(problem, plan)
    nodes = [
        [
            n.node_id,
            n.state,
            f"{n.utilisation_before:.2f}",
            f"{n.utilisation_after:.2f}",
            f"{n.shards_before} → {n.shards_after}",
        ]
        for n in shown.nodes
    ]
    groups = [
        [wave.number, group.goal, group.moves, size(group.bytes), gained(group), moment(group.start_by), group.example]
        for wave in shown.waves
        for group in wave.groups
    ]
    bounds = [
        [
            b.measure,
            *(size(x) if b.measure.startswith("bytes") else f"{x:,.4g}" for x in (b.attained, b.lower_bound)),
            f"{b.gap:.1%}",
        ]
        for b in shown.bounds
    ]
    moves = [
        [m.kind.value, m.shard_id, m.source, m.target, m.covers_from or "", size(m.bytes), m.reason]
        for m in plan.moves[:_MOVES_SHOWN]
    ]
    more = len(plan.moves) - len(moves)
    parts = [
        f"{plan.summary}\n\nWhat is approved is plan `{plan.plan_id}` and no other: that is a hash of its inputs and moves.",
        _table("Nodes: highest predicted load over capacity", ["node", "state", "before", "after", "replicas"], nodes),
        _table("Moves by goal", ["wave", "goal", "moves", "bytes", "gain", "start by (UTC)", "for example"], groups),
        _table("Bounds", ["measure", "attained", "no plan below", "gap"], bounds),
        _table(
            f"Moves{f' (and {more} more: foreshard plan explain {plan.plan_id})' if more else ''}",
            ["move", "shard", "from", "to", "since", "bytes", "reason"],
            moves,
        ),
        *(f"**Conflict**: {'; '.join(c.demands)}. {c.remedy}" for c in plan.conflicts),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    if not lines:
        return ""
    head = "| " + " | ".join(columns) + " |\n|" + "---|" * len(columns)
    return "\n".join([f"**{title}**", "", head, *lines])
