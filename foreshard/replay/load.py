"""What is played: the load of every shard over time, before the test and in it."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.replay.trace import Floats


@dataclass(frozen=True)
class Load:
    """Requests per second of each shard in each interval, shape (T, S); the test begins with interval `test_start`."""

    rates: Floats
    interval_seconds: int
    test_start: int

    @property
    def training(self) -> Floats:
        return self.rates[: self.test_start]

    @property
    def test(self) -> Floats:
        return self.rates[self.test_start :]
