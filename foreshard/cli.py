"""The command `foreshard`. Exit status: 0 done, 1 refused or failed with one sentence, 2 wrong usage."""

from __future__ import annotations

import os
import sys

import typer

from foreshard.commands import (
    capacity,
    forecast,
    haproxy,
    nodes,
    operate,
    plan,
    quality,
    replay,
    routes,
    serve,
    shadow,
    transition,
)
from foreshard.errors import ForeshardError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Forecasts the load on every shard and has data, capacity and routing in place before it arrives.",
)
operate.add_to(app)
serve.add_to(app)
quality.add_to(app)
replay.add_to(app)
app.add_typer(forecast.app, name="forecast", help="Forecasts of series in a file, and how well the published ones came true.")
app.add_typer(capacity.app, name="capacity", help="What nodes can carry, what operations cost, which entities are hot.")
app.add_typer(nodes.app, name="node", help="Nodes: start, empty, remove and watch them.")
app.add_typer(plan.app, name="plan", help="Plans: what would move, why, and whether it may.")
app.add_typer(transition.app, name="transition", help="How far the carrying out of a plan has come.")
app.add_typer(
    shadow.app, name="shadow", help="Shadow mode: plans are recorded with what they would have been worth, and not carried out."
)
app.add_typer(haproxy.app, name="haproxy", help="An HAProxy that follows the published epochs.")
app.add_typer(routes.app, name="routes", help="What is published, and where a key goes.")


def main() -> None:
    try:
        app()
    except ForeshardError as error:
        print(f"foreshard: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output went away, for example `head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
