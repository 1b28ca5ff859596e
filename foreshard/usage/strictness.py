"""What Spark's JSON reader lets pass although rows or values would be lost: found here before it reads them.

It reads the first object of a line and forgets what follows, takes an object where a text belongs as that object's own text,
a number in quotes as a number, a number as a time, and a time of day as one of today. One regular expression (RE2, some ns
a byte) tells the lines that are plainly well formed; only the others are parsed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.usage.formats.mapping import MappedField

# As bytes, not as characters: the automaton is smaller and a third faster.
_TEXT = r'"(?:[^"\\]|\\.)*"'
_NUMBER = r"-?[0-9][0-9.eE+-]*"
_DATED = r"[0-9]{4,6}-[0-9]{1,2}-[0-9]{1,2}"
_CANDIDATES = rf'\[(?:\s*\{{(?:[^"{{}}\[\]\\]|{_TEXT})*\}}\s*,?)*\s*\]'
STARTS_WITH_DATE = re.compile(rf"\s*[+-]?{_DATED}(?:[T ]|\s*$)")


def plain_lines(fields: Sequence[MappedField]) -> str:
    """A pattern of the lines that need no closer look: one object, its fields of their JSON types, no other field nested."""
    named: dict[str, list[str]] = {}
    for field in fields:
        named.setdefault(_value(field), []).append(re.escape(field.name))
    members = [rf'(?:{"|".join(names)})"\s*:\s*(?:{value}|null)' for value, names in named.items()]
    members.append(rf'{_none_of([field.name for field in fields])}"\s*:\s*(?:{_TEXT}|{_NUMBER}|true|false|null)')
    # A line that ends in a comma passes: it is for the reader to refuse what is cut off.
    return rf'^\s*\{{(?:\s*"(?:{"|".join(members)})\s*(?:,|\}}\s*$))+$'


def _value(field: MappedField) -> str:
    if field.is_number:
        return _NUMBER
    if field.type == "timestamp":
        return rf'"{_DATED}(?:[T ][^"\\]*)?"'
    return _CANDIDATES if field.type.startswith("array") else f"{_TEXT}|{_NUMBER}"


def _none_of(names: Sequence[str]) -> str:
    """A pattern of all keys but these, for RE2 has no lookahead: at each letter, off their common path or on along it."""
    starts = sorted({name[0] for name in names if name})
    off = rf'[^"\\{"".join(map(re.escape, starts))}][^"\\]*'
    on = [re.escape(start) + _none_of([n[1:] for n in names if n and n[0] == start]) for start in starts]
    return f"(?:{'|'.join([off, *on, *([] if '' in names else [''])])})"


def doubtful(lines: pa.BinaryArray, pattern: str) -> list[int]:
    """The places of the lines that `plain_lines` does not tell, blank ones among them."""
    plain = pc.match_substring_regex(lines, pattern)
    found: list[int] = np.flatnonzero(~plain.to_numpy(zero_copy_only=False)).tolist()
    return found


def problem(line: bytes | str, fields: Sequence[MappedField]) -> str | None:
    """Why a line of UTF-8 is refused, or None if it is left to the reader. Time O(length)."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "malformed JSON"
    if not isinstance(row, dict):
        return "malformed JSON"
    return next(filter(None, (value_problem(field, row.get(field.name)) for field in fields)), None)


def value_problem(field: MappedField, value: Any) -> str | None:
    """Why the reader must not see this value, which it would take for another one; None if it may."""
    wrong = False
    if field.type == "string":
        wrong = isinstance(value, (dict, list))
    elif field.is_number:
        wrong = isinstance(value, str) and value.strip() != ""
    elif field.type == "timestamp" and value is not None:
        text = isinstance(value, str)
        wrong = bool(value.strip()) and not STARTS_WITH_DATE.match(value) if text else True
    if not wrong:
        return None
    # In quotes where these are what is wrong.
    quoted = not isinstance(value, str) or (field.is_number and any(c.isdigit() for c in value))
    return not_a(field, json.dumps(value, ensure_ascii=False) if quoted else value)


def not_a(field: MappedField, value: str) -> str:
    """The sentence for a value of another type."""
    return f"{field.name} is not a {field.described}: {value[:80]}"
