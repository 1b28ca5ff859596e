"""Event hours as a set that is gathered in the same pass that writes the rows, and as commits carry it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

# The bits of Spark's bitmap_construct_agg: 3.7 years of hours, which are counted modulo that.
SPAN = 32_768
_HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hours_seen(time: Column) -> Column:
    """An aggregate of the hours of `time` (UTC): a bitmap that `from_bitmap` reads."""
    return F.bitmap_construct_agg(F.pmod(F.floor(F.unix_seconds(time) / 3600), F.lit(SPAN)).cast("bigint"))


def collected(frame: DataFrame) -> set[datetime]:
    """The distinct hours of a frame's `event_time`."""
    hours = frame.select(F.date_trunc("hour", "event_time").alias("hour")).distinct()
    return {row["hour"].replace(tzinfo=UTC) for row in hours.collect()}


def from_bitmap(bitmap: bytes, last: datetime) -> list[datetime]:
    """The hours of a bitmap, sorted, none of which may be after `last` nor as much as SPAN hours before it."""
    newest = int((last - _EPOCH) / _HOUR)
    positions = [8 * i + bit for i, byte in enumerate(bitmap) if byte for bit in range(8) if byte >> bit & 1]
    return sorted(_EPOCH + (newest - (newest - position) % SPAN) * _HOUR for position in positions)


def as_runs(hours: Iterable[datetime]) -> list[list[str | int]]:
    """Runs of hours as [first, how many], which is short even for years."""
    runs: list[list[str | int]] = []
    expected = None
    for hour in sorted(set(hours)):
        if hour == expected:
            runs[-1][1] = int(runs[-1][1]) + 1
        else:
            runs.append([f"{hour:%Y-%m-%dT%H}", 1])
        expected = hour + _HOUR
    return runs


def from_runs(runs: Sequence[Sequence[str | int]]) -> list[datetime]:
    """The hours of `as_runs`."""
    return [
        datetime.strptime(str(first), "%Y-%m-%dT%H").replace(tzinfo=UTC) + i * _HOUR
        for first, count in runs
        for i in range(int(count))
    ]


def whole_days(days: Iterable[date]) -> list[datetime]:
    """All hours of these days."""
    return [datetime(d.year, d.month, d.day, tzinfo=UTC) + hour * _HOUR for d in sorted(set(days)) for hour in range(24)]


def around(hours: Iterable[datetime], reach: timedelta) -> list[datetime]:
    """The hours and those up to `reach` before and after each."""
    steps = int(reach / _HOUR)
    return sorted({hour + step * _HOUR for hour in hours for step in range(-steps, steps + 1)})
