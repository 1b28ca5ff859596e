"""Reading tables in streams, as pipelines read what they serve, and naming the file at fault where that fails."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

from foreshard.lake.filesystem import locate
from foreshard.lake.log import Snapshot
from foreshard.transition.disk_checksums import is_altered

# What reading a damaged or missing file raises, here or in what consumes the stream.
ERRORS = (DeltaError, pa.ArrowException, duckdb.Error, OSError)


def stream(table: DeltaTable, columns: Sequence[str], predicate: str) -> pa.RecordBatchReader:
    """The rows of the table's loaded version that match, with deletion vectors and renamed columns minded."""
    return pa.RecordBatchReader.from_stream(table.scan(columns=list(columns), predicate=predicate))


def altered_files(table: DeltaTable, partitions: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """The partitions with a file on a local disk that is not what was written, and the file; readable or not."""
    root = str(table.table_uri)
    for partition, paths in _files(table, partitions).items():
        altered = (path for path in paths if _is_altered(root, path))
        if file := next(altered, None):
            yield partition, unquote(file)


def unreadable_files(table: DeltaTable, columns: Sequence[str], partitions: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """The partitions, of a table partitioned by one column, that cannot be read, each with a file of it that is at fault."""
    (column,) = table.metadata().partition_columns
    for partition, paths in _files(table, partitions).items():
        value = partition if isinstance(partition, int) else f"'{partition}'"
        try:
            for _ in stream(table, columns, f"{column} = {value}"):
                pass
        except ERRORS as error:
            yield partition, _at_fault(str(table.table_uri), paths, unquote(str(error)))


def _files(table: DeltaTable, partitions: Iterable[Any]) -> dict[Any, list[str]]:
    """Partition → paths below the table's folder, encoded as the log has them."""
    found = defaultdict(list)
    for file in Snapshot(str(table.table_uri), table).files(partitions):
        found[file.partition].append(file.path)
    return found


def _at_fault(root: str, paths: Sequence[str], said: str) -> str:
    """The file that the message names; most name none, then the first that does not decode."""
    named = (path for path in paths if unquote(path).rsplit("/", 1)[-1] in said)
    return unquote(next(named, None) or next((path for path in paths if not _decodes(root, path)), paths[0]))


def _decodes(root: str, path: str) -> bool:
    system, place = _place(root, path)
    try:
        pq.read_table(place, filesystem=system, partitioning=None)
    except (OSError, pa.ArrowException):
        return False
    return True


def _is_altered(root: str, path: str) -> bool:
    system, place = _place(root, path)
    return isinstance(system, fs.LocalFileSystem) and is_altered(Path(place))


def _place(root: str, path: str) -> tuple[fs.FileSystem, str]:
    return locate(f"{unquote(root).rstrip('/')}/{unquote(path)}")
