"""What the next forecast takes from the scores of earlier ones: levels to read quantiles at, and what drift makes it forget.

It changes once a day, when a day is over, and is kept as a commit of its own to `forecast_score`. A forecast says in its own
commit what it used, so that scores which were deleted and made again go on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from foreshard.errors import ForeshardError
from foreshard.forecast.adaptive import updated
from foreshard.forecast.batch import DAY, LEVELS
from foreshard.lake import log
from foreshard.learning.drift import Day, Drift, drift_of
from foreshard.learning.evaluation import days_of, stored_scores
from foreshard.settings import Settings

# Days that drift is looked for in.
DAYS = 42


@dataclass(frozen=True)
class Learnt:
    """`levels_used`: where a forecast's curve is read for each of LEVELS. `day`: the last day that this was learnt from."""

    levels_used: tuple[float, ...] = LEVELS
    day: date | None = None
    drift: Drift = field(default_factory=Drift)

    def windows(self, usual: int, origin: datetime, horizon: timedelta) -> int:
        """How many backtest windows a forecast from `origin` on learns from; they are a day or, if less, a horizon apart."""
        return self.drift.windows(usual, origin.date(), int(DAY / min(horizon, DAY)))

    def as_metadata(self) -> dict[str, Any]:
        """As commits carry it and the learn job prints it."""
        since = self.drift.since.isoformat() if self.drift.since else None
        return {
            "levels": list(LEVELS),
            "levels_used": list(self.levels_used),
            "learnt_day": self.day.isoformat() if self.day else None,
            "drift": {"since": since, "reasons": list(self.drift.reasons)},
        }

    @classmethod
    def of_metadata(cls, said: Mapping[str, Any]) -> Learnt:
        """From what a commit says; nothing learnt if it says nothing, or speaks of other levels."""
        if said.get("levels") != list(LEVELS):
            return cls()
        day, drift = said["learnt_day"], said["drift"]
        since = date.fromisoformat(drift["since"]) if drift["since"] else None
        found = Drift(since, tuple(drift["reasons"]))
        return cls(tuple(said["levels_used"]), date.fromisoformat(day) if day else None, found)


def read_learnt(settings: Settings) -> Learnt:
    """The newest that was learnt, without Spark; levels as declared and no drift if nothing was."""
    for name in ("forecast_score", "load_forecast"):
        if said := log.newest_commit(settings.table(name), "levels_used"):
            return Learnt.of_metadata(said)
    return Learnt()


def learn_of_days(settings: Settings, upto: datetime) -> Learnt:
    """Learns from the days of `forecast_score` that are over at `upto` and keeps it; a repeat changes nothing.

    Figures of days are kept too, so that a turn reads the scores of new days alone.
    """
    before, known = read_learnt(settings), _kept_days(settings)
    unread = (upto.date() - known[-1].day).days - 1 if known else DAYS
    try:
        read = days_of(stored_scores(settings, unread, upto.date())) if unread > 0 else []
    except ForeshardError:
        return before  # no day is over yet
    days = [*known, *(day for day in read if not known or day.day > known[-1].day)][-DAYS:]
    if not days or (before.day is not None and days[-1].day <= before.day):
        return before
    # Of days that were all forecast before anything was learnt from the first, one counts: steps from each would go too far.
    levels_used = updated(before.levels_used, [days[-1].covered])
    made = Learnt(levels_used, days[-1].day, drift_of(days))
    log.say(settings.table("forecast_score"), {**made.as_metadata(), "days": [_packed(day) for day in days]})
    return made


def _kept_days(settings: Settings) -> list[Day]:
    said = log.newest_commit(settings.table("forecast_score"), "days")
    if said.get("levels") != list(LEVELS):
        return []
    return [Day(date.fromisoformat(day), judged, tuple(covered), *errors) for day, judged, covered, *errors in said["days"]]


def _packed(day: Day) -> list[Any]:
    return [day.day.isoformat(), day.judged, list(day.covered), day.error, day.naive_error]
