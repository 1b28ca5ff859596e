"""The few damaged lines among the demo's departures, so that quarantine has something to show. Drawn; the feed itself is clean.

Each is a damaged copy of a real departure's line, under another record id, written beside the real one: no real row is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]


def _truncated(record: Record) -> bytes:
    return _line(record)[:-30]


def _negative(record: Record) -> bytes:
    return _line({**record, "quantity": -record["quantity"]})


def _missing(record: Record) -> bytes:
    return _line({name: value for name, value in record.items() if name != "entity_id"})


def _wrong_type(record: Record) -> bytes:
    return _line({**record, "quantity": "many"})


def _undecodable(record: Record) -> bytes:
    return _line(record).replace(b'"service_id": "', b'"service_id": "\xff\xfe\x80')


def _far_future(record: Record) -> bytes:
    return _line({**record, "event_time": "2113" + record["event_time"][4:]})


DAMAGES: dict[str, Callable[[Record], bytes]] = {
    "truncated JSON": _truncated,
    "negative quantity": _negative,
    "missing entity_id": _missing,
    "quantity of wrong type": _wrong_type,
    "bytes that are not UTF-8": _undecodable,
    "event_time in the far future": _far_future,
}


def damaged(record: Record, kind: str) -> bytes:
    """The record's landing line, damaged as `kind` (a key of DAMAGES) says; without a line end."""
    return DAMAGES[kind]({**record, "record_id": f"{record['record_id']}-damaged"})


def _line(record: Record) -> bytes:
    return json.dumps(record).encode("utf-8")
