"""Where the histories of a fleet begin and end, and at which grain they are forecast and published."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from foreshard.forecast.batch import DAY

# A million shards at 5 minutes would cost twelve times what hours cost, and say little more of tomorrow.
FINEST = timedelta(minutes=15)


@dataclass(frozen=True)
class Span:
    """`steps` steps of the history from `start` (UTC) on, and a forecast of `horizon` steps after it.

    A step is what is forecast: the published grain, or FINEST where that is finer. Then a step has several `pieces`, which
    get the step's forecast each, with wider quantiles.
    """

    start: datetime
    step: timedelta
    steps: int
    horizon: int
    pieces: int = 1

    @property
    def origin(self) -> datetime:
        return self.start + self.step * self.steps

    @property
    def grain(self) -> timedelta:
        return self.step / self.pieces


def span_of(origin: datetime, first: datetime, grain: timedelta, history: timedelta, horizon: timedelta) -> Span:
    """The span of whole days before `origin` that reaches back to `first`, at least a day and at most `history`."""
    step = max(grain, FINEST)
    reach = max(min(history, origin - first), DAY)
    days = -(-reach // DAY)
    return Span(origin - days * DAY, step, days * DAY // step, horizon // step, step // grain)
