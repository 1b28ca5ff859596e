"""What every text format's reader gives: rows as they were, why some cannot be read, and the text that is parsed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

SCHEMA = pa.schema([("file_row", pa.int64()), ("raw", pa.string()), ("problem", pa.string()), ("text", pa.string())])
NOT_UTF8 = "not UTF-8"
TOO_LONG = "line longer than 16 MiB; its start is kept"
_BLANK = r"^\s*$"


def batch(rows: pa.Array, raw: pa.Array, problem: pa.Array | None = None, text: pa.Array | None = None) -> pa.RecordBatch:
    """Rows of SCHEMA; nothing wrong with any, and the text the same as raw, where these are not given."""
    nothing = pa.nulls(len(rows), pa.string())
    return pa.RecordBatch.from_arrays(
        [rows, raw, nothing if problem is None else problem, nothing if text is None else text], schema=SCHEMA
    )


def problems(count: int, found: Iterable[tuple[int, str]]) -> pa.Array:
    """A column of `count` reasons, null but for the places found."""
    told = dict(found)
    if not told:
        return pa.nulls(count, pa.string())
    return pa.array([told.get(place) for place in range(count)], pa.string())


def shown(line: bytes) -> str:
    """A line that may not be UTF-8, as quarantine shows it."""
    return line.decode("utf-8", "backslashreplace")


def unreadable(first: int, lines: Sequence[bytes], problem: str) -> pa.RecordBatch:
    """Rows that are refused whole for one reason."""
    rows = pa.array(range(first, first + len(lines)), pa.int64())
    raw = pa.array([shown(line) for line in lines], pa.string())
    return batch(rows, raw, pa.array([problem] * len(lines), pa.string()))


def in_order(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of the same block as one, its rows in the order of the file."""
    table = pa.Table.from_batches(parts, SCHEMA)
    ordered = table.sort_by("file_row").combine_chunks().to_batches()
    return ordered[0] if ordered else pa.RecordBatch.from_pylist([], SCHEMA)


def as_texts(content: pa.BinaryArray) -> pa.StringArray:
    """Bytes known to be UTF-8 as texts, without looking at them again."""
    return pa.StringArray.from_buffers(len(content), content.buffers()[1], content.buffers()[2], None, 0, content.offset)


def blank(content: pa.Array) -> pa.BooleanArray:
    """Which lines hold white space alone; few are ever tested, because few are short or end in white space."""
    return pc.match_substring_regex(content, _BLANK)
