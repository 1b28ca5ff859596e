"""`foreshard data-docs`."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import SettingsFile


def add_to(app: typer.Typer) -> None:
    """Registers the command under its own name."""
    app.command(name="data-docs")(data_docs)


def data_docs(
    settings: SettingsFile = None,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open them in a browser, if there is a display.")] = True,
) -> None:
    """Build the reports of all checks as pages that need no network, and open them."""
    from foreshard.checks.quality_site import build

    index = build(configuration.load(settings))
    typer.echo(index)
    if show and _has_display():
        webbrowser.open(index.as_uri())


def _has_display() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
