"""`foreshard plan show | explain | why | why-not | frontier | diff | approve | reject | solve`."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json

app = typer.Typer(no_args_is_help=True)
PlanId = Annotated[str, typer.Argument(help="The plan's id; default: the newest plan.")]
OfPlan = Annotated[str, typer.Option("--id", help="The plan's id; default: the newest plan.")]
ProblemFile = Annotated[Path | None, typer.Option("--problem", help="The problem that the plan was made from (JSON).")]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="A plan from a file (JSON) in place of a stored one.")]
Iterations = Annotated[int | None, typer.Option(help="Candidates that the search looks at; default: the planner's.")]
Shard = Annotated[int, typer.Argument(help="The shard's id.")]


@app.command()
def show(
    plan_id: PlanId = "",
    problem: ProblemFile = None,
    plan: PlanFile = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a plan: nodes before and after, waves of moves and what they gain, bounds, and what is ahead."""
    _show(plan_id, problem, plan, settings, as_json, every_move=False)


@app.command()
def explain(
    plan_id: PlanId = "",
    problem: ProblemFile = None,
    plan: PlanFile = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a plan with the reason of every move and of what is off its hash preference."""
    _show(plan_id, problem, plan, settings, as_json, every_move=True)


def _show(
    plan_id: str, problem: Path | None, plan: Path | None, settings: Path | None, as_json: bool, *, every_move: bool
) -> None:
    from foreshard.commands.plan_inputs import shown
    from foreshard.commands.plan_tables import print_report
    from foreshard.placement import codec
    from foreshard.placement.explanation.report import report

    chosen = shown(settings, plan_id, problem, plan)
    told = report(chosen.problem, chosen.plan)
    if as_json:
        found = {"plan_id": chosen.plan.plan_id, "state": chosen.state, "problem": chosen.source, "note": chosen.note}
        print_json({**found, "plan": codec.plan_to_document(chosen.plan), "report": told})
        return
    print_report(told, chosen.state, chosen.note, every_move)


@app.command()
def why(
    shard: Shard,
    plan_id: OfPlan = "",
    problem: ProblemFile = None,
    plan: PlanFile = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Say where a shard's replicas are after a plan, and why there."""
    from foreshard.commands.plan_inputs import shown
    from foreshard.placement.explanation.scene import scene
    from foreshard.placement.explanation.why import why_of

    chosen = shown(settings, plan_id, problem, plan)
    found = why_of(scene(chosen.needed(), chosen.plan), shard)
    if as_json:
        print_json({"plan_id": chosen.plan.plan_id, "problem": chosen.source, "why": found})
        return
    _note(chosen.note)
    typer.echo(str(found))


@app.command("why-not")
def why_not(
    shard: Shard,
    node: Annotated[str, typer.Argument(help="The node's id.")],
    plan_id: OfPlan = "",
    problem: ProblemFile = None,
    plan: PlanFile = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what keeps a shard off a node, and what would have to change."""
    from foreshard.commands.plan_inputs import shown
    from foreshard.placement.explanation.scene import scene
    from foreshard.placement.explanation.why_not import why_not_of

    chosen = shown(settings, plan_id, problem, plan)
    found = why_not_of(scene(chosen.needed(), chosen.plan), shard, node)
    if as_json:
        print_json({"plan_id": chosen.plan.plan_id, "problem": chosen.source, "why_not": found})
        return
    _note(chosen.note)
    typer.echo(str(found))


@app.command()
def frontier(
    plan_id: PlanId = "",
    problem: Annotated[Path | None, typer.Option("--problem", help="A placement problem (JSON) in place of a plan's.")] = None,
    points: Annotated[int, typer.Option(help="How many plans are made to choose from.", min=2, max=100)] = 8,
    iterations: Iterations = None,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="Where a picture is written (PNG).")] = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what more or less balance costs in bytes moved: plans of which none beats another in both."""
    from foreshard.commands.frontier_picture import draw_frontier
    from foreshard.commands.plan_inputs import read_problem, shown
    from foreshard.commands.plan_tables import print_frontier
    from foreshard.placement import solve as solve_problem
    from foreshard.placement.explanation.frontier import frontier as frontier_of

    given = read_problem(problem) if problem else shown(settings, plan_id, None, None).needed()
    found = frontier_of(given, lambda p: solve_problem(p, seed=seed, **_budget(iterations)), points)
    if picture is not None:
        draw_frontier(found, picture)
    if as_json:
        print_json({"pool_id": given.pool_id, "points": found})
        return
    print_frontier(found)
    if picture is not None:
        typer.echo(f"The picture is in {picture}.")


@app.command()
def diff(
    after: Annotated[str, typer.Argument(help="A plan's id; default: the newest plan.")] = "",
    before: Annotated[str, typer.Option(help="Another plan's id; default: the layout in use.")] = "",
    problem: Annotated[Path | None, typer.Option("--problem", help="A problem (JSON) whose layout is compared.")] = None,
    plan: PlanFile = None,
    every_change: Annotated[bool, typer.Option("--all", help="Every change, those of weights too.")] = False,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how a plan's layout differs from the one in use, or from another plan's."""
    from foreshard.commands.plan_inputs import current_layout, read_problem, shown
    from foreshard.commands.plan_tables import print_difference
    from foreshard.placement.explanation.difference import difference

    chosen = shown(settings, after, problem, plan)
    if before:
        named, layout = f"plan {before}", shown(settings, before, None, None).plan.layout
    elif problem is not None:
        given = read_problem(problem)
        named, layout = f"epoch {given.layout.epoch}", given.layout
    else:
        named, layout = current_layout(settings)
    found = difference(layout, chosen.plan.layout)
    if as_json:
        print_json({"before": named, "after": f"plan {chosen.plan.plan_id}", "changes": found.changes, "nodes": found.nodes})
        return
    print_difference(named, f"plan {chosen.plan.plan_id}", found, every_change)


def _budget(iterations: int | None) -> dict[str, int]:
    return {} if iterations is None else {"iterations": iterations}


def _note(note: str) -> None:
    if note:
        typer.echo(f"Note: {note}.")


def _decide(plan_id: str, decision: str, settings: Path | None) -> None:
    from foreshard.transition.steps import record_decision

    chosen = configuration.load(settings)
    record_decision(chosen, plan_id, "approved" if decision == "approved" else "rejected", getpass.getuser())
    typer.echo(f"Plan {plan_id} is {decision}.")


@app.command()
def approve(plan_id: Annotated[str, typer.Argument(help="The plan's id.")], settings: SettingsFile = None) -> None:
    """Approve a proposed plan, outside Airflow's own approval task."""
    _decide(plan_id, "approved", settings)


@app.command()
def reject(plan_id: Annotated[str, typer.Argument(help="The plan's id.")], settings: SettingsFile = None) -> None:
    """Reject a proposed plan; the same inputs will not propose it again."""
    _decide(plan_id, "rejected", settings)


@app.command()
def solve(
    problem: Annotated[Path, typer.Option(help="The placement problem (JSON; schema in docs/placement-problem.schema.json).")],
    out: Annotated[Path, typer.Option(help="Where the plan is written (JSON).")],
    time_limit: Annotated[float | None, typer.Option(help="Seconds; makes the result depend on the machine.")] = None,
    iterations: Iterations = None,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
) -> None:
    """Solve a placement problem from a file; needs no database and no Spark."""
    from foreshard.commands.plan_inputs import read_problem
    from foreshard.placement import codec
    from foreshard.placement import solve as solve_problem

    plan = solve_problem(read_problem(problem), seed=seed, time_limit=time_limit, **_budget(iterations))
    out.write_text(json.dumps(codec.plan_to_document(plan), sort_keys=True, indent=2) + "\n", "utf-8")
    typer.echo(f"Plan {plan.plan_id}: {plan.summary}")
