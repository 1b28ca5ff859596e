"""Policies that act on what the forecast engine foresaw, with the planner's own search for node counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshard.placement.node_count_paths import Prices, cheapest_path
from foreshard.replay.defaults import Defaults
from foreshard.replay.foresight import Tape
from foreshard.replay.planned import Expected, Planner
from foreshard.replay.policy import Known, State, Wish
from foreshard.replay.pool import Pool
from foreshard.replay.reactive import Reactive, planned
from foreshard.replay.trace import Floats

# What the load of one node, were it not carried, costs more than a node.
_OVERLOAD_NODES = 20.0
_GIGABYTE_NODE_HOURS = 0.01
# A new layout must take this share off the load that is above the nodes' ceilings.
_WORTH = 0.1


def risk_pooled(expected: Expected, z: float) -> Floats:
    """The quantile of the pool's load: shards' own errors cancel in the sum, common ones do not."""
    own = (expected.own**2).sum(axis=0)
    common = (expected.common.sum(axis=0) ** 2).sum(axis=1)
    found: Floats = expected.mean.sum(axis=0) + z * np.sqrt(own + common)
    return found


@dataclass
class Predictive:
    """As many nodes as are cheapest over the steps foreseen, begun in time; replicas where the planner puts them.

    `z`: of the quantile that pool and nodes are to carry within their target; `margin`: by which means are multiplied first.
    """

    name: str
    tape: Tape
    planner: Planner
    margin: float = 1.0
    _tried: int = field(default=-1, init=False)  # the moment whose forecast no better layout was found for

    def first(self, known: Known, pool: Pool) -> Wish:
        self._tried = -1
        _, expected = self._foreseen(known.second)
        nodes = pool.first_nodes(max(self.planner.base, pool.needed(float(self._load(expected)[0]))))
        return Wish(nodes, self.planner.place(nodes, _at(expected, [0])))

    def decide(self, known: Known, state: State, pool: Pool) -> Wish | None:
        edges, expected = self._foreseen(known.second)
        before = int(state.wanted.nodes.sum())
        count = self.count(edges, expected, before, known.second, pool)
        return self.laid_out(count, known.second, expected, state, pool)

    def count(self, edges: Floats, expected: Expected, before: int, second: int, pool: Pool) -> int:
        """The nodes to ask for now: what the cheapest path begins before the next decision."""
        load = self._load(expected)
        path = cheapest_path(edges, load, before, self.planner.base, pool.nodes, prices_of(pool))
        soon = second + pool.defaults.decision_seconds
        for change in path.changes[:1]:
            if change.begin < (soon if change.after > before else second + 1):
                return change.after
        return before

    def laid_out(self, count: int, second: int, expected: Expected, state: State, pool: Pool) -> Wish | None:
        """The wish for so many nodes; None if nothing would change that is worth it."""
        nodes, held = pool.first_nodes(count), state.wanted.held
        fits = np.flatnonzero(self._load(expected) <= pool.usable * count)
        due = _at(expected, fits if fits.size else np.zeros(1, dtype=np.int64))
        if count != int(state.wanted.nodes.sum()):
            return Wish(nodes, self.planner.place(nodes, due, held))
        moment = self.tape.at(second).second
        if moment == self._tried or (above := self.planner.above(due, held)) <= 0.0:
            return None
        self._tried = moment
        better = self.planner.place(nodes, due, held)
        return Wish(nodes, better) if self.planner.above(due, better) <= (1.0 - _WORTH) * above else None

    def _foreseen(self, second: int) -> tuple[Floats, Expected]:
        edges, expected = self.tape.at(second).from_second(second)
        return edges, expected._replace(mean=expected.mean * self.margin)

    def _load(self, expected: Expected) -> Floats:
        return risk_pooled(expected, self.planner.z)


def hourly_scale_out(tape: Tape, planner: Planner, pool: Pool) -> Reactive:
    """A threshold, and from each full hour on at least as many nodes as the hour's forecast needs: predictive scaling as clouds
    offer it, which only adds nodes."""

    def floor(second: int) -> int:
        hour = second // 3_600 * 3_600
        edges, expected = tape.at(hour).from_second(hour)
        within = edges[:-1] < hour + 3_600
        return pool.needed(float(expected.mean.sum(axis=0)[within].max()))

    return Reactive("hourly_scale_out", planned(planner), planner.base, floor=floor)


def prices_of(pool: Pool) -> Prices:
    """What nodes and changes cost in this pool, in node-hours.

    A node that comes copies recent days: its part of all of them, and at least those of a whole shard.
    """
    defaults = pool.defaults
    hot = pool.bytes_full * defaults.hot_bytes_share
    return Prices(
        usable=pool.usable,
        while_moving=defaults.capacity_while_copying,
        pair_seconds=float(hot.sum()) / defaults.copy_bytes_per_second,
        start_seconds=defaults.boot_seconds,
        verify_seconds=defaults.verify_seconds + float(hot.max(initial=0.0)) / defaults.copy_bytes_per_second,
        node_second=1.0 / 3_600,
        overload_second=_OVERLOAD_NODES / pool.usable / 3_600,
        all_bytes=float(hot.sum()) / 1e9 * _GIGABYTE_NODE_HOURS,
    )


def lead_seconds(pool: Pool) -> float:
    """What a change may take: to start a node, copy the largest shard's recent days and verify them."""
    defaults: Defaults = pool.defaults
    hot = float(pool.bytes_full.max(initial=0.0)) * defaults.hot_bytes_share
    return defaults.boot_seconds + hot / defaults.copy_bytes_per_second + defaults.verify_seconds


def _at(expected: Expected, steps: Sequence[int] | npt.NDArray[Any]) -> Expected:
    chosen = np.asarray(steps, dtype=np.int64)
    return Expected(expected.mean[:, chosen], expected.own[:, chosen], expected.common[:, chosen])
