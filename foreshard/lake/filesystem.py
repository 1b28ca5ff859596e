"""Where the lake's and the landing files are, for what reads them without Spark: a local folder or an object store.

Object stores are reached through Arrow's own file systems, whose credentials come from the environment (AWS_*,
AZURE_*, GOOGLE_*), as the readers of Delta tables take them.
"""

from __future__ import annotations

import os
from functools import cache

import pyarrow.fs as fs

_SCHEMES = {"s3a": "s3", "s3n": "s3"}


@cache
def _store(root: str) -> tuple[fs.FileSystem, str]:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    # Without it, each process would ask the store where the bucket is.
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(
        f"{root}?region={region}" if region and root.startswith("s3:") else root
    )
    return found


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI and the path within it. Names are taken as they are, never as encoded."""
    scheme, separator, rest = path.partition("://")
    if not separator or scheme == "file":
        return _local(), (rest if separator else path.removeprefix("file:"))
    authority, _, below = rest.partition("/")
    system, base = _store(f"{_SCHEMES.get(scheme, scheme)}://{authority}")
    return system, f"{base.rstrip('/')}/{below}"


@cache
def _local() -> fs.LocalFileSystem:
    return fs.LocalFileSystem()
