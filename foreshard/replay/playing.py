"""A trace played under each policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from foreshard.errors import ForeshardError
from foreshard.replay.defaults import DEFAULTS, Defaults
from foreshard.replay.oracle import oracle
from foreshard.replay.outcome import Outcome
from foreshard.replay.policy import Policy
from foreshard.replay.pool import Pool, pool_of
from foreshard.replay.reactive import hash_elastic, reactive
from foreshard.replay.simulation import Decision, Load, simulate
from foreshard.replay.static import static_mean, static_peak
from foreshard.replay.trace import Trace

ORACLE = "oracle"
_MADE: dict[str, Callable[[Load, Pool], Policy]] = {
    "static_peak": static_peak,
    "static_mean": static_mean,
    "reactive": lambda load, pool: reactive(),
    "hash_elastic": lambda load, pool: hash_elastic(),
}
POLICIES = (*_MADE, ORACLE)


@dataclass(frozen=True)
class Replay:
    """What each policy came to on a trace; `decisions` of all but the oracle, which has none. `notes` limit what it tells."""

    trace: Trace
    load: Load
    pool: Pool
    outcomes: dict[str, Outcome]
    decisions: dict[str, tuple[Decision, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """One setting of a policy's knob: what it cost and what it missed."""

    knob: str
    node_hours: float
    overload_request_share: float


def replay(
    trace: Trace, policies: Iterable[str] = POLICIES, train_days: float | None = None, defaults: Defaults = DEFAULTS
) -> Replay:
    """Plays the test period of a trace under each of these policies.

    Raises ForeshardError for policies that there are not, and periods without an interval.
    """
    names = tuple(policies)
    unknown = [name for name in names if name not in POLICIES]
    if unknown:
        raise ForeshardError(f"unknown policies {', '.join(unknown)}; there are {', '.join(POLICIES)}")
    test_start = trace.test_start(train_days)
    load, pool = Load(trace.rates, trace.interval_seconds, test_start), pool_of(trace, test_start, defaults)
    outcomes: dict[str, Outcome] = {}
    decisions: dict[str, tuple[Decision, ...]] = {}
    for name in names:
        if name == ORACLE:
            outcomes[name] = oracle(load, pool)
        else:
            outcomes[name], decisions[name] = simulate(load, pool, _MADE[name](load, pool))
    return Replay(trace, load, pool, outcomes, decisions, trace.notes)


def frontier(replayed: Replay) -> dict[str, tuple[Point, ...]]:
    """Each policy's cost and overload over its knob."""
    return {name: (Point("", o.node_hours, o.overload_request_share),) for name, o in replayed.outcomes.items()}
