"""JSON Lines: one object a line; rows are the physical lines, blank ones counted and passed over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from json.decoder import scanstring  # type: ignore[attr-defined]

import numpy as np
import pyarrow as pa

from foreshard.usage import strictness
from foreshard.usage.formats import json_text, rows, streaming
from foreshard.usage.formats.mapping import MappedField, Mapping

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def read(chunks: Iterator[bytes], mapping: Mapping) -> Iterator[pa.RecordBatch]:
    """The lines of a stream as `rows.SCHEMA`; `text` is null where a line is a record as it stands."""
    pattern = strictness.plain_lines([replace(field, name=name) for field in mapping.fields for name in field.names])
    for lines in streaming.lines(chunks):
        if lines.too_long:
            yield rows.unreadable(lines.first, lines.content.to_pylist(), rows.TOO_LONG)
        elif not lines.valid:
            yield _line_by_line(lines.rows, lines.content, mapping)
        elif mapping.is_plain:
            yield _block(lines, mapping, pattern)
        else:
            yield _renamed_block(lines, mapping, pattern)


def _block(lines: streaming.Lines, mapping: Mapping, pattern: str) -> pa.RecordBatch:
    content = lines.content
    told: list[tuple[int, str]] = []
    blank: list[int] = []
    for place in strictness.doubtful(content, pattern):
        line = content[place].as_py()
        if not line.strip():
            blank.append(place)
        elif problem := strictness.problem(line, mapping.fields):
            told.append((place, problem))
    made = rows.batch(lines.rows, rows.as_texts(content), rows.problems(len(content), told))
    if not blank:
        return made
    kept = np.ones(len(content), bool)
    kept[blank] = False
    return made.filter(pa.array(kept))


def _renamed_block(lines: streaming.Lines, mapping: Mapping, pattern: str) -> pa.RecordBatch:
    """The plain lines are parsed at once, and written again column by column; the others line by line."""
    content, numbers = lines.content, lines.rows
    doubtful = np.zeros(len(content), bool)
    doubtful[strictness.doubtful(content, pattern)] = True
    if any(field.type.startswith("array") for field in mapping.fields):
        doubtful[:] = True  # a list would have to be written again too
    plain = content.filter(pa.array(~doubtful))
    try:
        # Numbers stay as they are written.
        table = json.loads(b"[" + b",".join(plain.to_pylist()) + b"]", parse_float=str, parse_int=str)
    except ValueError:
        return _line_by_line(numbers, content, mapping)
    columns = {field.name: pa.array(_column(table, field), pa.string()) for field in mapping.fields}
    text, problem = json_text.objects(mapping.fields, columns, len(plain))
    made = rows.batch(numbers.filter(pa.array(~doubtful)), rows.as_texts(plain), problem, text)
    if not doubtful.any():
        return made
    others = pa.array(doubtful)
    return rows.in_order([made, _line_by_line(numbers.filter(others), content.filter(others), mapping)])


def _column(table: list[dict[str, str | None]], field: MappedField) -> list[str | None]:
    constant = None if field.constant is None else str(field.constant)
    if len(field.names) == 1:
        return [row.get(field.name, constant) for row in table]
    first, second = field.names
    return [row[first] if first in row else row.get(second, constant) for row in table]


def _line_by_line(numbers: pa.Array, content: pa.BinaryArray, mapping: Mapping) -> pa.RecordBatch:
    found: list[tuple[int, str, str | None, str | None]] = []
    for number, line in zip(numbers.to_pylist(), content.to_pylist(), strict=True):
        if line.strip():
            found.append((number, *_row(line, mapping)))
    kept, raw, problem, text = zip(*found, strict=True) if found else ((), (), (), ())
    texts = [pa.array(column, pa.string()) for column in (raw, problem, text)]
    return rows.batch(pa.array(kept, pa.int64()), *texts)


def _row(line: bytes, mapping: Mapping) -> tuple[str, str | None, str | None]:
    try:
        raw = line.decode()
    except UnicodeDecodeError:
        return rows.shown(line), rows.NOT_UTF8, None
    if mapping.is_plain:
        return raw, strictness.problem(raw, mapping.fields), None
    try:
        text = _renamed(raw, mapping)
    except (ValueError, RecursionError, IndexError):
        return raw, "malformed JSON", None
    return raw, strictness.problem(text, mapping.fields), text


def _renamed(line: str, mapping: Mapping) -> str:
    """The line with the fields' own names, constants filled in and other members left out; values stay as written."""
    found = _members(line)
    made = []
    for field in mapping.fields:
        value = next((found[name] for name in field.names if name in found), None)
        if value is None and field.constant is not None:
            value = json.dumps(field.constant, ensure_ascii=False)
        if value is not None:
            made.append(f'"{field.name}":{value}')
    return "{" + ",".join(made) + "}"


def _members(line: str) -> dict[str, str]:
    """Name → value as it is written, of an object's own members. Raises ValueError or IndexError for anything else."""
    members: dict[str, str] = {}
    place = _after_space(line, 0)
    if line[place] != "{":
        raise ValueError("no object")
    place = _after_space(line, place + 1)
    while line[place] != "}":
        if members:
            place = _after_space(line, _past(line, place, ","))
        name, place = scanstring(line, _past(line, place, '"'))
        place = _after_space(line, _past(line, _after_space(line, place), ":"))
        _, end = _DECODER.raw_decode(line, place)
        members[name] = line[place:end]
        place = _after_space(line, end)
    if line[place + 1 :].strip():
        raise ValueError("more than one object")
    return members


def _past(line: str, place: int, wanted: str) -> int:
    if line[place] != wanted:
        raise ValueError(f"no {wanted}")
    return place + 1


def _after_space(line: str, place: int) -> int:
    found = _SPACE.match(line, place)
    return found.end() if found else place
