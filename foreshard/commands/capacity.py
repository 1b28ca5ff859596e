"""`foreshard capacity`: what nodes can carry and operations cost by the query log, and which entities are hot."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json, print_table
from foreshard.errors import ForeshardError

app = typer.Typer(no_args_is_help=True)
Days = Annotated[int, typer.Option("--days", min=1, help="How many days of the query log to read, back from its last.")]
Target = Annotated[
    float | None, typer.Option("--target-latency-ms", min=0.001, help="The latency to stay below; default: the settings'.")
]


@app.command()
def estimate(settings: SettingsFile = None, days: Days = 28, target: Target = None, as_json: AsJson = False) -> None:
    """Estimate each node's capacity at the target latency, and each operation's cost, from the query log.

    A declared capacity stays in force; the estimate is shown beside it.
    """
    found = estimated(configuration.load(settings), days, target)
    if as_json:
        print_json(found)
        return
    quantile = f"p{100 * found['quantile']:g}"
    typer.echo(
        f"{found['records']:,} queries from {found['first_day']} to {found['last_day']}. Capacity is the load, in weighted "
        f"requests per second, at which {quantile} of latency reaches {found['target_latency_ms']:g} ms."
    )
    columns = ["node", "in force", "declared", "estimate", "90 % interval", "difference", "evidence"]
    print_table("Nodes", columns, [_node_row(node) for node in found["nodes"]])
    for node in found["nodes"]:
        typer.echo(f"{node['node_id']}: {node['reason']}.")
    columns = ["operation", "in force", "declared", "estimate", "90 % interval", "quiet queries"]
    print_table("Cost of operations (1: the mean request)", columns, [_operation_row(o) for o in found["operations"]])


def estimated(settings: configuration.Settings, days: int, target: float | None) -> dict[str, Any]:
    """The document that `--json` prints. Loads are weighted by the costs in force, as they are in query_load."""
    from foreshard.usage.capacity import estimate_capacity
    from foreshard.usage.operation_cost import operation_costs
    from foreshard.usage.query_log_figures import read_figures

    target_ms = target or settings.capacity.target_latency_ms
    figures = read_figures(settings, days, settings.capacity.quantile, settings.operation_cost)
    declared = {node.node_id: node.capacity for node in settings.nodes}
    nodes = []
    for node_id in sorted({*declared, *figures.intervals}):
        capacity = declared.get(node_id)
        shown: dict[str, Any] = {"node_id": node_id, "declared": capacity, "interval_seconds": figures.seconds.get(node_id)}
        if node_id in figures.intervals:
            shown |= asdict(estimate_capacity(figures.intervals[node_id], target_ms))
        else:
            shown |= {"estimate": None, "low": None, "high": None, "highest_load": 0.0, "latency_when_idle": None}
            shown |= {"evidence": "not enough data", "reason": "the log has no query that went to it"}
        shown["in_force"] = capacity if capacity is not None else shown["estimate"]
        both = capacity is not None and shown["estimate"] is not None and shown["evidence"] != "lower bound"
        shown["difference"] = shown["estimate"] / capacity - 1 if both else None
        nodes.append(shown)
    costs = settings.operation_cost
    operations = [
        asdict(cost) | {"declared": costs.get(cost.operation_id), "in_force": costs.get(cost.operation_id, 1.0)}
        for cost in operation_costs(figures.quiet)
    ]
    return {
        "pool_id": settings.pool_id,
        "target_latency_ms": target_ms,
        "quantile": settings.capacity.quantile,
        "first_day": figures.first.isoformat(),
        "last_day": figures.last.isoformat(),
        "records": figures.records,
        "nodes": nodes,
        "operations": operations,
    }


@app.command()
def hot(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show the entities that deserve a shard of their own, by the load of the last hours. Nothing acts on it yet."""
    from foreshard.local.postgres import resolve_url
    from foreshard.routing import store
    from foreshard.usage.hot_entities import hot_entities
    from foreshard.usage.watermark import watermark

    chosen = configuration.load(settings)
    upto = watermark(chosen, "query_load").hour
    if upto is None:
        raise ForeshardError("there is no query_load yet; land query records and run aggregate")
    url = resolve_url(chosen)
    isolated = store.isolated_entities(url, chosen.pool_id)
    found = hot_entities(chosen, upto, isolated)
    cooled = sorted(set(isolated) - {entity.entity_id for entity in found})
    if as_json:
        print_json({"pool_id": chosen.pool_id, "upto": upto.isoformat(), "hot": [asdict(e) for e in found], "cooled": cooled})
        return
    if not found:
        typer.echo(
            f"No entity deserves a shard of its own in the {chosen.hot_entities.window_hours} hours up to {upto:%F %H:%M}."
        )
    else:
        print_table("Hot entities", ["entity", "slot", "own shard", "load", "why"], [_hot_row(asdict(e)) for e in found])
    if cooled:
        typer.echo(f"Have a shard of their own and are no longer hot: {', '.join(cooled)}.")


def _node_row(node: dict[str, Any]) -> list[Any]:
    difference = "" if node["difference"] is None else f"{node['difference']:+.0%}"
    estimate = ("≥ " if node["evidence"] == "lower bound" else "") + _number(node["estimate"])
    figures = [_number(node["in_force"]), _number(node["declared"]), estimate, _interval(node), difference]
    return [node["node_id"], *figures, node["evidence"]]


def _operation_row(operation: dict[str, Any]) -> list[Any]:
    figures = [_number(operation["in_force"]), _number(operation["declared"]), _number(operation["cost"]), _interval(operation)]
    return [operation["operation_id"], *figures, f"{operation['queries']:,}"]


def _hot_row(entity: dict[str, Any]) -> list[Any]:
    return [entity["entity_id"], entity["slot"], entity["shard_id"], _number(entity["load"]), entity["reason"]]


def _interval(shown: dict[str, Any]) -> str:
    if shown["low"] is None:
        return ""
    return (
        f"{_number(shown['low'])} to {_number(shown['high'])}"
        if shown["high"] is not None
        else f"{_number(shown['low'])} or more"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
