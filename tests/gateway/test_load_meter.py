"""What a pipeline says of its load and of the time that its queries take."""

from __future__ import annotations

import pytest

from foreshard.gateway.activity import LOAD_SECONDS
from foreshard.gateway.load_meter import LoadMeter


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_the_time_of_queries_is_that_of_recent_ones_and_nothing_is_said_without_any() -> None:
    clock = Clock()
    meter = LoadMeter(clock)
    assert meter.service_seconds() is None
    for _ in range(500):
        clock.seconds += 0.1
        meter.took(0.010)
    assert meter.service_seconds() == pytest.approx(0.010)
    for _ in range(round(LOAD_SECONDS / 0.1)):
        clock.seconds += 0.1
        meter.took(0.030)
    assert 0.020 < (meter.service_seconds() or 0.0) < 0.025, "two thirds of the way in the time of averaging"
    clock.seconds += 10 * LOAD_SECONDS
    assert meter.service_seconds() is None


def test_a_steady_rate_is_the_load() -> None:
    clock = Clock()
    meter = LoadMeter(clock)
    for _ in range(2000):
        clock.seconds += 0.1
        meter.add(2.0)
    assert meter.value() == pytest.approx(20.0, rel=0.01)
