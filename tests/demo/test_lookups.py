"""How many look a flight up, and when: checked on departures made up for the purpose."""

from __future__ import annotations

import numpy as np
import pytest

from foreshard.demo.departures import CANCELLED, DEPARTED, DEPARTED_LATE, OPERATIONS, Departures
from foreshard.demo.lookups import HotSpell, LookupDraw, expected_lookups
from foreshard.model import Layout, Node, Replica

NOON = np.datetime64("2013-11-20T12", "h")
HOUR = np.timedelta64(1, "h")
NODES = (Node("a", 1.0), Node("b", 1.0))
LAYOUT = Layout(1, (Replica(0, "a"), Replica(0, "b")))


def departure(delay_minutes: int = 0, operation: str = DEPARTED, seats: int = 160, count: int = 1) -> Departures:
    scheduled = np.full(count, NOON).astype("datetime64[s]")
    return Departures(
        record_id=np.array([f"XX1-JFK-{i}" for i in range(count)]),
        entity=np.array(["XX1"] * count),
        service=np.array(["JFK"] * count),
        operation=np.full(count, OPERATIONS.index(operation)),
        scheduled=scheduled,
        event_time=scheduled + np.timedelta64(delay_minutes, "m"),
        seats=np.full(count, seats),
        seats_known=np.full(count, True),
    )


def by_hour(departures: Departures) -> list[float]:
    """Expected lookups from ten hours before to ten hours after the scheduled time."""
    return [float(expected_lookups(departures, NOON + i * HOUR)[1].sum()) for i in range(-10, 10)]


def test_one_lookup_per_four_seats_rising_over_the_eight_hours_before() -> None:
    lookups = by_hour(departure())
    assert sum(lookups) == pytest.approx(160 / 4)
    assert lookups[:2] == [0, 0]
    assert lookups[10:] == [0] * 10
    assert np.allclose(np.diff(lookups[2:10]), lookups[2] * 2)  # 1, 3, 5, … 15 parts of 64


def test_a_late_flight_is_looked_up_more_the_longer_it_is_late() -> None:
    in_time, hour_late, three_late = (sum(by_hour(departure(minutes, DEPARTED_LATE))) for minutes in (0, 60, 180))
    assert hour_late - in_time > 160 / 4 / 8
    assert three_late - in_time > 3 * (hour_late - in_time)
    rates = by_hour(departure(180, DEPARTED_LATE))[9:13]
    assert rates == sorted(rates)


def test_a_flight_that_left_early_or_very_late_stays_within_bounds() -> None:
    assert sum(by_hour(departure(-20))) == pytest.approx(40)
    assert by_hour(departure(1301, DEPARTED_LATE))[16:] == [0] * 4


def test_a_cancelled_flight_is_looked_up_for_a_while() -> None:
    lookups = by_hour(departure(0, CANCELLED))
    assert min(lookups[10:13]) > 0
    assert lookups[13:] == [0] * 7


def test_fewer_queries_with_more_seats_per_lookup() -> None:
    few = expected_lookups(departure(), NOON - HOUR, 40.0)[1].sum()
    assert few == pytest.approx(expected_lookups(departure(), NOON - HOUR, 4.0)[1].sum() / 10)


def test_drawn_moments_lie_within_the_hour_and_before_departure() -> None:
    late = departure(30, DEPARTED_LATE, seats=8000)
    drawn = LookupDraw(late, HotSpell(0, (), 0.0), LAYOUT, NODES, 0, seed=1).hour(NOON)
    assert len(drawn.event_time) > 100
    assert drawn.event_time.min() >= NOON
    assert drawn.event_time.max() <= NOON + np.timedelta64(30, "m")
    assert (np.diff(drawn.event_time) >= np.timedelta64(0)).all()


def test_a_hot_spell_goes_on_when_the_flight_has_left() -> None:
    spell = HotSpell(0, (NOON,), 800.0)
    drawn = LookupDraw(departure(), spell, LAYOUT, NODES, 0, seed=1).hour(NOON + 2 * HOUR)
    assert len(drawn.event_time) == pytest.approx(800, rel=0.15)
    assert drawn.event_time.max() > NOON + 2 * HOUR + np.timedelta64(50, "m")
    assert len(LookupDraw(departure(), spell, LAYOUT, NODES, 0, seed=1).hour(NOON + 6 * HOUR).event_time) == 0


def test_a_busy_pipeline_answers_slower() -> None:
    nodes = (Node("a", 0.01), Node("b", 100.0))
    drawn = LookupDraw(departure(seats=8000), HotSpell(0, (), 0.0), LAYOUT, nodes, 0, seed=1).hour(NOON - HOUR)
    slow, quick = (np.median(drawn.latency_ms[drawn.node == i]) for i in (0, 1))
    assert slow == pytest.approx(10 * quick, rel=0.2)
