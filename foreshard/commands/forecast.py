"""`foreshard forecast`: the forecast of series in a file, and how well published forecasts came true, without Spark."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json
from foreshard.errors import ForeshardError

app = typer.Typer(no_args_is_help=True)
_UNITS = {"min": "minutes", "h": "hours", "d": "days"}


@app.callback()
def group() -> None:
    """Forecasts without Spark."""


@app.command()
def run(
    series: Annotated[Path, typer.Option(help="Parquet with unique_id, ds (UTC), y.")],
    out: Annotated[Path, typer.Option(help="Where the forecast is written (Parquet).")],
    freq: Annotated[str, typer.Option(help="Interval of the series, such as 15min or 1h.")] = "1h",
    horizon: Annotated[int, typer.Option(min=1, help="Steps ahead.")] = 24,
    models: Annotated[str, typer.Option(help="Families, comma-separated; empty: all that are cheap.")] = "",
    events: Annotated[Path | None, typer.Option(help="CSV with name, start, end and, if wanted, shards and lift.")] = None,
    country: Annotated[str, typer.Option(help="ISO 3166 code whose holidays count, such as US or US-CA.")] = "",
    zone: Annotated[str, typer.Option(help="Time zone of the users, and of times without an offset.")] = "UTC",
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same file.")] = 0,
) -> None:
    """Forecast every series of a file: mean and quantiles, one row per series and step."""
    from foreshard.forecast.file import Asked, forecast_file

    chosen = tuple(name.strip() for name in models.split(",") if name.strip())
    if models and not chosen:
        raise ForeshardError("--models names none; leave it away for the default ones")
    fallbacks = forecast_file(series, out, Asked(_interval(freq), horizon, chosen, country, zone, events, seed))
    typer.echo(f"Forecast {sum(fallbacks.values())} series, {horizon} steps of {freq} each, into {out}.")
    for reason, count in sorted(fallbacks.items()):
        if reason:
            typer.echo(f"{count} of them have a simpler forecast: {reason}.")


@app.command()
def evaluate(
    settings: SettingsFile = None,
    days: Annotated[int, typer.Option(min=1, help="How many days of scores to read, back from the last.")] = 28,
    out: Annotated[Path | None, typer.Option(help="Folder for pictures (PNG); without it none is drawn.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how well the published forecasts came true: by model, by horizon, by shard, and whether they drifted."""
    from foreshard.commands import forecast_evaluation

    loaded = configuration.load(settings)
    found = forecast_evaluation.evaluated(loaded, days, out)
    if as_json:
        print_json(found.document())
    else:
        found.print()


def _interval(freq: str) -> timedelta:
    match = re.fullmatch(r"(\d+)(min|h|d)", freq)
    if not match or int(match[1]) == 0:
        raise ForeshardError(f"--freq {freq!r} is not an interval; write for example 15min, 1h or 1d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
