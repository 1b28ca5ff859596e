"""Many series on one time grid, and what a family of models takes and gives. Arrays are float64.

Everything in this package below the engine works on whole batches: a series is a row, and no step loops over rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVELS = (0.05, 0.10, 0.50, 0.90, 0.95, 0.99)
# The quantiles of a normal error at these levels, in units of its spread.
NORMAL = (-1.645, -1.282, 0.0, 1.282, 1.645, 2.326)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Batch:
    """Series in consecutive intervals that begin at `start` (UTC) and last `step` each.

    `values`: loads, shape (series, steps); NaN where nothing is known: before a series began, in a gap, in an outage.
    `regressors`: name → what is known of every step and of the horizon after them, shape (steps + horizon,) for all series or
    (series, steps + horizon) for each. `static`: name → one value a series, shape (series,).
    """

    ids: tuple[str, ...]
    start: datetime
    step: timedelta
    values: Floats
    regressors: Mapping[str, Floats] = field(default_factory=dict)
    static: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def steps(self) -> int:
        return int(self.values.shape[1])

    @property
    def origin(self) -> datetime:
        """The end of the history: where the forecast begins."""
        return self.start + self.step * self.steps

    def steps_per(self, span: timedelta) -> int:
        return int(span / self.step)

    def take(self, rows: Sequence[int] | npt.NDArray[Any]) -> Batch:
        """Some of the series, in that order."""
        chosen = np.asarray(rows, dtype=np.intp)
        regressors = {name: v if v.ndim == 1 else v[chosen] for name, v in self.regressors.items()}
        static = {name: v[chosen] for name, v in self.static.items()}
        return Batch(tuple(self.ids[i] for i in chosen), self.start, self.step, self.values[chosen], regressors, static)


@dataclass(frozen=True)
class Backtest:
    """The windows of the history that forecasts are tried on: each begins at one of `starts` (steps, ascending)."""

    starts: tuple[int, ...]
    horizon: int

    def windows(self, values: Floats) -> Floats:
        """The values of the windows, shape (series, windows, horizon)."""
        offsets = np.asarray(self.starts, dtype=np.intp)[:, None] + np.arange(self.horizon)
        return values[:, offsets]


def backtest_of(batch: Batch, horizon: int, count: int, least_history: int) -> Backtest:
    """At most `count` windows of `horizon` steps, the newest up to the end of the history, a day (or the horizon, if that is
    less) apart, each with at least `least_history` steps before it."""
    stride = max(min(batch.steps_per(DAY), horizon), 1)
    last = batch.steps - horizon
    starts = [last - stride * i for i in range(count)]
    return Backtest(tuple(sorted(s for s in starts if s >= max(least_history, 1))), horizon)


@dataclass(frozen=True)
class Prediction:
    """What one family says of a batch.

    `mean`: shape (series, horizon). `backtest`: what it would have said of each window without having seen it, shape
    (series, windows, horizon). NaN in either where the family can say nothing.
    """

    mean: Floats
    backtest: Floats

    @classmethod
    def of(cls, made: Floats) -> Prediction:
        """From forecasts at every origin, shape (series, windows + 1, horizon), the last one at the end of the history."""
        return cls(made[:, -1], made[:, :-1])


class Family(Protocol):
    """A family of models. A costlier one (`is_cheap` False) is used only for the series where it pays."""

    @property
    def name(self) -> str: ...

    @property
    def is_cheap(self) -> bool: ...

    def learn(self, sample: Batch, backtest: Backtest) -> Any:
        """What the family learns from a sample of the fleet, for `predict`: small and picklable; None if nothing."""
        ...

    def predict(self, batch: Batch, backtest: Backtest, learnt: Any) -> Mapping[str, Prediction]:
        """The next `backtest.horizon` steps and the windows of the backtest, of each member of the family by its name.

        A row of the result depends on that row of the batch and on `learnt` alone (to rounding), and is deterministic. Raises
        for no content of the values: a series that it cannot fit gets NaN.
        """
        ...
