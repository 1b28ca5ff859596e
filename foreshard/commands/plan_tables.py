"""How plans are printed: what an operator wants to read, from the summary to what is ahead."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from foreshard.commands.options import print_table
from foreshard.model import Move
from foreshard.placement.explanation.difference import Difference
from foreshard.placement.explanation.frontier import Point
from foreshard.placement.explanation.report import BoundRow, NodeRow, Report, Wave, gained
from foreshard.placement.explanation.wording import moment, number, size

_CHANGES = 40  # replicas that `diff` lists unless all are asked for


def print_report(report: Report, state: str, note: str, every_move: bool) -> None:
    """`every_move`: each move with its reason, in place of an example for each goal."""
    typer.echo(f"Plan {report.plan_id} from epoch {report.base_epoch}{': ' + state if state else ''}\n{report.summary}")
    for line in (report.nothing, f"Note: {note}." if note else ""):
        if line and line not in report.summary:
            typer.echo(line)
    typer.echo("")
    for conflict in report.conflicts:
        typer.echo(f"Conflict: {'; '.join(conflict.demands)}. {conflict.remedy}\n")
    _print_nodes(report.nodes)
    if report.isolations:
        columns = ["entity", "slot", "shard", "what", "reason"]
        rows = [[i.entity_id, i.slot, i.shard_id, "ends" if i.ends else "begins", i.reason] for i in report.isolations]
        print_table("Entities in shards of their own", columns, rows)
        typer.echo("")
    _print_waves(report.waves)
    if every_move:
        _print_moves(report.moves)
    _print_bounds(report.bounds, report.metrics.ended_by)
    if report.node_counts:
        typer.echo("")
        rows = [[moment(c.step), c.nodes, moment(c.start_by), c.reason] for c in report.node_counts]
        print_table("Nodes ahead", ["from (UTC)", "nodes", "start by (UTC)", "reason"], rows)
    _print_deviations(report, every_move)


def _print_nodes(nodes: Sequence[NodeRow]) -> None:
    if not nodes:
        return
    columns = ["node", "state", "capacity", "before", "after", "bound", "peak before (UTC)", "peak after (UTC)", "replicas"]
    rows = [
        [
            n.node_id,
            n.state,
            f"{n.capacity:.4g}",
            f"{n.utilisation_before:.2f}",
            f"{n.utilisation_after:.2f}{' above' if n.over else ''}",
            f"{n.bound:.2f}" if n.bound else "",
            n.step_before,
            n.step_after,
            f"{n.shards_before} -> {n.shards_after}",
        ]
        for n in nodes
    ]
    print_table("Nodes: highest predicted load over capacity", columns, rows)
    typer.echo("")


def _print_waves(waves: Sequence[Wave]) -> None:
    rows = [
        [wave.number, group.goal, group.moves, size(group.bytes), gained(group), moment(group.start_by), group.example]
        for wave in waves
        for group in wave.groups
    ]
    if rows:
        columns = ["wave", "goal", "moves", "bytes", "gain", "start by (UTC)", "for example"]
        moves = sum(w.moves for w in waves)
        print_table(f"{number(moves, 'move')} in {number(len(waves), 'wave')}", columns, rows)
        typer.echo("")


def _print_moves(moves: Sequence[Move]) -> None:
    columns = ["#", "wave", "goal", "move", "shard", "from", "to", "since", "bytes", "start by (UTC)", "reason"]
    rows = [
        [i, m.wave + 1, m.goal.value, m.kind.value, m.shard_id, *_ends_and_times(m), m.reason] for i, m in enumerate(moves, 1)
    ]
    if rows:
        print_table("Every move", columns, rows)
        typer.echo("")


def _ends_and_times(move: Move) -> list[object]:
    return [move.source, move.target, move.covers_from, move.bytes, moment(move.start_by)]


def _print_bounds(bounds: Sequence[BoundRow], ended_by: str) -> None:
    rows = [[b.measure, f"{b.attained:,.4g}", f"{b.lower_bound:,.4g}", f"{100 * b.gap:.1f} %"] for b in bounds]
    for row, bound in zip(rows, bounds, strict=True):
        if bound.measure.startswith("bytes"):
            row[1:3] = [size(bound.attained), size(bound.lower_bound)]
    print_table(f"Bounds (the search ended by: {ended_by})", ["measure", "attained", "no plan below", "gap"], rows)


def _print_deviations(report: Report, every_move: bool) -> None:
    if not report.deviations:
        typer.echo("\nEvery replica is where the hash ranks it first.")
        return
    many = number(report.deviations, "replica")
    said = "is" if report.deviations == 1 else "are"
    typer.echo(f"\n{many} {said} not where the hash ranks {'it' if report.deviations == 1 else 'them'} first.")
    shown = report.deviation_sentences if every_move else report.deviation_sentences[:3]
    for sentence in shown:
        typer.echo(f"  {sentence}")
    if report.deviations > len(shown) and shown:
        typer.echo(f"  and {report.deviations - len(shown):,} more")


def print_frontier(points: Sequence[Point]) -> None:
    """The plans to choose from, fewest bytes first; a star marks what the policy gives."""
    rows = [
        [
            "*" if p.is_policy else "",
            f"{100 * p.imbalance:.1f} %",
            f"{p.peak:.2f}",
            size(p.bytes),
            p.moves,
            f"{p.bounded_load:.4g}",
            size(p.max_move_bytes),
        ]
        for p in points
    ]
    columns = ["", "imbalance", "peak", "bytes moved", "moves", "bounded_load", "max_move_bytes"]
    print_table("Imbalance against bytes moved (*: the policy as it is)", columns, rows)


def print_difference(before: str, after: str, found: Difference, every_change: bool) -> None:
    kinds = ("added", "removed", "widened", "narrowed", "weighed")
    counts = ", ".join(f"{found.count(kind)} {kind}" for kind in kinds if found.count(kind))
    typer.echo(f"From {before} to {after}: {counts or 'nothing differs'}.")
    if not found.changes:
        return
    rows = [[n.node_id, n.replicas_before, n.replicas_after, n.added, n.removed] for n in found.nodes]
    print_table("Replicas by node", ["node", "before", "after", "added", "removed"], rows)
    listed = found.changes if every_change else [c for c in found.changes if c.what != "weighed"][:_CHANGES]
    changes = [
        [c.shard_id, c.node_id, c.what, _weight(c.weight_before), _weight(c.weight_after), c.covers_after or c.covers_before]
        for c in listed
    ]
    columns = ["shard", "node", "what", "weight before", "weight after", "covers from"]
    print_table(f"{len(listed)} of {number(len(found.changes), 'change')}", columns, changes)


def _weight(weight: float | None) -> str:
    return "" if weight is None else f"{weight:.3f}"
