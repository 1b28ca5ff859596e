"""The last snapshot a gateway adopted, on its own disk: what it starts from and keeps on with when Postgres is gone.

The file is the hex SHA-256 of the encoded snapshot, a line end, and the encoded snapshot.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import zstandard

from foreshard.errors import ForeshardError
from foreshard.routing.snapshot import Snapshot, decode, encode


def save(path: Path, snapshot: Snapshot) -> None:
    """Writes the whole file or leaves the old one."""
    packed, checksum = encode(snapshot)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, whole = tempfile.mkstemp(dir=path.parent, prefix="_")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(checksum.encode() + b"\n" + packed)
            file.flush()
            os.fsync(file.fileno())
        os.replace(whole, path)
    except BaseException:
        os.unlink(whole)
        raise


def load(path: Path, pool_id: str) -> Snapshot | None:
    """The snapshot, None if there is no file; raises ForeshardError if it was damaged, changed, or is another pool's."""
    try:
        checksum, _, packed = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    try:
        snapshot = decode(packed, checksum.decode("ascii", "replace"))
    except (ForeshardError, KeyError, TypeError, ValueError, zstandard.ZstdError) as error:
        raise ForeshardError(
            f"last-known-good file {path} is not used: {error}; delete it, the next epoch writes a new one"
        ) from None
    if snapshot.pool_id != pool_id:
        raise ForeshardError(f"last-known-good file {path} is of pool {snapshot.pool_id}, not {pool_id}; delete it")
    return snapshot
