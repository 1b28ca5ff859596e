"""What the reference pipeline says to a move that takes a shard from its node or brings one to it."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from foreshard.transition.negotiation import Transfer
from foreshard.transition.picture import Answer

# A copy is written whole before what it replaces is deleted.
ROOM_FACTOR = 2


def answer_to(transfer: Transfer, held: Collection[int], stopping: bool, free_bytes: int | None) -> Answer:
    """A source must hold the shard; a target must be staying and have room for the copy (`free_bytes` None: not known)."""
    if transfer.role == "source":
        holds = transfer.shard_id in held
        return Answer(holds, "" if holds else f"does not hold shard {transfer.shard_id}")
    if stopping:
        return Answer(False, "is stopping")
    needed = ROOM_FACTOR * transfer.bytes
    if free_bytes is not None and free_bytes < needed:
        return Answer(False, f"has {_gigabytes(free_bytes)} free, and shard {transfer.shard_id} needs {_gigabytes(needed)}")
    return Answer(True)


def free_bytes(uri: str) -> int | None:
    """Free bytes where a table's folder is or will be; None for an object store."""
    if "://" in uri:
        return None
    folder = Path(uri)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
