"""`foreshard transition status`."""

from __future__ import annotations

from typing import Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json, print_table
from foreshard.errors import ForeshardError

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keeps `status` a command of its own while it is the only one."""


@app.command()
def status(
    plan_id: Annotated[str, typer.Argument(help="The plan's id; default: the newest plan.")] = "",
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a plan's moves have come, and every step so far with its time."""
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import store

    chosen = configuration.load(settings)
    url = resolve_url(chosen)
    record = store.read_plan(url, chosen.pool_id, plan_id) if plan_id else store.latest_plan(url, chosen.pool_id)
    if record is None:
        raise ForeshardError(f"pool {chosen.pool_id} has no plan yet; the reshard DAG makes one after each forecast")
    moves = store.read_moves(url, chosen.pool_id, record.plan_id)
    events = store.read_events(url, chosen.pool_id, record.plan_id)
    if as_json:
        print_json({"plan_id": record.plan_id, "state": record.state, "moves": moves, "events": events})
        return
    done = sum(m.state == "done" for m in moves)
    typer.echo(f"Plan {record.plan_id}: {record.state}, {done} of {len(moves)} moves done")
    rows = [[f"{e.at:%Y-%m-%d %H:%M:%S}", e.stage, e.position, e.actor, e.rows, e.detail] for e in events]
    print_table("Steps", ["at (UTC)", "stage", "move", "by", "rows", "detail"], rows)
