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
from foreshard.replay.bounded import ranked_within_bounds
from foreshard.replay.planned import Expected, Planner
from foreshard.replay.policy import Known, State, Wish
from foreshard.replay.pool import Pool
from foreshard.replay.trace import Floats

TOLERANCE = 0.1
WINDOW_SECONDS = 300

# From nodes, expected loads and what is held so far (None at the start) to the layout.
Placing = Callable[[Bools, Floats, Holdings | None], Holdings]


@dataclass
class Reactive:
    """Follows the newest load; `place` lays shards out when the count changes or a node is meant to carry less than it does.

    `fewest`: nodes that there always are; `headroom`: what the load is multiplied by before it is counted in nodes; `floor`:
    seconds of the test → nodes that are wanted whatever the load is.
    """

    name: str
    place: Placing
    fewest: int
    headroom: float = 1.0
    floor: Callable[[int], int] | None = None
    _wanted: list[tuple[int, int]] = field(default_factory=list, init=False)  # second and count, within the window
    _tried: int = field(default=-1, init=False)

    def first(self, known: Known, pool: Pool) -> Wish:
        nodes = pool.first_nodes(self.first_count(known, pool))
        return Wish(nodes, self.place(nodes, known.last_hour, None))

    def decide(self, known: Known, state: State, pool: Pool) -> Wish | None:
        before = int(state.wanted.nodes.sum())
        count = self.count(known, before, pool)
        expected = newest_level(known)
        news = len(known.history) + (known.running is not None)
        if count == before and (news == self._tried or not some_node_is_over(state, expected, pool)):
            return None
        # What could not be laid out better will not be until something else is known.
        self._tried = news
        nodes = pool.first_nodes(count)
        return Wish(nodes, self.place(nodes, expected, state.wanted.held))

    def first_count(self, known: Known, pool: Pool) -> int:
        """How many nodes to begin with; forgets what was wanted before."""
        self._wanted, self._tried = [], -1
        return max(self._least(known.second), pool.needed(self.headroom * float(known.latest.sum())))

    def count(self, known: Known, before: int, pool: Pool) -> int:
        """How many nodes to have instead of `before`."""
        total = self.headroom * float(known.latest.sum())
        ratio = total / (before * pool.usable)
        count = pool.needed(total) if abs(ratio - 1.0) > TOLERANCE else before
        count = max(self._least(known.second), count)
        self._wanted = [(at, n) for at, n in self._wanted if at >= known.second - WINDOW_SECONDS] + [(known.second, count)]
        return count if count >= before else min(before, max(n for _, n in self._wanted))

    def _least(self, second: int) -> int:
        return max(self.fewest, self.floor(second) if self.floor else 0)


def newest_level(known: Known) -> Floats:
    """The shards' shares of the last hour at the newest level: shares change slower, and one interval of few requests is
    noise."""
    mean = known.last_hour
    sum_of = float(mean.sum())
    expected: Floats = mean * (float(known.latest.sum()) / sum_of) if sum_of > 0 else known.latest
    return expected


def some_node_is_over(state: State, expected: Floats, pool: Pool) -> bool:
    """Whether a node of the layout wanted has more than it is meant to carry, while all together would not have."""
    node, weight = state.wanted.held.node, state.wanted.held.weight
    parts = np.where(node >= 0, weight * expected[:, None], 0.0)
    loads = np.bincount(node[node >= 0], weights=parts[node >= 0], minlength=pool.nodes)
    return bool(loads.max() > pool.usable and expected.sum() <= pool.usable * state.wanted.nodes.sum())


def planned(planner: Planner) -> Placing:
    """The planner's layouts for a load taken for certain."""
    return lambda nodes, rates, held: planner.place(nodes, Expected.surely(rates), held)


def reactive(planner: Planner, headroom: float = 1.0) -> Reactive:
    """A threshold with hysteresis, and the planner's layouts."""
    return Reactive("reactive", planned(planner), planner.base, headroom)


def hash_elastic(pool: Pool) -> Reactive:
    """The same counts, but the layout is the hash's alone: every change lays all shards out anew from the ranking."""

    def place(nodes: Bools, rates: Floats, held: Holdings | None) -> Holdings:
        return ranked_within_bounds(pool, nodes, rates)

    return Reactive("hash_elastic", place, pool.defaults.replicas)
