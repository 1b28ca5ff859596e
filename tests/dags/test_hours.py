"""Partition keys: what is a landing hour, and when the schedule makes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import CronPartitionTimetable, PartitionedAtRuntime
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.orchestration.hours import HOURLY_VARIABLE, KEY_FORMAT, each_landing_hour, hours_from, partition_hour

whole_hours = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)).map(
    lambda moment: moment.replace(minute=0, second=0, microsecond=0, tzinfo=UTC)
)


@given(whole_hours)
def test_a_key_names_the_hour_it_was_written_from(hour: datetime) -> None:
    assert partition_hour(hour.strftime(KEY_FORMAT)) == hour


@pytest.mark.parametrize(
    "key", ["", "latest", "2013-11-28", "2013-11-28T05", "2013-11-28T05:00:00+01:00", "2013-02-30T05:00:00"]
)
def test_what_is_no_landing_hour_is_refused_by_name(key: str) -> None:
    with pytest.raises(ForeshardError, match="is not a landing hour"):
        partition_hour(key)


def test_a_run_without_a_key_is_refused() -> None:
    with pytest.raises(ForeshardError, match="None is not a landing hour"):
        partition_hour(None)  # type: ignore[arg-type]


def test_a_broken_hour_is_refused() -> None:
    with pytest.raises(ForeshardError, match="not a whole hour"):
        partition_hour("2013-11-28T05:30:00")


@given(whole_hours, st.integers(min_value=0, max_value=744))
def test_the_job_is_given_as_many_hours_as_asked_for(hour: datetime, hours: int) -> None:
    key = hour.strftime(KEY_FORMAT)
    assert datetime.fromisoformat(hours_from(key, hours)) - datetime.fromisoformat(hours_from(key)) == timedelta(hours=hours)


def test_the_clock_starts_hours_unless_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOURLY_VARIABLE, raising=False)
    assert isinstance(each_landing_hour(), CronPartitionTimetable)
    monkeypatch.setenv(HOURLY_VARIABLE, "off")
    assert isinstance(each_landing_hour(), PartitionedAtRuntime)
