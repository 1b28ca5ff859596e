"""Holidays and events as intervals in UTC: from the `holidays` package by country, and from a table of campaigns and
launches."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from foreshard.errors import ForeshardError

COLUMNS = ("name", "start", "end")
SUNDAY = 6
FRIDAY = 4
_DAY = timedelta(days=1)
_OBSERVED = re.compile(r"\s*\((?:substitute|.*observed.*|in lieu.*)\)", re.IGNORECASE)


@dataclass(frozen=True)
class Event:
    """What happens from `start` up to `end` (UTC) on some shards, all of them if none is named.

    `expected_lift`: what the load is expected to be multiplied by, if that is known: 1.3 is 30 % more. Events of one name are
    taken to be alike.
    """

    name: str
    start: datetime
    end: datetime
    shards: frozenset[str] = frozenset()
    expected_lift: float | None = None
    is_holiday: bool = False


@dataclass(frozen=True)
class Calendar:
    """Events in the order of their starts. `zone`: where the users are, for the phase of their day. `rest_day`: the weekday
    (Monday is 0) that holidays resemble."""

    events: tuple[Event, ...] = ()
    zone: str = "UTC"
    rest_day: int = SUNDAY

    def between(self, start: datetime, end: datetime) -> tuple[Event, ...]:
        """The events that overlap an interval."""
        return tuple(e for e in self.events if e.start < end and e.end > start)

    def unknown_shards(self, ids: Iterable[str]) -> tuple[str, ...]:
        """The shards that events name and `ids` lacks: most likely misspelt."""
        named: set[str] = set().union(*(e.shards for e in self.events))
        return tuple(sorted(named - set(ids)))


def calendar_of(start: datetime, end: datetime, country: str = "", zone: str = "UTC", events: Iterable[Event] = ()) -> Calendar:
    """The calendar from `start` to `end`: the country's holidays, which last from midnight to midnight in `zone`, and `events`.

    `country`: an ISO 3166 code, `US`, or with a subdivision, `US-CA`; empty for none. Raises ForeshardError for an unknown
    country, subdivision or time zone.
    """
    place = _zone(zone)
    holidays: tuple[Event, ...] = ()
    rest_day = SUNDAY
    if country:
        holidays, rest_day = _holidays(start.astimezone(place).date(), end.astimezone(place).date(), country, place)
    every = sorted([*holidays, *events], key=lambda e: (e.start, e.end, e.name, sorted(e.shards)))
    return Calendar(tuple(every), zone, rest_day)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ForeshardError(f"unknown time zone {name!r}; give a name like Europe/Berlin, or UTC") from None


def _holidays(first: date, last: date, code: str, zone: ZoneInfo) -> tuple[tuple[Event, ...], int]:
    import holidays as library  # takes a moment to load, and only who names a country needs it

    country, _, subdivision = code.partition("-")
    if country not in library.list_supported_countries():
        raise ForeshardError(f"unknown country {code!r}; give an ISO 3166 code such as US, DE or US-CA, or none")
    years = range(first.year, last.year + 1)
    try:
        # Without a language the names, and so what is pooled, would depend on the environment of the process.
        days = library.country_holidays(country, subdiv=subdivision or None, years=years, language="en_US")
    except NotImplementedError:
        raise ForeshardError(
            f"{country} has no subdivision {subdivision!r}; give {country} alone or one of its ISO 3166-2 codes"
        ) from None
    found = [
        Event(_plain(name), _midnight(day, zone), _midnight(day + _DAY, zone), is_holiday=True)
        for day, name in sorted(days.items())
        if first <= day <= last
    ]
    weekend = days.weekend
    return tuple(found), SUNDAY if SUNDAY in weekend else FRIDAY if FRIDAY in weekend else max(weekend, default=SUNDAY)


def _plain(name: str) -> str:
    """The name of a holiday without the remark that another day is kept for it."""
    return "; ".join(sorted({_OBSERVED.sub("", part).strip() for part in name.split(";")}))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def read_events(source: Path, zone: str = "UTC") -> tuple[Event, ...]:
    """The events of a CSV file with the columns `name, start, end` and, if wanted, `shards` and `lift`; see `events_of`."""
    try:
        frame = pd.read_csv(source, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise ForeshardError(f"cannot read the events {source}: {error}") from None
    return events_of(frame, str(source), zone)


def events_of(frame: pd.DataFrame, where: str, zone: str = "UTC") -> tuple[Event, ...]:
    """The events of a table, one a row.

    `start` and `end`: times, taken as local in `zone` if they name no offset; a date alone is its midnight, and as an `end`
    the midnight after it. `shards`: separated by `;`, all if empty. `lift`: the expected factor of the load, empty if it is
    not known. Raises ForeshardError that names `where` and the row for anything else.
    """
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ForeshardError(
            f"{where} lacks the columns {', '.join(missing)}; events have name, start, end and may have shards, lift"
        )
    place = _zone(zone)
    columns = {
        name: frame[name].tolist() if name in frame.columns else [None] * len(frame) for name in (*COLUMNS, "shards", "lift")
    }
    found: dict[Event, int] = {}
    for i, row in enumerate(zip(*columns.values(), strict=True)):
        at = f"{where}: row {i + 1}"
        name, start, end, shards, lift = (_text(value) for value in row)
        if not name:
            raise ForeshardError(f"{at}: the event has no name; name it, as events of one name are taken to be alike")
        event = Event(name, _time(start, place, at, "start"), _time(end, place, at, "end"), _shards(shards), _lift(lift, at))
        if event.end <= event.start:
            raise ForeshardError(f"{at}: the event {name} ends at {end}, which is not after its start {start}")
        if event in found:
            raise ForeshardError(f"{at}: the event {name} stands in row {found[event]} already; remove one of them")
        found[event] = i + 1
    return tuple(found)


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NaT:
        return ""
    return value.isoformat() if isinstance(value, date) else str(value).strip()


def _shards(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(";")) - {""}


def _time(text: str, zone: ZoneInfo, at: str, column: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ForeshardError(f"{at}: the {column} {text!r} is no time; write 2024-11-29 or 2024-11-29T18:00") from None
    if column == "end" and re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text):
        found += _DAY
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def _lift(text: str, at: str) -> float | None:
    if not text:
        return None
    try:
        lift = float(text)
    except ValueError:
        lift = math.nan
    if not (math.isfinite(lift) and lift > 0):
        raise ForeshardError(
            f"{at}: the lift {text!r} is no factor above zero; write 1.3 for 30 % more load, or leave it empty"
        )
    return lift
