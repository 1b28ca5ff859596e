"""`foreshard gateway`, `foreshard pipeline`, `foreshard up`: the long-running parts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import SettingsFile

Host = Annotated[str, typer.Option(help="Address to listen on.")]


def gateway(
    gateway_id: Annotated[str, typer.Option("--id", help="Name of this gateway; a restart keeps it.")] = "gateway-1",
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    clock_starts_at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z"], help="For a log of the past: the UTC time that the gateway's clock starts at."
        ),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Run the reference gateway: get-usage over HTTP, routed by the published epoch."""
    from foreshard.gateway.server import run_gateway

    clock = clock_starts_at.astimezone(UTC) if clock_starts_at else None
    run_gateway(configuration.load(settings), gateway_id, host, port, clock_starts_at=clock)


def pipeline(
    node_id: Annotated[str, typer.Option("--node", help="The node whose serving table it answers from.")],
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8081,
    settings: SettingsFile = None,
) -> None:
    """Run the reference pipeline of one node: get-usage from its own serving table."""
    from foreshard.gateway.pipeline import run_pipeline

    run_pipeline(configuration.load(settings), node_id, host, port)


def up(
    port: Annotated[int, typer.Option(help="Port of Airflow's user interface; 0 takes a free one.")] = 8080,
    hourly: Annotated[bool, typer.Option(help="Aggregate each hour by the clock; not for a log of the past.")] = True,
    settings: SettingsFile = None,
) -> None:
    """Start the embedded Postgres and Airflow with all of foreshard's DAGs, until Ctrl-C."""
    from foreshard.local.airflow import run_airflow

    run_airflow(configuration.load(settings), port, hourly=hourly)


def add_to(app: typer.Typer) -> None:
    app.command()(gateway)
    app.command()(pipeline)
    app.command()(up)
