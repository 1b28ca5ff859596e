"""Whether a fleet's forecasts came true differently of late than before, and what of the past is then better forgotten.

Each day is compared with those before it by a self-starting CUSUM (Page 1954, Hawkins 1987). A steady difference from the
declared share is no drift: the levels follow that by themselves (`foreshard.forecast.adaptive`). A change is: what backtests
say of the time before it misleads the weights of the models and the width of the quantiles, so forecasts then look only at
windows since. On drawn loads whose level rose by 70 % four days ago that brought the pinball loss at 95 % from 3.3 to 1.3;
where nothing had changed it cost 3 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from foreshard.forecast.batch import LEVELS

# Of the CUSUM, in units of a day's usual scatter: what is let pass each day, what is too much in all, what one day can add.
# So no day alone is a change, and unchanged fleets raise an alarm about once a year.
_PASSED, _TOO_MUCH, _FURTHEST = 0.5, 5.5, 3.5
# Days before which nothing is usual yet, and the scatter that is expected before any is known, worth a week of days.
_LEAST_DAYS, _PRIOR_DAYS = 5, 7
_COVERAGE_SCATTER, _ERROR_SCATTER = 0.02, 0.15
# Skill is judged over this many days, by as many draws of them.
SKILL_DAYS, _DRAWS = 7, 2_000
# Fewer windows say too little of the tail.
LEAST_WINDOWS = 3


@dataclass(frozen=True)
class Day:
    """What came true of a day's forecasts. `covered`: the share of outcomes at or below each of LEVELS, of `judged` forecasts
    that have a spread; None without any. `error` and `naive_error`: sums over the intervals for which there is a naive."""

    day: date
    judged: int
    covered: tuple[float | None, ...]
    error: float
    naive_error: float


@dataclass(frozen=True)
class Drift:
    """`since`: the first day that is unlike those before it; None if all are alike. `reasons`: what changed, in words."""

    since: date | None = None
    reasons: tuple[str, ...] = ()

    def windows(self, usual: int, newest: date, a_day: int = 1) -> int:
        """How many backtest windows before `newest` to learn from, of which there are `a_day` a day: those after the change,
        `usual` if there is none."""
        if self.since is None:
            return usual
        # The day of the change itself is half old, half new.
        return min(max(((newest - self.since).days - 1) * a_day, LEAST_WINDOWS), usual)


def drift_of(days: Sequence[Day]) -> Drift:
    """The newest change in these complete days, in order of time, that backtests may still reach back behind."""
    covered = [(d.day, share) for d in days if (share := d.covered[LEVELS.index(0.95)]) is not None]
    errors = [(d.day, math.log(d.error / d.naive_error)) for d in days if d.error > 0 and d.naive_error > 0]
    found = [
        (_last_change(covered, _COVERAGE_SCATTER), "less was covered by the 95 % quantile than before"),
        (_last_change([(d, -v) for d, v in covered], _COVERAGE_SCATTER), "more was covered by the 95 % quantile than before"),
        (_last_change([(d, -v) for d, v in errors], _ERROR_SCATTER), "the error grew beside the naive forecast's"),
        (_without_skill(days), f"the naive forecast was better for {SKILL_DAYS} days"),
    ]
    known = [(since, reason) for since, reason in found if since is not None]
    if not known:
        return Drift()
    newest = max(since for since, _ in known)
    return Drift(newest, tuple(reason for since, reason in known if since == newest))


def _last_change(values: Sequence[tuple[date, float]], scatter: float) -> date | None:
    """The day from which on the values fell, by the newest alarm."""
    changes = list(_falls(values, scatter))
    return changes[-1] if changes else None


def _falls(values: Sequence[tuple[date, float]], scatter: float) -> Iterator[date]:
    """For each alarm the day since which values are lower than before. After an alarm what is usual is learnt anew."""
    usual: list[float] = []
    total, since = 0.0, None
    for day, value in values:
        if len(usual) >= _LEAST_DAYS:
            mean = sum(usual) / len(usual)
            squares = sum((v - mean) ** 2 for v in usual)
            size = math.sqrt((squares + _PRIOR_DAYS * scatter**2) / (len(usual) - 1 + _PRIOR_DAYS))
            total = max(total + min((mean - value) / size, _FURTHEST) - _PASSED, 0.0)
            since = (since or day) if total > 0 else None
            if since and total >= _TOO_MUCH:
                yield since
                usual, total, since = [v for d, v in values if since <= d <= day], 0.0, None
                continue
        usual.append(value)


def _without_skill(days: Sequence[Day]) -> date | None:
    """The first of the last days if over them the naive forecast was surely better."""
    last = [d for d in days[-SKILL_DAYS:] if d.naive_error > 0]
    if len(last) < SKILL_DAYS:
        return None
    return last[0].day if skill_bounds(last)[1] < 0 else None


def skill_bounds(days: Sequence[Day], share: float = 0.95) -> tuple[float, float]:
    """The interval of 1 − error / naive's error that holds `share` of the draws of whole days; NaN where there is no naive."""
    low, high = _ratio_bounds([(d.error, d.naive_error) for d in days if d.naive_error > 0], share)
    return 1 - high, 1 - low


def coverage_bounds(days: Sequence[Day], level: float, share: float = 0.95) -> tuple[float, float]:
    """The interval of the share covered at one of LEVELS that holds `share` of the draws of whole days; NaN if none is known.

    Intervals of a day err together, so it is far wider than one of as many independent ones.
    """
    known = [(covered, d.judged) for d in days if (covered := d.covered[LEVELS.index(level)]) is not None and d.judged > 0]
    return _ratio_bounds([(covered * judged, judged) for covered, judged in known], share)


def _ratio_bounds(pairs: Sequence[tuple[float, float]], share: float) -> tuple[float, float]:
    if not pairs:
        return math.nan, math.nan
    values = np.array(pairs, dtype=np.float64)
    drawn = values[np.random.default_rng(0).integers(0, len(values), (_DRAWS, len(values)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
