"""`foreshard init`, `status` and `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json, print_table
from foreshard.errors import ForeshardError

TABLES = ("usage_hourly", "query_load", "query_pattern_observed")


def init(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Register the pool and its nodes, copy the plain hash layout to them and publish it as epoch 1. Safe to repeat."""
    from foreshard.routing import database, pool

    chosen = configuration.load(settings)
    if not chosen.nodes:
        raise ForeshardError(
            f"no nodes are declared; add [[nodes]] with node_id and capacity to {chosen.path or 'foreshard.toml'}"
        )
    url = _postgres(chosen)
    database.migrate(url)
    registered = pool.register(url, chosen)
    if registered.current_epoch == 0:
        publish_first_epoch(chosen)
    epoch = pool.read_pool(url, chosen.pool_id).current_epoch
    if as_json:
        print_json({"pool_id": chosen.pool_id, "epoch": epoch, "nodes": [n.node_id for n in chosen.nodes]})
    else:
        typer.echo(f"Pool {chosen.pool_id} has {len(chosen.nodes)} nodes and {chosen.slots} slots; epoch {epoch} is current.")
        if missing := database.missing_roles(url):
            typer.echo(f"The roles {', '.join(missing)} are missing and this user may not create them: docs/routing-store.md.")


def publish_first_epoch(settings: configuration.Settings) -> None:
    """Copies the plain hash layout to the registered nodes with one Spark job, verifies it and publishes it as epoch 1."""
    from foreshard.local.submit import submit
    from foreshard.transition import steps

    plan = steps.propose_first(settings)
    submit(settings, "warm_up_replicas", ["--plan", plan.plan_id])
    ended = steps.carry_on(settings, plan.plan_id, "init", lambda _: None, seconds=60)
    if not ended.is_over:
        raise ForeshardError(f"the first layout is not published yet: {ended.decision.sentence}; run `foreshard init` again")


def _postgres(settings: configuration.Settings) -> str:
    from foreshard.local.postgres import resolve_url

    return resolve_url(settings)


def status(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show the pool: its epoch, its nodes with what they hold, and how far the data reaches."""
    from foreshard.routing import pool, store
    from foreshard.transition.store import latest_plan, read_replicas
    from foreshard.usage.hot_entities import hot_entities
    from foreshard.usage.watermark import watermark

    chosen = configuration.load(settings)
    url = _postgres(chosen)
    registered = pool.read_pool(url, chosen.pool_id)
    beats = store.read_heartbeats(url, chosen.pool_id)
    replicas = read_replicas(url, chosen.pool_id)
    nodes = [
        {
            "node_id": n.node_id,
            "state": n.state.value,
            "capacity": n.capacity,
            "replicas": sum(r.node_id == n.node_id for r in replicas),
            "load": beats[n.node_id].load if n.node_id in beats else None,
            "heartbeat_age_seconds": round(beats[n.node_id].age_seconds, 1) if n.node_id in beats else None,
        }
        for n in pool.read_nodes(url, chosen.pool_id)
    ]
    marks = {name: watermark(chosen, name) for name in TABLES}
    plan = latest_plan(url, chosen.pool_id)
    upto = marks["query_load"].hour
    hot = hot_entities(chosen, upto, store.isolated_entities(url, chosen.pool_id)) if upto else []
    if as_json:
        print_json(
            {
                "pool_id": chosen.pool_id,
                "epoch": registered.current_epoch,
                "nodes": nodes,
                "watermarks": {name: {"hour": m.hour, "version": m.version} for name, m in marks.items()},
                "hot_entities": hot,
                "latest_plan": {"plan_id": plan.plan_id, "state": plan.state} if plan else None,
            }
        )
        return
    newest = f"{plan.plan_id} {plan.state}" if plan else "none"
    shadow = f", in shadow mode since {registered.shadow_since:%F %H:%M %Z}" if registered.shadow_since else ""
    typer.echo(f"Pool {chosen.pool_id}, epoch {registered.current_epoch}, latest plan: {newest}{shadow}")
    print_table("Nodes", list(nodes[0]) if nodes else [], [list(n.values()) for n in nodes])
    print_table(
        "Data", ["table", "complete to (UTC)", "version"], [[n, m.hour or "nothing yet", m.version] for n, m in marks.items()]
    )
    if hot:
        names = ", ".join(entity.entity_id for entity in hot)
        typer.echo(f"Entities that deserve a shard of their own: {names} (see `foreshard capacity hot`)")


def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Put away what can be; without it nothing is changed.")] = False,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Look for what is missing, behind or left over, and repair it if asked; exit status 1 if anything remains."""
    from foreshard.commands import diagnosis

    chosen = configuration.load(settings)
    findings = diagnosis.diagnose(chosen)
    repaired = diagnosis.repair(findings) if repair else []
    left = diagnosis.diagnose(chosen) if repaired else findings
    if as_json:
        print_json({"findings": [f.as_document() for f in left], "repaired": repaired})
    else:
        if repaired:
            print_table("Repaired", ["where", "what was done"], [[r.where, r.done] for r in repaired])
        if left:
            print_table("Findings", ["what", "where", "do"], [[f.what, f.where, f.do] for f in left])
        else:
            typer.echo("Nothing is missing, behind or left over.")
    if left:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    app.command()(init)
    app.command()(status)
    app.command()(doctor)
