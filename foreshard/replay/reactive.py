"""Policies that follow the load once it is there, without any forecast.

The count follows the rule of Kubernetes' Horizontal Pod Autoscaler with its published defaults: wanted = nodes × utilisation /
target, no change while that ratio is within 0.1 of 1, and down only to the highest count wanted in the last five minutes.
Source: kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale, "Algorithm details" and "Stabilization window".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from foreshard.placement.cluster import Bools, Holdings
from foreshard.replay.bounded import kept_within_bounds, ranked_within_bounds
from foreshard.replay.policy import Known, State, Wish
from foreshard.replay.pool import Pool
from foreshard.replay.trace import Floats

TOLERANCE = 0.1
WINDOW_SECONDS = 300

Placing = Callable[[Pool, Bools, Floats, Holdings], Holdings]


@dataclass
class Reactive:
    """Follows the newest load; `place` lays shards out when the count changes or a node is meant to carry less than it does.

    `tolerance`: the part by which utilisation may differ from the target before the count changes.
    """

    name: str
    place: Placing
    tolerance: float = TOLERANCE
    _wanted: list[tuple[int, int]] = field(default_factory=list, init=False)  # second and count, within the window

    def first(self, known: Known, pool: Pool) -> Wish:
        self._wanted = []
        nodes = pool.first_nodes(pool.needed(float(known.latest.sum())))
        return Wish(nodes, ranked_within_bounds(pool, nodes, known.last_hour))

    def decide(self, known: Known, state: State, pool: Pool) -> Wish | None:
        total = float(known.latest.sum())
        before = int(state.wanted.nodes.sum())
        count = self._count(known.second, before, total, pool)
        expected = self._expected(known, total)
        if count == before and not _some_node_is_over(state, expected, pool):
            return None
        nodes = pool.first_nodes(count)
        return Wish(nodes, self.place(pool, nodes, expected, state.wanted.held))

    def _count(self, second: int, before: int, total: float, pool: Pool) -> int:
        ratio = total / (before * pool.usable)
        count = pool.needed(total) if abs(ratio - 1.0) > self.tolerance else before
        self._wanted = [(at, n) for at, n in self._wanted if at >= second - WINDOW_SECONDS] + [(second, count)]
        return count if count >= before else min(before, max(n for _, n in self._wanted))

    def _expected(self, known: Known, total: float) -> Floats:
        """The shards' shares of the last hour at the newest level: shares change slower, and one interval of few requests is
        noise."""
        mean = known.last_hour
        sum_of = float(mean.sum())
        expected: Floats = mean * (total / sum_of) if sum_of > 0 else known.latest
        return expected


def _some_node_is_over(state: State, expected: Floats, pool: Pool) -> bool:
    """Whether a node of the layout wanted has more than it is meant to carry, while all together would not have."""
    node, weight = state.wanted.held.node, state.wanted.held.weight
    parts = np.where(node >= 0, weight * expected[:, None], 0.0)
    loads = np.bincount(node[node >= 0], weights=parts[node >= 0], minlength=pool.nodes)
    return bool(loads.max() > pool.usable and expected.sum() <= pool.usable * state.wanted.nodes.sum())


def reactive() -> Reactive:
    """A threshold with hysteresis; shards stay where they are as far as their nodes' bounds allow."""
    return Reactive("reactive", kept_within_bounds)


def hash_elastic() -> Reactive:
    """The same counts, but the layout is the hash's alone: every change lays all shards out anew from the ranking."""
    return Reactive("hash_elastic", lambda pool, nodes, rates, _: ranked_within_bounds(pool, nodes, rates))
