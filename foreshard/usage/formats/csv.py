"""CSV with a header row: quoted fields may hold delimiters, quotes (doubled) and line ends (RFC 4180).

Rows are the data rows, counted from 1; blank lines are none. A block whose quotes and columns are all regular is read
whole by Arrow. Any other is read row by row, so that a damaged row is refused alone: where quotes do not close or are
followed by more, the physical line is refused, and reading goes on with the next.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from foreshard.usage.formats import json_text, rows, streaming
from foreshard.usage.formats.mapping import Mapping

_LONGEST_ROW = 1 << 20  # of a row whose quotes span lines; beyond it, its first quote is taken as not closed
_BAD_QUOTES = "malformed CSV row: a quote is not closed, or more follows it"


@dataclass
class _Reader:
    """What one file's blocks have in common, and how far its rows are counted."""

    mapping: Mapping
    header: list[str] = field(default_factory=list)
    row: int = 1

    def __post_init__(self) -> None:
        delimiter = re.escape(self.mapping.delimiter)
        quoted, plain = '"(?:[^"]|"")*+', rf'[^"\n{delimiter}][^\n{delimiter}]*+'
        cell = f'(?:{quoted}"|{plain}|)'
        self.whole = re.compile(f"(?:{cell}{delimiter})*{cell}\r?".encode())
        self.open = re.compile(f"(?:{cell}{delimiter})*{quoted}".encode())

    def cells(self, row: bytes) -> list[str]:
        """The cells of one row. Raises UnicodeDecodeError."""
        return next(csv.reader([row.decode()], delimiter=self.mapping.delimiter), [])

    def places(self) -> dict[str, int]:
        """Field → its column's place, for the fields that the file has."""
        place = {name: index for index, name in reversed(list(enumerate(self.header)))}
        found = {f.name: next((place[name] for name in f.names if name in place), None) for f in self.mapping.fields}
        return {name: index for name, index in found.items() if index is not None}

    def numbers(self, count: int) -> pa.Array:
        self.row += count
        return pa.array(np.arange(self.row - count, self.row, dtype=np.int64))


def read(chunks: Iterator[bytes], mapping: Mapping) -> Iterator[pa.RecordBatch]:
    """The rows of a stream as `rows.SCHEMA`. Raises ValueError if the header cannot be read."""
    reader = _Reader(mapping)
    data = b""
    for chunk, final in _with_end(chunks):
        data += chunk
        if not reader.header:
            data = data[_take_header(reader, data, final) :]
        end = _regular_end(data, mapping.delimiter) if reader.header else 0
        if end == 0 and not final and len(data) <= _LONGEST_ROW:
            continue
        made = _whole_block(reader, data[:end]) if end else None
        if made is None:
            made, end = _row_by_row(reader, data, final)
        data = data[end:]
        if made.num_rows:
            yield made


def header(data: bytes, mapping: Mapping) -> list[str]:
    """The columns' names from the beginning of a file. Raises ValueError if they cannot be read."""
    reader = _Reader(mapping)
    _take_header(reader, data, final=True)
    return reader.header


