"""A whole file → its rows with its name, checksum and landing time: what a task does for each of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa

from foreshard.errors import ForeshardError
from foreshard.lake.filesystem import locate
from foreshard.usage.formats import access_log, csv, jsonl, parquet, rows, streaming
from foreshard.usage.formats.mapping import Mapping, known_suffix

_READERS = {"jsonl": jsonl.read, "csv": csv.read, "access_log": access_log.read}
_BLOCKS = {"csv": 1 << 20}  # each is a batch, while other readers put some together


def text_file(path: str, name: str, landed: datetime, mapping: Mapping) -> Iterator[pa.RecordBatch]:
    """The rows of a JSON Lines, CSV or access log file. Raises ForeshardError if it cannot be read, such as a damaged gzip."""
    file_format = mapping.format_of(name)
    try:
        checksum = streaming.checksum(path)
        head = b""

        def chunks() -> Iterator[bytes]:
            nonlocal head
            for block in streaming.blocks(path, known_suffix(name)[1], _BLOCKS.get(file_format, streaming.BLOCK)):
                head = head or block.strip()[:1]
                yield block

        some = False
        for batch in _READERS[file_format](chunks(), mapping):
            some = some or batch.num_rows > 0
            yield _of_file(batch, name, checksum, landed)
        if not some and not (head and file_format == "csv"):
            yield _empty(name, landed)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _empty(name: str, landed: datetime) -> pa.RecordBatch:
    """The one row that tells of a file without any; a CSV file with its header alone is not one of these.

    All such files have one checksum, so that quarantine, whose key it is with the row, would tell of the first alone: that
    of the name stands in for it.
    """
    row = rows.batch(pa.array([0]), pa.array([""]), pa.array(["empty file"]))
    return _of_file(row, name, hashlib.sha256(name.encode()).hexdigest(), landed)


def parquet_file(path: str, name: str, landed: datetime, mapping: Mapping) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file. Raises ForeshardError if it is none."""
    try:
        checksum = streaming.checksum(path)
        system, within = locate(path)
        with system.open_input_file(within) as source:
            for batch in parquet.read(source, mapping):
                yield _of_file(batch, name, checksum, landed)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _of_file(batch: pa.RecordBatch, name: str, checksum: str, landed: datetime) -> pa.RecordBatch:
    count = batch.num_rows
    constant = {
        "file_name": pa.repeat(pa.scalar(name, pa.string()), count),
        "file_checksum": pa.repeat(pa.scalar(checksum, pa.string()), count),
        "landed_at": pa.repeat(pa.scalar(landed, pa.timestamp("us", tz="UTC")), count),
    }
    columns: dict[str, Any] = {**constant, **dict(zip(batch.schema.names, batch.columns, strict=True))}
    order = ["file_name", "file_checksum", "file_row", "landed_at", "raw", "problem"]
    names = [*order, *(column for column in batch.schema.names if column not in order)]
    return pa.RecordBatch.from_arrays([columns[column] for column in names], names=names)


def _unreadable(path: str, error: Exception) -> ForeshardError:
    cause = str(error).strip().splitlines()[0].rstrip(".;") if str(error).strip() else type(error).__name__
    return ForeshardError(f"cannot read the file {path}: {cause}; repair, rename or remove it and run again")
