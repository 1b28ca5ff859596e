"""Parquet: typed columns, a row group's pages at a time; rows are counted from 1."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.usage.formats.conversion import arrow_type, as_json, converted
from foreshard.usage.formats.mapping import Mapping

_BATCH = 1 << 16


def schema(mapping: Mapping) -> pa.Schema:
    """The columns that `read` gives."""
    fields = [(field.name, arrow_type(field.type)) for field in mapping.fields]
    return pa.schema([("file_row", pa.int64()), ("raw", pa.string()), ("problem", pa.string()), *fields])


def columns(file: pq.ParquetFile, mapping: Mapping) -> dict[str, str]:
    """Field → its column, for the fields that the file has."""
    there = set(file.schema_arrow.names)
    found = {field.name: next((name for name in field.names if name in there), "") for field in mapping.fields}
    return {name: column for name, column in found.items() if column}


def read(source: pa.NativeFile, mapping: Mapping) -> Iterator[pa.RecordBatch]:
    """The rows of a file; `raw` is null but for the rows with a problem, and a column that is missing is null.

    Raises ArrowInvalid for what is no Parquet file.
    """
    # Pages are read as they are decoded: a whole column of a large row group need not be in memory.
    file = pq.ParquetFile(source, buffer_size=1 << 20)
    found = columns(file, mapping)
    shape = schema(mapping)
    first = 1
    for batch in file.iter_batches(_BATCH, columns=sorted(set(found.values())) or None, use_threads=False):
        yield _typed(batch, found, mapping, first, shape)
        first += batch.num_rows


def _typed(batch: pa.RecordBatch, found: dict[str, str], mapping: Mapping, first: int, shape: pa.Schema) -> pa.RecordBatch:
    count = batch.num_rows
    problems: dict[int, str] = {}
    made = []
    for field in mapping.fields:
        if field.name in found:
            column, told = converted(field, batch.column(found[field.name]))
            for place, problem in told:
                problems.setdefault(place, problem)
        elif field.constant is not None:
            column, _ = converted(field, pa.repeat(pa.scalar(field.constant), count))
        else:
            column = pa.nulls(count, arrow_type(field.type))
        made.append(column)
    raw, told_column = _told(batch, problems)
    numbers = pa.array(np.arange(first, first + count, dtype=np.int64))
    return pa.RecordBatch.from_arrays([numbers, raw, told_column, *made], schema=shape)


def _told(batch: pa.RecordBatch, problems: dict[int, str]) -> tuple[pa.Array, pa.Array]:
    """The rows with a problem as JSON, and the problems."""
    if not problems:
        return pa.nulls(batch.num_rows, pa.string()), pa.nulls(batch.num_rows, pa.string())
    places = sorted(problems)
    rows = dict(zip(places, map(as_json, batch.take(pa.array(places)).to_pylist()), strict=True))
    raw = pa.array([rows.get(place) for place in range(batch.num_rows)], pa.string())
    return raw, pa.array([problems.get(place) for place in range(batch.num_rows)], pa.string())
