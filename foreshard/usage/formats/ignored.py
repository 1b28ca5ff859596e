"""Columns that files have and no field wants, found in the head of each file: reported once a run, never per row."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.lake.filesystem import locate
from foreshard.usage.formats import csv, streaming
from foreshard.usage.formats.mapping import Mapping, known_suffix

_HEAD = 64 << 10


def columns(path: str, mapping: Mapping) -> set[str]:
    """The names that the head of one file has and the mapping does not use; none for a file that cannot be read."""
    name = path.rsplit("/", 1)[-1]
    wanted = {name for field in mapping.fields for name in field.names}
    try:
        found = _names(path, name, mapping)
    except (OSError, ValueError, pa.ArrowInvalid):
        return set()  # the reader will tell
    return found - wanted


def _names(path: str, name: str, mapping: Mapping) -> set[str]:
    kind = mapping.format_of(name)
    if kind == "parquet":
        system, within = locate(path)
        with system.open_input_file(within) as source:
            return set(pq.ParquetFile(source).schema_arrow.names)
    if kind == "access_log":
        return set()
    head = next(streaming.blocks(path, known_suffix(name)[1], _HEAD))
    if kind == "csv":
        return {column for column in csv.header(head, mapping) if column}
    return {name for line in head.split(b"\n") for name in _members(line)}


def _members(line: bytes) -> list[str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []  # cut off by the end of the head, or refused by the reader
    return list(row) if isinstance(row, dict) else []
