"""The partition keys of `aggregate`: landing hours, UTC, written `2013-11-28T05:00:00`."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import CronPartitionTimetable, CronTriggerTimetable, PartitionedAtRuntime

from foreshard.errors import ForeshardError

KEY_FORMAT = "%Y-%m-%dT%H:%M:%S"
HOURLY_VARIABLE = "FORESHARD_HOURLY"


def partition_hour(key: str) -> datetime:
    """The landing hour that a partition key names, in UTC; raises ForeshardError for anything else."""
    try:
        hour = datetime.strptime(key, KEY_FORMAT).replace(tzinfo=UTC)
    except (ValueError, TypeError):
        raise ForeshardError(
            f"partition key {key!r} is not a landing hour; write it like 2013-11-28T05:00:00, in UTC"
        ) from None
    if hour.minute or hour.second:
        raise ForeshardError(f"partition key {key!r} is not a whole hour; aggregate takes in whole landing hours")
    return hour


def hours_from(key: str, hours: int = 0) -> str:
    """The time `hours` after the landing hour of `key`, ISO 8601, as the aggregate job takes it."""
    return (partition_hour(key) + timedelta(hours=hours)).isoformat()


def each_landing_hour() -> CronPartitionTimetable | PartitionedAtRuntime:
    """Every full hour, for the landing hour that just ended; with FORESHARD_HOURLY=off only hours triggered by their key."""
    if os.environ.get(HOURLY_VARIABLE, "on") == "off":
        return PartitionedAtRuntime()
    return CronPartitionTimetable("0 * * * *", timezone="UTC", run_offset=-1, key_format=KEY_FORMAT)


def each_night() -> CronTriggerTimetable | None:
    """Once a day at 03:30 UTC, without a partition key; with FORESHARD_HOURLY=off only when triggered."""
    return None if os.environ.get(HOURLY_VARIABLE, "on") == "off" else CronTriggerTimetable("30 3 * * *", timezone="UTC")


def each_minute() -> CronTriggerTimetable | None:
    """Every minute, without a partition key; with FORESHARD_HOURLY=off only when triggered."""
    return None if os.environ.get(HOURLY_VARIABLE, "on") == "off" else CronTriggerTimetable("* * * * *", timezone="UTC")
