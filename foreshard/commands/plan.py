"""`foreshard plan show | approve | reject | solve`."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json, print_table
from foreshard.errors import ForeshardError

app = typer.Typer(no_args_is_help=True)
PlanId = Annotated[str, typer.Argument(help="The plan's id; default: the newest plan.")]


@app.command()
def show(plan_id: PlanId = "", settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show a plan: its moves with reasons, what it attains, and the bounds."""
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import store

    chosen = configuration.load(settings)
    url = resolve_url(chosen)
    record = store.read_plan(url, chosen.pool_id, plan_id) if plan_id else store.latest_plan(url, chosen.pool_id)
    if record is None:
        raise ForeshardError(f"pool {chosen.pool_id} has no plan yet; the reshard DAG makes one after each forecast")
    if as_json:
        print_json({"plan_id": record.plan_id, "state": record.state, "plan": record.document})
        return
    moves = store.read_moves(url, chosen.pool_id, record.plan_id)
    typer.echo(f"Plan {record.plan_id} from epoch {record.base_epoch}: {record.state}\n{record.summary}\n")
    print_table("Metrics", ["figure", "value"], sorted(record.document["metrics"].items()))
    columns = ["#", "move", "shard", "from", "to", "since", "bytes", "state", "reason"]
    rows = [[m.position, m.kind, m.shard_id, m.source, m.target, m.covers_from, m.bytes, m.state, m.reason] for m in moves]
    print_table(f"{len(moves)} moves", columns, rows)


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
    iterations: Annotated[int, typer.Option(help="Search budget.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
) -> None:
    """Solve a placement problem from a file; needs no database and no Spark."""
    from foreshard.placement import codec
    from foreshard.placement import solve as solve_problem

    try:
        document = json.loads(problem.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ForeshardError(f"cannot read the problem {problem}: {error}") from None
    plan = solve_problem(codec.problem_from_document(document), seed=seed, iterations=iterations, time_limit=time_limit)
    out.write_text(json.dumps(codec.plan_to_document(plan), sort_keys=True, indent=2) + "\n", "utf-8")
    typer.echo(f"Plan {plan.plan_id}: {plan.summary}")
