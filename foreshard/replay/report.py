"""The report of a replay: `index.html`, which holds all its pictures, and the pictures as PNG files beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.replay import pictures
from foreshard.replay.frontier_picture import frontier as draw_frontier
from foreshard.replay.page import page
from foreshard.replay.playing import Point, Replay
from foreshard.replay.reconfigurations import largest

_LARGEST_OF_EACH = 5


def write_report(replayed: Replay, folder: Path, points: Mapping[str, tuple[Point, ...]] | None = None) -> Path:
    """Draws the pictures and writes the page; returns the page's path. `points`: of `playing.frontier`, if it was made.

    Raises ForeshardError if the folder cannot be written to. A file of an earlier report is replaced whole.
    """
    try:
        drawn = _draw(replayed, folder, points or {})
        changes = [change for policy in replayed.decisions for change in largest(replayed, policy, _LARGEST_OF_EACH)]
        unfinished, path = folder / ".index.html", folder / "index.html"
        unfinished.write_text(page(replayed, drawn, changes, points or {}), "utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise ForeshardError(f"the report cannot be written to {folder}: {error.strerror}") from error
    return path


def _draw(replayed: Replay, folder: Path, points: Mapping[str, tuple[Point, ...]]) -> list[tuple[str, Path]]:
    """What each picture says, and its file."""
    found = [
        ("Overload against node-hours", draw_frontier(folder / "frontier.png", replayed, points)),
        ("Load and capacity over time", pictures.load_and_capacity(folder / "load-and-capacity.png", replayed)),
    ]
    days = pictures.close_days(replayed)
    if days is not None:
        path = folder / "load-and-capacity-near-the-peak.png"
        found.append(("The same near the highest load", pictures.load_and_capacity(path, replayed, days)))
    found.append(("Load of each shard", pictures.shards(folder / "shards.png", replayed)))
    moved = pictures.moved(folder / "moved.png", replayed)
    return found if moved is None else [*found, ("What was moved when", moved)]
