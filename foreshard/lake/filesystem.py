"""Where the lake's files are, for what reads them without Spark: a local folder or an object store."""

from __future__ import annotations

from pyarrow import fs


def filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path in it; `s3a` is Hadoop's name for `s3`."""
    if "://" not in uri:
        return fs.LocalFileSystem(), uri
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri.replace("s3a://", "s3://", 1))
    return found
