"""A trace played under each policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from foreshard.errors import ForeshardError
from foreshard.replay.defaults import DEFAULTS, Defaults
from foreshard.replay.foresight import Tape, foresee
from foreshard.replay.hybrid import Hybrid
from foreshard.replay.load import Load
from foreshard.replay.oracle import oracle
from foreshard.replay.outcome import Outcome
from foreshard.replay.planned import Planner, planner_of
from foreshard.replay.policy import Policy
from foreshard.replay.pool import Pool, pool_of
from foreshard.replay.predictive import Predictive, hourly_scale_out, lead_seconds
from foreshard.replay.reactive import hash_elastic, reactive
from foreshard.replay.simulation import Decision, simulate
from foreshard.replay.static import static_mean, static_peak
from foreshard.replay.trace import Trace

ORACLE = "oracle"
# P-Store's buffer above its forecast is as large.
_MARGIN = 1.15


@dataclass(frozen=True)
class Scene:
    """What policies are made from; `tape` is None where none was asked for that needs it."""

    load: Load
    pool: Pool
    tape: Tape | None

    def planner(self, z: float = 0.0) -> Planner:
        return planner_of(self.load, self.pool, z)

    def foreseen(self) -> Tape:
        assert self.tape is not None
        return self.tape


def _hybrid(scene: Scene) -> Policy:
    planner = scene.planner()
    return Hybrid("hybrid", scene.foreseen(), planner, net=reactive(planner))


_MADE: dict[str, Callable[[Scene], Policy]] = {
    "static_peak": lambda scene: static_peak(scene.load, scene.pool),
    "static_mean": lambda scene: static_mean(scene.load, scene.pool),
    "reactive": lambda scene: reactive(scene.planner()),
    "hash_elastic": lambda scene: hash_elastic(scene.pool),
    "hourly_scale_out": lambda scene: hourly_scale_out(scene.foreseen(), scene.planner(), scene.pool),
    "point_margin": lambda scene: Predictive("point_margin", scene.foreseen(), scene.planner(), _MARGIN),
    "foreshard": lambda scene: Predictive("foreshard", scene.foreseen(), scene.planner(scene.pool.defaults.risk_z)),
    "hybrid": _hybrid,
}
_PREDICTIVE = ("hourly_scale_out", "point_margin", "foreshard", "hybrid")
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
    scene = scene_of(load, pool, trace.start, trace.country, foreseen=any(name in _PREDICTIVE for name in names))
    outcomes: dict[str, Outcome] = {}
    decisions: dict[str, tuple[Decision, ...]] = {}
    for name in names:
        if name == ORACLE:
            outcomes[name] = oracle(load, pool)
        else:
            outcomes[name], decisions[name] = simulate(load, pool, policy(name, scene))
    return Replay(trace, load, pool, outcomes, decisions, (*trace.notes, *_notes(scene)))


def scene_of(load: Load, pool: Pool, start: datetime, country: str = "", *, foreseen: bool = True) -> Scene:
    """A load that begins at `start`; with `foreseen` what predictive policies need. Time as `foresee`."""
    return Scene(load, pool, foresee(load, start, pool.defaults, lead_seconds(pool), country) if foreseen else None)


def policy(name: str, scene: Scene) -> Policy:
    """One of POLICIES but the oracle, which is none."""
    return _MADE[name](scene)


def _notes(scene: Scene) -> tuple[str, ...]:
    if scene.tape is None or not scene.tape.young:
        return ()
    shards = len(scene.pool.shard_ids)
    return (f"at the start of the test {scene.tape.young} of {shards} shards have a fallback's forecast: {scene.tape.why}",)


# Settings of each policy's knob beside the one that it is played at; what they mean stands in docs/value.md.
_KNOBS: dict[str, tuple[float, ...]] = {
    "static_mean": (1.0, 1.25, 2.0, 2.5),
    "reactive": (0.8, 0.9, 1.15, 1.3),
    "point_margin": (1.0, 1.05, 1.3, 1.5),
    "foreshard": (0.0, 0.5, 1.645, 2.326),
    ORACLE: (0.7, 0.9, 1.0),
}


def frontier(replayed: Replay) -> dict[str, tuple[Point, ...]]:
    """Each policy's cost and overload over its knob, by node-hours. Plays each policy up to five times: time as `replay`, and
    as much again for each setting."""
    trace = replayed.trace
    foreseen = any(name in _PREDICTIVE and name in _KNOBS for name in replayed.outcomes)
    scene = scene_of(replayed.load, replayed.pool, trace.start, trace.country, foreseen=foreseen)
    found = {}
    for name, played in replayed.outcomes.items():
        points = [_point("as played", played)]
        points += [_point(f"{knob:g}", _outcome_at(name, knob, scene)) for knob in _KNOBS.get(name, ())]
        found[name] = tuple(sorted(points, key=lambda point: point.node_hours))
    return found


def _point(knob: str, outcome: Outcome) -> Point:
    return Point(knob, outcome.node_hours, outcome.overload_request_share)


def _outcome_at(name: str, knob: float, scene: Scene) -> Outcome:
    if name == ORACLE:
        return oracle(scene.load, scene.pool, share=knob)
    made: dict[str, Callable[[], Policy]] = {
        "static_mean": lambda: static_mean(scene.load, scene.pool, knob),
        "reactive": lambda: reactive(scene.planner(), knob),
        "point_margin": lambda: Predictive(name, scene.foreseen(), scene.planner(), knob),
        "foreshard": lambda: Predictive(name, scene.foreseen(), scene.planner(knob)),
    }
    return simulate(scene.load, scene.pool, made[name]()).outcome
