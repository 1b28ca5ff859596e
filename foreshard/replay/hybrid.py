"""Prediction with a reactive safety net: never fewer nodes than the threshold asks for, and hardly more paid for than by it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from foreshard.replay.planned import Expected
from foreshard.replay.policy import Known, State, Wish
from foreshard.replay.pool import Pool
from foreshard.replay.predictive import Predictive
from foreshard.replay.reactive import Reactive, newest_level

# What being early may cost, of the node-hours that the threshold alone would have; and for how long being early must be paid.
ALLOWANCE = 0.04
_EARLY_SECONDS = 1_200


@dataclass
class Hybrid(Predictive):
    """`net`: the threshold. Its count is a floor; what was foreseen adds nodes as far as the allowance has grown meanwhile, so
    that on a load that nobody foresees this is the threshold and little else."""

    net: Reactive = field(kw_only=True)
    _net_count: int = field(default=0, init=False)
    _asked_at: int = field(default=0, init=False)
    _allowance: float = field(default=0.0, init=False)  # node-seconds

    def first(self, known: Known, pool: Pool) -> Wish:
        self._tried, self._asked_at, self._allowance = -1, 0, 0.0
        self._net_count = self.net.first_count(known, pool)
        nodes = pool.first_nodes(self._net_count)
        return Wish(nodes, self.planner.place(nodes, Expected.surely(known.last_hour)))

    def decide(self, known: Known, state: State, pool: Pool) -> Wish | None:
        edges, expected = self._foreseen(known.second)
        before = int(state.wanted.nodes.sum())
        passed, self._asked_at = known.second - self._asked_at, known.second
        self._allowance += passed * (ALLOWANCE * self._net_count - (before - self._net_count))
        self._net_count = self.net.count(known, self._net_count, pool)
        foreseen = self.count(edges, expected, before, known.second, pool)
        more = max(0, int(self._allowance / _EARLY_SECONDS))
        count = min(max(self._net_count, foreseen), self._net_count + more)
        return self.laid_out(count, known.second, _with_now(expected, known), state, pool)


def _with_now(expected: Expected, known: Known) -> Expected:
    """What is expected, and before it a step of what there is."""
    now = newest_level(known)[:, None]
    own, common = np.pad(expected.own, ((0, 0), (1, 0))), np.pad(expected.common, ((0, 0), (1, 0), (0, 0)))
    return Expected(np.concatenate([now, expected.mean], axis=1), own, common)
