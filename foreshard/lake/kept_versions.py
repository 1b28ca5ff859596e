"""Telling that an old version of a table can no longer be read, because VACUUM or a cleanup of the log went past it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from foreshard.errors import ForeshardError

# How Spark and Delta begin their messages when a version's files or commits are gone, or it had no change feed yet.
_GONE = (
    "DELTA_VERSION_NOT_FOUND",
    "DELTA_LOG_FILE_NOT_FOUND",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "DELTA_FILE_NOT_FOUND",
    "DELTA_CHANGE_DATA_FILE_NOT_FOUND",
    "DELTA_MISSING_CHANGE_DATA",
    "FAILED_READ_FILE.FILE_NOT_EXIST",
    "java.io.FileNotFoundException",
)


class VersionGone(ForeshardError):
    """A version that is to be read is no longer kept."""

    def __init__(self, what: str, version: int) -> None:
        super().__init__(f"version {version} of {what} is no longer kept; copy from a newer one")
        self.version = version


@contextmanager
def while_kept(what: str, version: int) -> Iterator[None]:
    """Raises VersionGone if what Spark reads in the block, of versions from `version` on, is there no longer."""
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        if any(sign in str(error) for sign in _GONE):
            raise VersionGone(what, version) from None
        raise
