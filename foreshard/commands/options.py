"""What many commands take, and how they print: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", help="Settings file (TOML). Default: FORESHARD_SETTINGS, then ./foreshard.toml."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON with stable fields instead of a table.")]


def print_json(value: Any) -> None:
    print(json.dumps(value, default=_plain, sort_keys=True))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*["" if cell is None else str(cell) for cell in row])
    Console().print(table)
