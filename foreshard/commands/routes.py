"""`foreshard routes show | explain | history | rollback`."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json, print_table
from foreshard.errors import ForeshardError
from foreshard.routing.snapshot import Snapshot

if TYPE_CHECKING:
    from foreshard.routing.explanation import ExplainedReplica
    from foreshard.routing.store import EpochRecord

app = typer.Typer(no_args_is_help=True)


def _current(settings: Path | None) -> tuple[configuration.Settings, str, Snapshot]:
    from foreshard.local.postgres import resolve_url
    from foreshard.routing import store

    chosen = configuration.load(settings)
    url = resolve_url(chosen)
    snapshot = store.current(url, chosen.pool_id)
    if snapshot is None:
        raise ForeshardError(f"pool {chosen.pool_id} has no published epoch; run `foreshard init`")
    return chosen, url, snapshot


@app.command()
def show(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show the current epoch: each shard's pipelines and weights."""
    _, _, snapshot = _current(settings)
    rows = [[r.shard_id, r.node_id, round(r.weight, 4), r.covers_from or "all days"] for r in snapshot.replicas]
    if as_json:
        print_json({"epoch": snapshot.epoch, "parent": snapshot.parent, "replicas": snapshot.replicas, "nodes": snapshot.nodes})
        return
    print_table(f"Epoch {snapshot.epoch}", ["shard", "pipeline", "weight", "covers from"], rows)


@app.command()
def explain(
    entity_id: Annotated[str, typer.Argument(help="The entity a query asks for.", metavar="KEY")],
    start: Annotated[str, typer.Option(help="The first hour that the query asks for, ISO 8601; without it: the newest.")] = "",
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show where an entity's queries go and why: by the current epoch and what Postgres knows of the nodes now."""
    from foreshard.gateway.query import BadQuery, instant
    from foreshard.routing.corrections import read_corrections
    from foreshard.routing.explanation import explained
    from foreshard.routing.pool import read_nodes

    chosen, url, snapshot = _current(settings)
    now = datetime.now(UTC)
    try:
        range_start = instant("start", start) if start else now
    except BadQuery as error:
        raise ForeshardError(str(error)) from None
    nodes = {node.node_id: node for node in read_nodes(url, chosen.pool_id)}
    factors = {node_id: correction.now() for node_id, correction in read_corrections(url, chosen.pool_id).items()}
    shard = snapshot.shard_of(entity_id)
    replicas = explained(snapshot, entity_id, nodes, factors, range_start, now)
    why = "it is isolated" if entity_id in dict(snapshot.isolated) else f"its hash falls into slot {shard}"
    if as_json:
        found = {"entity_id": entity_id, "shard_id": shard, "epoch": snapshot.epoch, "why": why, "skill": snapshot.skill}
        print_json({**found, "start": range_start, "replicas": replicas})
        return
    asked = f" that ask for {range_start:%Y-%m-%d %H:%M} on" if start else ""
    typer.echo(f"{entity_id} is in shard {shard}, because {why}. In epoch {snapshot.epoch} its queries{asked} go to:")
    rows = [
        [r.node_id, r.state, f"{100 * r.share:.0f} %", round(r.weight, 4), r.covers_from or "all days", *_loads(r)]
        for r in replicas
    ]
    columns = ["pipeline", "state", "share", "weight", "covers from", "expected load", "capacity", "correction"]
    print_table("", columns, rows)
    for replica in replicas:
        typer.echo(replica.sentence)


def _loads(replica: ExplainedReplica) -> list[object]:
    expected = "no forecast" if replica.predicted_load is None else round(replica.predicted_load, 2)
    return [expected, round(replica.capacity, 2), round(replica.correction, 3)]


@app.command()
def history(limit: int = 20, settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show the published epochs, newest first."""
    from foreshard.routing import store

    chosen, url, _ = _current(settings)
    epochs = store.history(url, chosen.pool_id, limit)
    if as_json:
        print_json({"epochs": epochs})
        return
    rows = [
        [e.epoch, e.parent, f"{e.published_at:%Y-%m-%d %H:%M:%S}", e.published_by, e.plan_id, e.reason, _content(e)]
        for e in epochs
    ]
    print_table("Epochs", ["epoch", "parent", "published (UTC)", "by", "plan", "reason", "content"], rows)


def _content(epoch: EpochRecord) -> str:
    """Whether one can still go back to it."""
    return f"removed {epoch.removed_at:%Y-%m-%d}: {epoch.removed_because}" if epoch.removed_at else "kept"


@app.command()
def rollback(to_epoch: Annotated[int, typer.Argument(help="The epoch to go back to.")], settings: SettingsFile = None) -> None:
    """Publish an older epoch's content as a new epoch; refused if a replica in it is gone or behind."""
    from foreshard.routing.rollback import roll_back

    chosen, url, _ = _current(settings)
    new = roll_back(chosen, url, to_epoch, getpass.getuser())
    typer.echo(f"Epoch {new} has the content of epoch {to_epoch} and is current.")
