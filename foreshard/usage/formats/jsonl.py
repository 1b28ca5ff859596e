"""JSON Lines: one object a line; rows are the physical lines, blank ones counted and passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]

import numpy as np
import pyarrow as pa

from foreshard.usage import strictness
from foreshard.usage.formats import rows, streaming
from foreshard.usage.formats.mapping import Mapping

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


def read(chunks: Iterator[bytes], mapping: Mapping) -> Iterator[pa.RecordBatch]:
    """The lines of a stream as `rows.SCHEMA`; `text` is null where a line is a record as it stands."""
    pattern = strictness.plain_lines(mapping.fields)
    for lines in streaming.lines(chunks):
        if lines.too_long:
            yield rows.unreadable(lines.first, lines.content.to_pylist(), rows.TOO_LONG)
        elif not mapping.is_plain or not lines.valid:
            yield _line_by_line(lines, mapping)
        else:
            yield _block(lines, mapping, pattern)


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


def _line_by_line(lines: streaming.Lines, mapping: Mapping) -> pa.RecordBatch:
    found: list[tuple[int, str, str | None, str | None]] = []
    for number, line in enumerate(lines.content.to_pylist(), start=lines.first):
        if line.strip():
            found.append((number, *_row(line, mapping)))
    numbers, raw, problem, text = zip(*found, strict=True) if found else ((), (), (), ())
    texts = [pa.array(column, pa.string()) for column in (raw, problem, text)]
    return rows.batch(pa.array(numbers, pa.int64()), *texts)


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
    if line[place + 1 :].strip(_SPACE):
        raise ValueError("more than one object")
    return members


def _past(line: str, place: int, wanted: str) -> int:
    if line[place] != wanted:
        raise ValueError(f"no {wanted}")
    return place + 1


def _after_space(line: str, place: int) -> int:
    while place < len(line) and line[place] in _SPACE:
        place += 1
    return place
