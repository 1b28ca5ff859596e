"""How a node's correction moves: a factor on its score, above 1 for a node that has more to do than was expected of it.

What a node has to do is load × time per query: the queries that it has in hand at a time (Little's law). Loads alone would
mislead, as gateways send a slow node less by themselves. All is relative to the pool: a factor that all have changes no choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# A step moves a factor by at most this much, and takes it back toward where it rests by 1 − DECAY of the way.
STEP = 0.1
DECAY = 0.9
LOWEST, HIGHEST = 0.5, 2.0
# The part of a deviation that one step takes up. With DECAY, some seven tenths of a lasting one are taken up in the end; shares
# may fall by the seventh power of a factor before steps swing ever further, and then they swing by STEP at the most.
_GAIN = 0.25
# A heartbeat's load may be of so few queries that chance alone moves it: it counts beside this much load as was expected, which
# is a hundred queries in the ten seconds that loads are averaged over.
_PRIOR_LOAD = 10.0

# So long what was found holds as it is; then it fades by DECAY for each further while.
_HOLDS_SECONDS, _FADES_SECONDS = 900.0, 300.0
_LEARNT_HOLDS_SECONDS, _LEARNT_FADES_SECONDS = 3 * 3600.0, 3600.0


@dataclass(frozen=True, slots=True)
class Correction:
    """As it is stored: `factor`, found `age_seconds` ago, and `learnt` of hours, where it rests, `learnt_age_seconds` ago."""

    factor: float = 1.0
    age_seconds: float = 0.0
    learnt: float = 1.0
    learnt_age_seconds: float | None = None

    def rest(self) -> float:
        """Where the factor comes to rest; 1 once nothing was learnt for long."""
        if self.learnt_age_seconds is None:
            return 1.0
        return float(self.learnt ** _lasting(self.learnt_age_seconds, _LEARNT_HOLDS_SECONDS, _LEARNT_FADES_SECONDS))

    def now(self, later: float = 0.0) -> float:
        """The factor to go by, `later` seconds after it was read: as found, then fading to where it rests, then to 1."""
        learnt_age = None if self.learnt_age_seconds is None else self.learnt_age_seconds + later
        rest = Correction(learnt=self.learnt, learnt_age_seconds=learnt_age).rest()
        return float(rest * (self.factor / rest) ** _lasting(self.age_seconds + later, _HOLDS_SECONDS, _FADES_SECONDS))


@dataclass(frozen=True, slots=True)
class Work:
    """What a node says of itself: weighted requests per second, and seconds that a query takes now; None if it does not say."""

    load: float
    service_seconds: float | None = None


def corrected(
    before: Mapping[str, Correction], expected: Mapping[str, float], observed: Mapping[str, Work]
) -> dict[str, float]:
    """Each node of `before` → its factor after one step. Nodes without `expected` load or `observed` work go toward rest.

    `expected`: node → weighted requests per second. Time O(nodes).
    """
    ratios = _ratios({n: expected[n] for n in observed if expected.get(n, 0.0) > 0}, observed)
    factors = {}
    for node_id, correction in before.items():
        rest = correction.rest()
        kept = rest * (correction.now() / rest) ** DECAY
        step = math.exp(_GAIN * math.log(ratios.get(node_id, 1.0)))
        factors[node_id] = min(HIGHEST, max(LOWEST, kept * min(1.0 + STEP, max(1.0 - STEP, step))))
    return factors


def relative(factors: Mapping[str, float]) -> dict[str, float]:
    """The same factors beside their mean, within the bounds."""
    mean = sum(factors.values()) / max(1, len(factors))
    return {node_id: min(HIGHEST, max(LOWEST, factor / mean)) for node_id, factor in factors.items()}


def _ratios(expected: Mapping[str, float], observed: Mapping[str, Work]) -> dict[str, float]:
    """Node → the work it has over that expected of it, where all have as much as was expected of all; positive."""
    told = [(w.load, w.service_seconds) for n in expected if (w := observed[n]).service_seconds is not None]
    loads = sum(load for load, _ in told)
    usual = sum(load * (seconds or 0.0) for load, seconds in told) / loads if loads > 0 else 0.0
    work = {n: observed[n].load * _beside(observed[n].service_seconds, usual) for n in expected}
    total = sum(work.values())
    if total <= 0:
        return {}
    foreseen = sum(expected.values())
    return {n: (work[n] + _PRIOR_LOAD) / (expected[n] / foreseen * total + _PRIOR_LOAD) for n in expected}


def _beside(seconds: float | None, usual: float) -> float:
    return 1.0 if seconds is None or usual <= 0 else seconds / usual


def _lasting(age: float, holds: float, fades: float) -> float:
    return float(DECAY ** (max(0.0, age - holds) / fades))
