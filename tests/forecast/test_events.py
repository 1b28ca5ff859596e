"""Holidays and events: as intervals in UTC, as effects pooled and shrunk, and as what they do to a history and a forecast."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import Batch, Floats
from foreshard.forecast.calendar import Calendar, Event, calendar_of, events_of, read_events
from foreshard.forecast.effects import Effects
from foreshard.forecast.events import cleaned, covered, learn, lift

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2024, 3, 4, tzinfo=UTC)  # a Monday
WEEK = 168


def fleet(series: int = 40, weeks: int = 6, seed: int = 1, noise: float = 0.1) -> Batch:
    """Working days, weekends at half of them, levels apart, noise."""
    draw = np.random.default_rng(seed)
    t = np.arange(weeks * WEEK)
    shape = (1.3 + np.sin(2 * np.pi * t / 24)) * np.where(t // 24 % 7 < 5, 1.0, 0.5)
    levels = draw.uniform(50, 500, (series, 1))
    values = levels * shape * draw.lognormal(0, noise, (series, len(t)))
    return Batch(tuple(f"s{i}" for i in range(series)), START, HOUR, values)


def lifted(batch: Batch, event: Event, factors: Floats | float) -> Batch:
    first, last = (int((moment - batch.start) / HOUR) for moment in (event.start, event.end))
    values = batch.values.copy()
    values[:, first:last] *= np.reshape(factors, (-1, 1))
    return replace(batch, values=values)


def whole_day(name: str, day: int, **more: object) -> Event:
    return Event(name, START + day * DAY, START + (day + 1) * DAY, **more)  # type: ignore[arg-type]


def ahead(batch: Batch, event: Event, learnt: Effects) -> tuple[Floats, Floats]:
    return lift(batch, 24, Calendar((event,)), learnt)


def test_holidays_last_from_midnight_to_midnight_where_the_users_are() -> None:
    made = calendar_of(datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 8, 1, tzinfo=UTC), "US", "America/New_York")
    assert [event.name for event in made.events] == ["Juneteenth National Independence Day", "Independence Day"]
    fourth = made.events[1]
    assert (fourth.start, fourth.end) == (datetime(2024, 7, 4, 4, tzinfo=UTC), datetime(2024, 7, 5, 4, tzinfo=UTC))
    assert fourth.is_holiday


def test_a_day_when_clocks_change_is_as_long_as_it_is() -> None:
    made = calendar_of(datetime(2024, 3, 25, tzinfo=UTC), datetime(2024, 4, 1, 12, tzinfo=UTC), "GB-SCT", "Europe/London")
    easter = [event for event in made.events if event.name == "Good Friday"]
    assert len(easter) == 1
    sunday = events_of(pd.DataFrame({"name": ["x"], "start": ["2024-03-31"], "end": ["2024-03-31"]}), "e", "Europe/London")
    assert sunday[0].end - sunday[0].start == 23 * HOUR


def test_a_holiday_kept_on_another_day_has_the_same_name() -> None:
    made = calendar_of(datetime(2021, 7, 1, tzinfo=UTC), datetime(2021, 7, 10, tzinfo=UTC), "US")
    assert [event.name for event in made.events] == ["Independence Day"] * 2


def test_names_of_holidays_do_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "th")
    made = calendar_of(datetime(2024, 12, 20, tzinfo=UTC), datetime(2024, 12, 26, tzinfo=UTC), "US")
    assert [event.name for event in made.events] == ["Christmas Day"]


def test_the_rest_day_is_the_country_s() -> None:
    assert calendar_of(START, START + DAY, "US").rest_day == 6
    assert calendar_of(START, START + DAY, "SA").rest_day == 4


@pytest.mark.parametrize(
    ("country", "zone", "words"),
    [
        ("XX", "UTC", "unknown country 'XX'; give an ISO 3166 code"),
        ("date", "UTC", "unknown country 'date'"),
        ("US-ZZ", "UTC", "US has no subdivision 'ZZ'"),
        ("US", "Mars/Base", "unknown time zone 'Mars/Base'"),
    ],
)
def test_unknown_places_are_refused(country: str, zone: str, words: str) -> None:
    with pytest.raises(ForeshardError, match=words):
        calendar_of(START, START + DAY, country, zone)


def test_events_are_read_with_their_shards_lifts_and_local_times(tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    source.write_text(
        "name,start,end,shards,lift\n"
        "sale,2024-11-29,2024-12-01,,1.8\n"
        "launch,2024-07-01T18:00,2024-07-01T20:00,7; 12,\n"
        "stream,2024-07-02T18:00Z,2024-07-02T20:00+00:00,7,2\n"
    )
    sale, launch, stream = read_events(source, "Europe/Berlin")
    assert (sale.start, sale.end) == (datetime(2024, 11, 28, 23, tzinfo=UTC), datetime(2024, 12, 1, 23, tzinfo=UTC))
    assert (sale.shards, sale.expected_lift, sale.is_holiday) == (frozenset(), 1.8, False)
    assert (launch.start, launch.shards, launch.expected_lift) == (datetime(2024, 7, 1, 16, tzinfo=UTC), {"7", "12"}, None)
    assert stream.start == datetime(2024, 7, 2, 18, tzinfo=UTC)
    made = calendar_of(START, START + DAY, events=(sale, stream, launch))
    assert made.events == (launch, stream, sale)
    assert made.unknown_shards(["7", "8"]) == ("12",)


def test_a_table_of_events_may_hold_times_and_numbers() -> None:
    frame = pd.DataFrame(
        {"name": ["x"], "start": [pd.Timestamp(START)], "end": [START + HOUR], "lift": [1.5], "shards": [np.nan]}
    )
    assert events_of(frame, "the table") == (Event("x", START, START + HOUR, frozenset(), 1.5),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,start\nx,2024-01-01\n", "lacks the columns end; events have name, start, end"),
        ("", "cannot read the events"),
        ("name,start,end\n,2024-01-01,2024-01-02\n", "row 1: the event has no name"),
        ("name,start,end\nx,soon,2024-01-02\n", "row 1: the start 'soon' is no time; write"),
        ("name,start,end\nx,2024-01-01,\n", "row 1: the end '' is no time"),
        (
            "name,start,end\nx,2024-01-01,2024-01-02\ny,2024-01-02T02:00,2024-01-02T02:00\n",
            "row 2: the event y ends at .* not after",
        ),
        ("name,start,end,lift\nx,2024-01-01,2024-01-02,0\n", "row 1: the lift '0' is no factor above zero"),
        ("name,start,end,lift\nx,2024-01-01,2024-01-02,lots\n", "row 1: the lift 'lots' is no factor"),
        ("name,start,end,lift\nx,2024-01-01,2024-01-02,nan\n", "row 1: the lift 'nan' is no factor"),
        ("name,start,end\nx,2024-01-01,2024-01-02\nx,2024-01-01,2024-01-02\n", "row 2: the event x stands in row 1 already"),
    ],
)
def test_bad_events_are_refused_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    source = tmp_path / "events.csv"
    source.write_text(text)
    with pytest.raises(ForeshardError, match=words) as caught:
        read_events(source)
    assert "\n" not in str(caught.value).strip()
    assert str(source) in str(caught.value)


def test_a_file_of_events_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ForeshardError, match="cannot read the events"):
        read_events(tmp_path / "none.csv")


def test_an_event_seen_twice_is_expected_again() -> None:
    seen = (whole_day("sale", 9), whole_day("sale", 23))
    batch = lifted(lifted(fleet(), seen[0], 2.0), seen[1], 2.0)
    learnt = learn(batch, Calendar(seen))
    assert len(pickle.dumps(learnt)) < 10_000
    following = whole_day("sale", 42)
    factor, widening = lift(batch, 24, Calendar((*seen, following)), learnt)
    assert np.median(factor) == pytest.approx(2.0, rel=0.1)
    assert (widening >= 1).all()


def test_a_holiday_makes_a_day_resemble_the_rest_day() -> None:
    seen = whole_day("A", 16, is_holiday=True)  # a Wednesday, which halves the working day's load
    batch = lifted(fleet(), seen, 0.5)
    learnt = learn(batch, Calendar((seen,)))
    monday, sunday = whole_day("B", 42, is_holiday=True), whole_day("B", 48, is_holiday=True)
    on_monday, _ = lift(batch, 24, Calendar((seen, monday)), learnt)
    on_sunday, _ = lift(batch, 7 * 24, Calendar((seen, sunday)), learnt)
    assert 0.45 < np.median(on_monday) < 0.75
    assert np.median(on_sunday[:, -24:]) == pytest.approx(1.0, abs=0.1), "a Sunday is a rest day already"


def test_a_shard_s_own_effect_stands_out_as_far_as_its_history_shows_it() -> None:
    draw = np.random.default_rng(4)
    seen = tuple(whole_day("sale", day) for day in (9, 16, 23, 30))
    batch = fleet()
    own = np.exp(draw.normal(np.log(1.5), 0.4, len(batch)))
    for event in seen:
        batch = lifted(batch, event, own)
    calendar = Calendar((*seen, whole_day("sale", 42)))
    learnt = learn(batch, calendar)
    factor, _ = lift(batch, 24, calendar, learnt)
    found = np.log(factor).mean(axis=1)
    assert np.abs(found - np.log(own)).mean() < 0.1
    assert np.abs(np.log(own) - np.log(1.5)).mean() > 0.25, "the name's effect alone would be far off"
    stranger = fleet(5, seed=7)
    alike, _ = lift(stranger, 24, Calendar(calendar.events[-1:]), learnt)
    assert np.log(alike).mean() == pytest.approx(np.log(own).mean(), abs=0.15), (
        "a shard that never saw one does as the fleet did"
    )


def test_noise_on_an_ordinary_day_is_hardly_taken_for_an_effect() -> None:
    seen = whole_day("nothing", 23)
    batch = fleet()
    factor, _ = lift(batch, 24, Calendar((seen, whole_day("nothing", 42))), learn(batch, Calendar((seen,))))
    assert np.abs(np.log(factor)).mean() < 0.03


def test_an_unseen_event_lifts_as_expected_or_not_at_all_and_with_a_wide_band() -> None:
    batch = fleet(noise=0.3)
    told, told_widening = ahead(batch, whole_day("launch", 42, expected_lift=3.0), Effects())
    np.testing.assert_allclose(told, 3.0)
    untold, untold_widening = ahead(batch, whole_day("launch", 42), Effects())
    np.testing.assert_allclose(untold, 1.0)
    assert (untold_widening > told_widening).all()
    assert (told_widening > 1.2).all()


def test_what_came_of_earlier_announcements_bends_the_next() -> None:
    seen = tuple(whole_day("launch", day, expected_lift=2.0) for day in (9, 16, 23, 30))
    batch = fleet()
    for event in seen:
        batch = lifted(batch, event, 1.5)
    calendar = Calendar((*seen, whole_day("launch", 42, expected_lift=4.0)))
    factor, _ = lift(batch, 24, calendar, learn(batch, calendar))
    assert np.median(factor) == pytest.approx(3.0, rel=0.1)


def test_an_event_of_some_shards_leaves_the_others_alone() -> None:
    batch = fleet()
    factor, widening = ahead(
        batch, whole_day("launch", 42, shards=frozenset({"s3", "elsewhere"}), expected_lift=2.0), Effects()
    )
    assert (factor[3] == 2.0).all()
    others = np.delete(np.arange(len(batch)), 3)
    assert (factor[others] == 1).all()
    assert (widening[others] == 1).all()


def test_an_event_lifts_its_own_hours_only() -> None:
    batch = fleet()
    event = Event("launch", batch.origin + 5 * HOUR, batch.origin + 8 * HOUR + timedelta(minutes=20), expected_lift=2.0)
    factor, _ = ahead(batch, event, Effects())
    assert np.flatnonzero(factor[0] != 1).tolist() == [5, 6, 7, 8]


def test_the_history_is_cleaned_of_what_events_did() -> None:
    seen = (whole_day("sale", 9), whole_day("sale", 23))
    plain = fleet()
    batch = lifted(lifted(plain, seen[0], 2.0), seen[1], 2.0)
    calendar = Calendar(seen)
    made = cleaned(batch, calendar, learn(batch, calendar))
    is_event = covered(batch, calendar)
    assert is_event.sum() == 2 * 24 * len(batch)
    np.testing.assert_array_equal(made.values[~is_event], plain.values[~is_event])
    ratio = made.values[is_event] / plain.values[is_event]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.05)
    assert np.abs(np.log(ratio)).mean() < 0.1


def test_a_day_that_all_but_stopped_is_masked() -> None:
    seen = whole_day("strike", 23)
    batch = lifted(fleet(), seen, 0.01)
    made = cleaned(batch, Calendar((seen,)), learn(batch, Calendar((seen,))))
    assert np.isnan(made.values[:, 23 * 24 : 24 * 24]).all()
    assert np.isnan(made.values).sum() == 24 * len(batch)


def test_without_events_nothing_changes() -> None:
    batch = fleet(3)
    learnt = learn(batch, Calendar())
    assert learnt == Effects()
    assert cleaned(batch, Calendar(), learnt) is batch
    factor, widening = lift(batch, 24, Calendar(), learnt)
    assert (factor == 1).all()
    assert (widening == 1).all()


def test_a_row_depends_on_itself_and_on_what_was_learnt_alone() -> None:
    seen = (whole_day("A", 9, is_holiday=True), whole_day("B", 16), whole_day("B", 17, expected_lift=1.4))
    calendar = Calendar((*seen, whole_day("A", 42, is_holiday=True)), zone="America/New_York")
    batch = lifted(fleet(12), seen[1], 1.7)
    learnt = learn(batch, calendar)
    factor, widening = lift(batch, 24, calendar, learnt)
    clean = cleaned(batch, calendar, learnt).values
    for row in (0, 5, 11):
        one = batch.take([row])
        np.testing.assert_allclose(lift(one, 24, calendar, learnt)[0][0], factor[row], rtol=1e-9)
        np.testing.assert_allclose(lift(one, 24, calendar, learnt)[1][0], widening[row], rtol=1e-9)
        np.testing.assert_allclose(cleaned(one, calendar, learnt).values[0], clean[row], rtol=1e-9)


def test_a_clock_change_between_the_weeks_moves_the_profile_with_the_users() -> None:
    """Where load follows local time, the day before and after a change expect the same of an ordinary holiday."""
    start = datetime(2024, 3, 11, tzinfo=UTC)
    local = pd.date_range(start, periods=6 * WEEK, freq="h", tz="UTC").tz_convert("Europe/Berlin")
    values = np.where((local.hour >= 8) & (local.hour < 20), 1000.0, 10.0)
    draw = np.random.default_rng(5)
    batch = Batch(("a", "b"), start, HOUR, values * draw.lognormal(0, 0.02, (2, len(values))))
    event = Event("A", datetime(2024, 4, 2, 22, tzinfo=UTC), datetime(2024, 4, 3, 22, tzinfo=UTC))
    calendar = Calendar((event,), zone="Europe/Berlin")
    made = cleaned(batch, calendar, learn(batch, calendar))
    np.testing.assert_allclose(made.values, batch.values, rtol=0.1)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([1, 30, 167, 200, 504]), st.sampled_from([0.25, 1, 12, 24, 7, 36]))
def test_nothing_in_a_history_raises_and_what_comes_out_is_finite(seed: int, steps: int, hours: float) -> None:
    draw = np.random.default_rng(seed)
    values = draw.poisson(draw.choice([0, 0.1, 100], (5, 1)), (5, steps)).astype(float)
    values[draw.random((5, steps)) < 0.1] = np.nan
    values[0] = np.nan
    batch = Batch(tuple("abcde"), START, hours * HOUR, values)
    names = draw.choice(["x", "y"], 12)
    at = draw.integers(0, steps + 24, 12)
    events = [
        Event(
            str(n),
            START + int(a) * hours * HOUR,
            START + (int(a) + int(draw.integers(1, 30))) * hours * HOUR,
            is_holiday=n == "x",
        )
        for n, a in zip(names, at, strict=True)
    ]
    calendar = calendar_of(START, START + DAY, zone="Australia/Melbourne", events=events)
    learnt = learn(batch, calendar)
    factor, widening = lift(batch, 24, calendar, learnt)
    assert np.isfinite(factor).all()
    assert (factor > 0).all()
    assert ((widening >= 1) & (widening <= 4)).all()
    kept = cleaned(batch, calendar, learnt).values
    assert not np.isinf(kept).any()
    assert np.isnan(kept[np.isnan(values)]).all()
