"""`foreshard node add|drain|remove|list|watch`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json, print_table

if TYPE_CHECKING:
    from foreshard.nodes.provisioner import Operation

app = typer.Typer(no_args_is_help=True)
NodeId = Annotated[str, typer.Argument(help="The node's name.")]


@app.command()
def add(
    node_id: NodeId,
    capacity: Annotated[float, typer.Option(help="Weighted requests per second at the target latency.")],
    zone: Annotated[str, typer.Option(help="Where it stands: full replicas of a shard go to several zones.")] = "",
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Start a node; the next plan fills it. Repeating it for a running node does nothing."""
    from foreshard.local.postgres import resolve_url
    from foreshard.nodes import lifecycle

    chosen = configuration.load(settings)
    _say(lifecycle.add_node(chosen, resolve_url(chosen), node_id, capacity, zone), as_json)


@app.command()
def drain(node_id: NodeId, settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Have a node emptied by the next plan; it answers until then."""
    from foreshard.local.postgres import resolve_url
    from foreshard.nodes import lifecycle

    chosen = configuration.load(settings)
    _say(lifecycle.drain_node(chosen, resolve_url(chosen), node_id), as_json)


@app.command()
def remove(node_id: NodeId, settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Stop a node that nothing is routed to any more."""
    from foreshard.local.postgres import resolve_url
    from foreshard.nodes import lifecycle

    chosen = configuration.load(settings)
    _say(lifecycle.remove_node(chosen, resolve_url(chosen), node_id), as_json)


@app.command("list")
def list_(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show the nodes: their state, load and heartbeat, what is routed to them, and how many there should be."""
    from foreshard.local.postgres import resolve_url
    from foreshard.nodes import lifecycle
    from foreshard.routing.pool import read_pool

    chosen = configuration.load(settings)
    url = resolve_url(chosen)
    nodes = lifecycle.list_nodes(chosen, url)
    desired = read_pool(url, chosen.pool_id).desired_nodes
    if as_json:
        print_json({"pool_id": chosen.pool_id, "desired_nodes": desired, "nodes": nodes})
        return
    live = sum(n.state != "dead" for n in nodes)
    typer.echo(f"Pool {chosen.pool_id}: {live} nodes" + ("" if desired is None else f", and {desired} are wanted now"))
    columns = ["node", "state", "capacity", "zone", "load", "heartbeat (s)", "routed", "held", "process"]
    print_table("Nodes", columns, [list(asdict(n).values()) for n in nodes])


@app.command()
def watch(
    once: Annotated[bool, typer.Option(help="Look once and end.")] = False,
    seconds: Annotated[float, typer.Option(min=1, help="Between two looks.")] = 15,
    settings: SettingsFile = None,
) -> None:
    """Mark nodes dead that neither beat nor answer, report overload, and make a repair plan where one is needed."""
    import time
    from datetime import UTC, datetime

    from foreshard.local.postgres import resolve_url
    from foreshard.nodes.repair import propose_repair
    from foreshard.nodes.watch import watch_once

    chosen = configuration.load(settings)
    while True:
        url = resolve_url(chosen)
        said = watch_once(chosen, url)
        repair = propose_repair(chosen, url)
        for sentence in [*said, *([repair.sentence] if repair.sentence else [])]:
            typer.echo(f"{datetime.now(UTC):%H:%M:%S} {sentence}")
        if once:
            return
        time.sleep(seconds)


def _say(done: Operation, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        typer.echo(f"Node {done.node_id}: {done.detail or done.verb.value + ' done'}.")
