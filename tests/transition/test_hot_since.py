"""A hot replica covers what recent queries ask for, and not a day more."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from foreshard.transition.inputs import hot_since

moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(moments, st.integers(0, 60), st.timedeltas(timedelta(0), timedelta(days=30)))
def test_a_query_for_the_last_days_asked_when_it_is_made_or_later_is_covered(origin, days, later):
    begins = datetime.combine(hot_since(origin, days), time(), UTC)

    assert origin + later - timedelta(days=days) >= begins


@given(moments, st.integers(0, 60))
def test_without_its_first_day_it_would_not_cover_the_query_that_reaches_furthest_back(origin, days):
    second_day = datetime.combine(hot_since(origin, days) + timedelta(days=1), time(), UTC)

    assert origin - timedelta(days=days) < second_day
