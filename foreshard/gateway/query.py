"""The get-usage query: what it asks for, and how it is read from the parameters of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from foreshard.errors import ForeshardError
from foreshard.gateway_settings import CLASS_NAME

GRANULARITIES = ("hour", "day", "total")
LONGEST_NAME = 512
WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 30.0
_NUMBER = re.compile(r"[0-9.eE+-]{1,40}")


class BadQuery(ForeshardError):
    """The caller's parameters are wrong; the text says which one and what is expected (status 400)."""


@dataclass(frozen=True, slots=True)
class Query:
    """One get-usage query over the hours that begin in [range_start, range_end), both timezone-aware UTC."""

    entity_id: str
    service_id: str
    operation_id: str
    range_start: datetime
    range_end: datetime
    query_class: str = "standard"


def from_parameters(parameters: Mapping[str, str], query_class: str) -> tuple[Query, str]:
    """The query and its granularity (`hour`, `day` or `total`); raises BadQuery naming the parameter."""
    names = [name(parameters, field) for field in ("entity_id", "service_id", "operation_id")]
    start, end = instant("start", parameters.get("start", "")), instant("end", parameters.get("end", ""))
    if start >= end:
        raise BadQuery(f"start must be before end, but {start.isoformat()} is not before {end.isoformat()}")
    granularity = parameters.get("granularity", "hour")
    if granularity not in GRANULARITIES:
        raise BadQuery(f"granularity must be hour, day or total, not {granularity[:40]!r}")
    if not CLASS_NAME.fullmatch(query_class):
        raise BadQuery("the query class must be 1 to 64 letters, digits, dots, dashes or underscores")
    return Query(names[0], names[1], names[2], start, end, query_class), granularity


def instant(field: str, text: str) -> datetime:
    """ISO 8601 date or time as UTC; without an offset it is taken as UTC."""
    try:
        # A plus sign that was not escaped in the address arrives as a space.
        value = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadQuery(f"{field} must be a time such as 2013-11-28T05:00:00Z, not {text[:40]!r}") from None
    return value


def wait_seconds(text: str | None) -> float:
    """How long a query may wait for the write that its token names; raises BadQuery."""
    if text is None:
        return WAIT_SECONDS
    try:
        seconds = float(text) if _NUMBER.fullmatch(text) else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT_SECONDS:
        raise BadQuery(f"wait must be 0 to {LONGEST_WAIT_SECONDS:g} seconds, not {text[:40]!r}")
    return seconds


def name(parameters: Mapping[str, str], field: str) -> str:
    """The parameter's value; raises BadQuery if it is missing, blank or too long."""
    value = parameters.get(field, "")
    # Postgres, where entities may come to stand, has no text with a zero character.
    if not value.strip() or len(value) > LONGEST_NAME or "\0" in value:
        raise BadQuery(f"{field} must be given, with 1 to {LONGEST_NAME} characters, none of them zero")
    return value
