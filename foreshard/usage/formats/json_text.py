"""Columns of text → one JSON object a row, as the record parser reads it, without a step per row or value.

Everything in a CSV file or an access log is text. A value goes unquoted into the object only if it is written as its
declared type; any other is a problem of its row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.usage.formats.mapping import MappedField
from foreshard.usage.strictness import not_a

_NUMBER = r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$"
_TIME = r"^[0-9]{4,6}-[0-9]{2}-[0-9]{2}(?:[T ].*)?$"
_UNSAFE = r'["\\\x00-\x1f]'  # not as it is within a JSON text


def objects(fields: Sequence[MappedField], columns: Mapping[str, pa.StringArray], count: int) -> tuple[pa.Array, pa.Array]:
    """`count` objects of the fields' values by name, and why a row's values are refused or null; empty texts are null.

    A field without a column has its constant, or is left out.
    """
    pieces: list[pa.Array | pa.Scalar] = []
    problem = pa.nulls(count, pa.string())
    literal = "{"
    for field in fields:
        column = columns.get(field.name)
        if column is None:
            if field.constant is not None:
                literal += f"{_name(field)}{json.dumps(field.constant, ensure_ascii=False)},"
            continue
        values, wrong = _values(field, column)
        if wrong is not None:
            problem = pc.coalesce(problem, wrong)
        pieces += [pa.scalar(literal + _name(field)), pc.fill_null(values, "null")]
        literal = ","
    if not pieces:
        return pa.repeat(pa.scalar(literal.rstrip(",") + "}"), count), problem
    pieces.append(pa.scalar("}" if literal == "," else literal.rstrip(",") + "}"))
    text = pc.binary_join_element_wise(*pieces, "")
    return (text if problem.null_count == count else pc.if_else(pc.is_null(problem), text, None)), problem


def _name(field: MappedField) -> str:
    return f'"{field.name}":'


def _values(field: MappedField, column: pa.StringArray) -> tuple[pa.Array, pa.Array | None]:
    """The values as JSON, and the rows' problems if there are any."""
    if field.type == "string":
        return _quoted(_null_if_empty(column)), None
    given = _null_if_empty(pc.utf8_trim_whitespace(column))
    if field.type.startswith("array"):
        found = [_list_problem(field, value) for value in given.to_pylist()]
        return given, pa.array(found, pa.string()) if any(found) else None
    fits = pc.match_substring_regex(given, _NUMBER if field.is_number else _TIME)
    values = given if field.is_number else _quoted(given)
    if pc.all(fits, min_count=0).as_py():
        return values, None
    sentences = pc.binary_join_element_wise(not_a(field, ""), pc.utf8_slice_codeunits(given, 0, 80), "")
    return values, pc.if_else(pc.invert(fits), sentences, None)


def _list_problem(field: MappedField, value: str | None) -> str | None:
    """A list of candidates is written as JSON; queries in CSV rarely have one, so that a step per value does not matter."""
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    return None if isinstance(parsed, list) else not_a(field, value)


def _null_if_empty(column: pa.StringArray) -> pa.StringArray:
    empty = pc.equal(pc.binary_length(column), 0)
    return pc.if_else(empty, None, column) if pc.any(empty).as_py() else column


def _quoted(column: pa.StringArray) -> pa.StringArray:
    unsafe = pc.fill_null(pc.match_substring_regex(column, _UNSAFE), False)
    if pc.any(unsafe).as_py():
        places = np.flatnonzero(unsafe.to_numpy(zero_copy_only=False))
        escaped = [json.dumps(value, ensure_ascii=False)[1:-1] for value in column.take(pa.array(places)).to_pylist()]
        column = pc.replace_with_mask(column, unsafe, pa.array(escaped, column.type))
    return pc.binary_join_element_wise('"', column, '"', "")
