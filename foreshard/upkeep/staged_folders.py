"""Folders of staged files in a table that no version of it names: what a killed job wrote and did not commit.

VACUUM takes them too, after a week. Files that a commit named once are left to it: somebody may still read that version.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pyarrow.fs as fs

from foreshard.lake import log
from foreshard.lake.filesystem import locate

# Younger ones may be of a job that is writing; it holds the table's lease, but not every reader of this does.
SECONDS = 900.0


def staged_leftovers(path: str, seconds: float = SECONDS) -> list[str]:
    """The names of such folders below the table, those only in which nothing changed for so many seconds."""
    system, top = locate(path)
    if system.get_file_info(top).type is not fs.FileType.Directory:
        return []
    folders = [
        info.base_name
        for info in system.get_file_info(fs.FileSelector(top))
        if info.type is fs.FileType.Directory and info.base_name.startswith("staged-")
    ]
    unnamed = sorted(set(folders) - _named(path, system, top)) if folders else []
    return [folder for folder in unnamed if _is_old(system, f"{top}/{folder}", seconds)]


def remove_staged(path: str, seconds: float = SECONDS) -> int:
    """Removes them; the caller holds the table's lease. Returns how many."""
    system, top = locate(path)
    found = staged_leftovers(path, seconds)
    for folder in found:
        system.delete_dir(f"{top}/{folder}")
    return len(found)


def _named(path: str, system: fs.FileSystem, top: str) -> set[str]:
    """The first folders of all files that the newest version has, or that a commit still in the log brought or removed."""
    table = log.opened(path)
    paths = [] if table is None else table.get_add_actions(flatten=True).column("path").to_pylist()
    commits = fs.FileSelector(f"{top}/_delta_log", allow_not_found=True)
    for info in system.get_file_info(commits):
        if not info.base_name.endswith(".json"):
            continue
        with system.open_input_stream(info.path) as stream:
            actions = [json.loads(line) for line in stream.read().splitlines() if line.strip()]
        paths += [action[kind]["path"] for action in actions for kind in ("add", "remove") if kind in action]
    return {unquote(name).split("/")[0] for name in paths}


def _is_old(system: fs.FileSystem, folder: str, seconds: float) -> bool:
    oldest = datetime.now(UTC) - timedelta(seconds=seconds)
    files = [info for info in system.get_file_info(fs.FileSelector(folder, recursive=True)) if info.type is fs.FileType.File]
    found = files or [system.get_file_info(folder)]
    return all(info.mtime is None or info.mtime < oldest for info in found)
