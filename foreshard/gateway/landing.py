"""Landing files as a gateway writes them: whole or not there, in the folder of the hour in which they land."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from foreshard.errors import ForeshardError


def local_folder(folder: str) -> Path:
    """The landing folder as a path; raises ForeshardError if it is an object store's address."""
    if "://" in folder:
        raise ForeshardError(f"a gateway lands files in a local or mounted folder; set landing to a path, not {folder}")
    return Path(folder)


def hour_name(moment: datetime) -> str:
    """The folder name of an hour, for example 2013-11-28T05."""
    return moment.strftime("%Y-%m-%dT%H")


def put_in_place(temporary: Path, folder: Path, name: str, moment: datetime) -> Path:
    """Renames a finished file into the folder of the hour of `moment`; readers see all of it or nothing."""
    target = folder / hour_name(moment) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(target)
    _sync_folder(target.parent)
    return target


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