def _with_end(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The chunks, and at the end a line feed, which closes a last row that has none."""
    yield from ((chunk, False) for chunk in chunks)
    yield b"\n", True


def _take_header(reader: _Reader, data: bytes, final: bool) -> int:
    """Reads the first row that is not blank and returns where it ends, or 0 if more of the file is needed."""
    place = 0
    while found := _next_row(reader, data, place, final):
        row, place, problem = found
        if not row.strip():
            continue
        try:
            if problem:
                raise ValueError(problem)
            reader.header = [name.strip() for name in reader.cells(row)]
        except ValueError as error:
            raise ValueError(f"its header row is malformed: {rows.shown(row)[:80]}") from error
        return place
    return 0


def _regular_end(data: bytes, delimiter: str) -> int:
    """Where the last whole row ends, 0 if none does or if its quotes are not as RFC 4180 has them."""
    letters = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(letters == 34) if b'"' in data else np.zeros(0, np.int64)
    ends = _row_ends(letters, quotes)
    end = int(ends[-1]) + 1 if len(ends) else 0
    quotes = quotes[: np.searchsorted(quotes, end)]
    opening, closing = quotes[0::2], quotes[1::2]
    around = np.zeros(256, bool)
    around[list(b'"\r\n' + delimiter.encode())] = True
    before = letters[opening[opening > 0] - 1]
    regular = around[before].all() and around[letters[closing + 1]].all()
    # Arrow would end a row at a carriage return alone.
    return end if regular and data.count(b"\r", 0, end) == data.count(b"\r\n", 0, end) else 0


def _row_ends(letters: np.ndarray, quotes: np.ndarray) -> np.ndarray:
    """The places of the line feeds that are not within quotes."""
    ends = np.flatnonzero(letters == 10)
    return ends[np.searchsorted(quotes, ends) % 2 == 0] if len(quotes) else ends


def _whole_block(reader: _Reader, data: bytes) -> pa.RecordBatch | None:
    """All rows at once, or None if some are irregular."""
    if not streaming.is_utf8(data):
        return None
    irregular: list[object] = []

    def skip(row: object) -> str:
        irregular.append(row)
        return "skip"

    names = [str(index) for index in range(len(reader.header))]
    places = reader.places()
    needed = sorted({names[place] for place in places.values()}) or names[:1]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
            arrow_csv.ParseOptions(
                delimiter=reader.mapping.delimiter, newlines_in_values=b'"' in data, invalid_row_handler=skip
            ),
            arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, include_columns=needed, check_utf8=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    raw = _raw_rows(data)
    if irregular or len(raw) != table.num_rows:
        return None
    columns = {name: table.column(names[place]).combine_chunks() for name, place in places.items()}
    text, problem = json_text.objects(reader.mapping.fields, columns, len(raw))
    return rows.batch(reader.numbers(len(raw)), raw, problem, text)


def _raw_rows(data: bytes) -> pa.StringArray:
    letters = np.frombuffer(data, np.uint8)
    ends = _row_ends(letters, np.flatnonzero(letters == 34) if b'"' in data else np.zeros(0, np.int64))
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends + 1
    raw = pc.ascii_rtrim(pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(data)), "\r\n")
    empty = pc.equal(pc.binary_length(raw), 0)
    return raw.filter(pc.invert(empty)) if pc.any(empty).as_py() else raw


def _row_by_row(reader: _Reader, data: bytes, final: bool) -> tuple[pa.RecordBatch, int]:
    """The rows that are whole, and where the last of them ends."""
    place = 0
    raw: list[str] = []
    problems: list[str | None] = []
    table: list[list[str]] = []
    nothing = [""] * len(reader.header)
    while found := _next_row(reader, data, place, final):
        row, place, problem = found
        if not row.strip():
            continue
        cells = nothing
        if problem is None:
            cells, problem = _checked(reader, row)
        raw.append(rows.shown(row))
        problems.append(problem)
        table.append(cells)
    by_column = list(zip(*table, strict=True))
    columns = {name: pa.array(by_column[index], pa.string()) for name, index in reader.places().items() if by_column}
    text, wrong = json_text.objects(reader.mapping.fields, columns, len(raw))
    problem_of = pc.coalesce(pa.array(problems, pa.string()), wrong)
    text = pc.if_else(pc.is_null(problem_of), text, None)
    return rows.batch(reader.numbers(len(raw)), pa.array(raw, pa.string()), problem_of, text), place


def _checked(reader: _Reader, row: bytes) -> tuple[list[str], str | None]:
    nothing = [""] * len(reader.header)
    try:
        cells = reader.cells(row)
    except UnicodeDecodeError:
        return nothing, rows.NOT_UTF8
    except csv.Error as error:
        return nothing, f"malformed CSV row: {error}"
    if len(cells) != len(reader.header):
        return nothing, f"malformed CSV row: {len(cells)} columns, and the header has {len(reader.header)}"
    return cells, None


def _next_row(reader: _Reader, data: bytes, start: int, final: bool) -> tuple[bytes, int, str | None] | None:
    """The row at `start`, where the next begins, and what is wrong with its quotes; None if more of the file is needed."""
    line_end = data.find(b"\n", start)
    if line_end < 0 and len(data) - start > streaming.LONGEST_LINE:
        return data[start : start + streaming.KEPT], len(data), rows.TOO_LONG
    if line_end < 0:
        return (data[start:], len(data), None) if final and start < len(data) else None
    first = data[start:line_end]
    if reader.whole.fullmatch(first):
        return first.removesuffix(b"\r"), line_end + 1, None
    if reader.open.fullmatch(first):
        end, quotes = line_end, first.count(b'"')
        while quotes % 2 and end - start < _LONGEST_ROW:
            following = data.find(b"\n", end + 1)
            if following < 0:
                if final:
                    break
                return None
            quotes += data.count(b'"', end, following)
            end = following
        if quotes % 2 == 0 and reader.whole.fullmatch(data, start, end):
            return data[start:end].removesuffix(b"\r"), end + 1, None
    return first.removesuffix(b"\r"), line_end + 1, _BAD_QUOTES
