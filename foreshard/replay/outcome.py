"""What a replay counts, and the figures that are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foreshard.replay.defaults import Defaults
from foreshard.replay.latency import CLASSES, latency_quantile
from foreshard.replay.trace import Floats

# Part of a capacity within which rounding errors of sums lie.
_ROUNDING = 1e-9


class Timeline(NamedTuple):
    """What happened in each interval of the test, each of shape (intervals,)."""

    nodes: Floats  # mean of the nodes paid for
    capacity: Floats  # mean of what the nodes that served could carry, requests per second
    overloaded: Floats  # requests above the capacity of their node
    moved: Floats  # bytes


@dataclass(frozen=True)
class Outcome:
    """The figures of one policy on one trace. A step is `Defaults.step_seconds`, whatever the trace's interval is."""

    requests: float
    overload_request_share: float  # requests above the capacity of their node, of all
    overload_interval_share: float  # steps in which some node was above its capacity, of all
    p99_latency_ms: float  # estimated, see latency.py
    node_hours: float  # from the start of a node, before it has booted, until it is given back
    bytes_moved: float  # copies given up on the way included
    moves: int  # copies of a shard that arrived
    imbalance_p95: float  # 95 % of the steps with load had at most this highest / mean utilisation of the nodes that ran
    reconfigurations: int  # decisions that changed the nodes or the layout wanted
    timeline: Timeline

    def as_document(self) -> dict[str, float | int]:
        """The fields that `foreshard replay` is to write for a policy."""
        return {
            "overload_request_share": self.overload_request_share,
            "overload_interval_share": self.overload_interval_share,
            "p99_latency_ms": self.p99_latency_ms,
            "node_hours": self.node_hours,
            "bytes_moved": self.bytes_moved,
            "moves": self.moves,
            "imbalance_p95": self.imbalance_p95,
            "reconfigurations": self.reconfigurations,
        }


class Movement(NamedTuple):
    """What was moved in the whole test."""

    moves: int
    reconfigurations: int


class Tally:
    """Sums over the steps of one replay."""

    def __init__(self, intervals: int, interval_seconds: int, defaults: Defaults) -> None:
        self._defaults = defaults
        self._interval_seconds = interval_seconds
        self._requests = 0.0
        self._by_utilisation = np.zeros(CLASSES + 1)
        self._steps, self._over_steps = 0, 0
        self._imbalance: list[float] = []
        self._imbalance_steps: list[int] = []
        self._timeline = Timeline(*(np.zeros(intervals) for _ in Timeline._fields))

    def add(self, interval: int, load: Floats, capacity: Floats, paid: int, steps: int, moved: float = 0.0) -> None:
        """Counts `steps` equal steps of one interval.

        `load`, `capacity`: requests per second of each node that runs, both (nodes,); `paid`: nodes that are paid for;
        `moved`: bytes.
        """
        seconds = steps * self._defaults.step_seconds
        total = float(load.sum())
        over = np.maximum(load - capacity, 0.0)
        over[over <= _ROUNDING * capacity] = 0.0
        above = float(over.sum())
        self._requests += total * seconds
        utilisation = load / capacity
        classes = np.minimum((utilisation * CLASSES).astype(np.int64), CLASSES)
        self._by_utilisation += np.bincount(classes, weights=load * seconds, minlength=CLASSES + 1)
        self._steps += steps
        self._over_steps += steps * (above > 0)
        if total > 0:
            self._imbalance.append(float(utilisation.max() / utilisation.mean()))
            self._imbalance_steps.append(steps)
        part = seconds / self._interval_seconds
        self._timeline.nodes[interval] += paid * part
        self._timeline.capacity[interval] += float(capacity.sum()) * part
        self._timeline.overloaded[interval] += above * seconds
        self._timeline.moved[interval] += moved

    def outcome(self, movement: Movement) -> Outcome:
        """The figures of all that was counted, at least one step."""
        timeline = self._timeline
        return Outcome(
            requests=self._requests,
            overload_request_share=float(timeline.overloaded.sum()) / self._requests if self._requests else 0.0,
            overload_interval_share=self._over_steps / self._steps,
            p99_latency_ms=latency_quantile(self._by_utilisation, 0.99, self._defaults),
            node_hours=float(timeline.nodes.sum()) * self._interval_seconds / 3600,
            bytes_moved=float(timeline.moved.sum()),
            moves=movement.moves,
            imbalance_p95=_quantile(np.array(self._imbalance), np.array(self._imbalance_steps), 0.95),
            reconfigurations=movement.reconfigurations,
            timeline=timeline,
        )


def _quantile(values: Floats, weights: Floats, level: float) -> float:
    """The smallest value that at least `level` of the weight is at or below; 1 of none."""
    if not values.size:
        return 1.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, level * reached[-1])])
