"""Web access logs in the Common and Combined Log Format: entity from the path or a host, operation from the method."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.usage.formats import json_text, rows, streaming
from foreshard.usage.formats.mapping import Mapping, entity_regex

MALFORMED = "malformed access log line"
_MONTHS = pa.array(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"])
_NUMBERS = pa.array([f"{month:02d}" for month in range(1, 13)])
# host identity user [time] "METHOD path protocol" status bytes, then what a Combined log and its owner's additions append.
# A user's name may have spaces; a quote within a request is escaped.
_LINE = (
    r"^(?P<host>\S+) \S+ .*? "
    r"\[(?P<day>[0-9]{2})/(?P<month>[A-Z][a-z]{2})/(?P<year>[0-9]{4}):(?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2}) "
    r"(?P<ahead>[+-][0-9]{2})(?P<minutes>[0-9]{2})\] "
    r'"(?P<method>[A-Za-z]+) (?P<path>(?:[^"\\ ]|\\.)+)(?: [^"]*)?" (?P<status>[0-9]{3}) (?P<bytes>[0-9]+|-)(?:\s.*)?$'
)
_VIRTUAL_HOST = r"(?P<virtual_host>[^\s:]+)(?::[0-9]+)? "


def read(chunks: Iterator[bytes], mapping: Mapping) -> Iterator[pa.RecordBatch]:
    """The lines of a stream as `rows.SCHEMA`; rows are the physical lines, blank ones counted and passed over."""
    pattern = _LINE.replace("^", "^" + _VIRTUAL_HOST, 1) if mapping.access_log.virtual_host else _LINE
    for lines in streaming.lines(chunks):
        if lines.too_long:
            yield rows.unreadable(lines.first, lines.content.to_pylist(), rows.TOO_LONG)
        elif lines.valid:
            yield _block(lines.rows, rows.as_texts(lines.content), mapping, pattern)
        else:
            yield _with_unreadable(lines, mapping, pattern)


def _block(numbers: pa.Array, raw: pa.StringArray, mapping: Mapping, pattern: str) -> pa.RecordBatch:
    found = pc.extract_regex(raw, pattern)
    columns = _columns(found, mapping)
    text, problem = json_text.objects(mapping.fields, columns, len(raw))
    malformed = pc.is_null(found)
    if not pc.any(malformed).as_py():
        return rows.batch(numbers, raw, problem, text)
    problem = pc.if_else(malformed, MALFORMED, problem)
    blank = pc.and_(malformed, rows.blank(raw))
    return rows.batch(numbers, raw, problem, pc.if_else(malformed, None, text)).filter(pc.invert(blank))


def _columns(found: pa.StructArray, mapping: Mapping) -> dict[str, pa.Array]:
    """The fields that a log has; only those of the record are used."""
    part = dict(zip((field.name for field in found.type), found.flatten(), strict=True))
    log = mapping.access_log
    size = pc.if_else(pc.equal(part["bytes"], "-"), "0", part["bytes"])
    one = pa.repeat(pa.scalar("1"), len(found))
    time = _iso_time(part)
    columns = {
        "entity_id": _entity(part[log.entity], mapping),
        "operation_id": part["method"],
        "event_time": time,
        # A log does not say which time a query asked for: without a constant, that of the request.
        "range_start": time,
        "range_end": time,
        "quantity": size if log.quantity == "bytes" else one,
        "bytes": size,
        "status": part["status"],
    }
    if log.virtual_host:
        columns["service_id"] = part["virtual_host"]
    # What is declared wins: a log has no columns of its own by these names.
    return {field.name: columns[field.name] for field in mapping.fields if field.name in columns and field.constant is None}


def _entity(value: pa.StringArray, mapping: Mapping) -> pa.StringArray:
    log = mapping.access_log
    if log.entity_pattern:
        return pc.struct_field(pc.extract_regex(value, entity_regex(log.entity_pattern)), "entity")
    if log.entity == "path":
        return pc.replace_substring_regex(value, r"[?#].*$", "")
    return value


def _iso_time(part: dict[str, pa.Array]) -> pa.StringArray:
    """28/Nov/2013:05:10:00 -0700 as 2013-11-28T05:10:00-07:00; another name of a month leaves a time that is refused."""
    month = pc.coalesce(_NUMBERS.take(pc.index_in(part["month"], _MONTHS)), part["month"])
    date = pc.binary_join_element_wise(part["year"], month, part["day"], "-")
    return pc.binary_join_element_wise(date, "T", part["clock"], part["ahead"], ":", part["minutes"], "")


def _with_unreadable(lines: streaming.Lines, mapping: Mapping, pattern: str) -> pa.RecordBatch:
    """The lines that are UTF-8 as any others, and the rest refused, in order."""
    content = lines.content.to_pylist()
    readable = np.array([streaming.is_utf8(line) for line in content])
    good = np.flatnonzero(readable)
    parts = [
        _block(lines.rows.take(pa.array(good)), pa.array([content[i].decode() for i in good], pa.string()), mapping, pattern)
    ]
    parts += [rows.unreadable(lines.first + int(i), [content[i]], rows.NOT_UTF8) for i in np.flatnonzero(~readable)]
    return rows.in_order(parts)
