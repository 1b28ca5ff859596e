"""One regular series of loads: what every model takes and gives. Arrays are float64 with one value per step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVELS = (0.05, 0.10, 0.50, 0.90, 0.95, 0.99)


@dataclass(frozen=True)
class Series:
    """A shard's load (weighted requests per second) in consecutive intervals that begin at `start` (UTC)."""

    start: datetime
    step: timedelta
    values: Floats

    @property
    def end(self) -> datetime:
        return self.start + self.step * len(self.values)

    def steps_per(self, span: timedelta) -> int:
        return int(span / self.step)

    def times(self, count: int | None = None) -> list[datetime]:
        """The starts of its intervals, or of the `count` intervals after its end."""
        if count is None:
            return [self.start + self.step * i for i in range(len(self.values))]
        return [self.end + self.step * i for i in range(count)]

    def before(self, steps: int) -> Series:
        """The series without its last `steps` values: what was known then."""
        return Series(self.start, self.step, self.values[: len(self.values) - steps])


@dataclass(frozen=True)
class Forecast:
    """A forecast of `horizon` steps: mean, quantiles of shape (levels, horizon), and what it is made of.

    `errors` are out-of-sample errors (actual − mean) of the backtest, newest last; `fallback_reason` says why a simpler
    model stands in, and is empty otherwise.
    """

    model: str
    mean: Floats
    quantiles: Floats
    errors: Floats
    fallback_reason: str = ""


def regular(times: list[datetime], values: list[float], step: timedelta, end: datetime) -> Series:
    """Values on a regular grid from the first time up to `end`; intervals without a value had no load.

    Times must be distinct starts of intervals before `end`.
    """
    start = min(times)
    length = max(int((end - start) / step), 0)
    grid = np.zeros(length)
    for time, value in zip(times, values, strict=True):
        index = int((time - start) / step)
        if index < length:
            grid[index] = value
    return Series(start, step, grid)
