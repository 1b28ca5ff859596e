"""Policies that never change anything: so many nodes for the whole test."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.replay.bounded import ranked_within_bounds
from foreshard.replay.policy import Known, State, Wish
from foreshard.replay.pool import Pool
from foreshard.replay.simulation import Load

# Nodes for half as much again as the mean load: what is bought for an average day.
MEAN_FACTOR = 1.5


@dataclass(frozen=True)
class Static:
    """`count` nodes, with shards placed once for the mean load of the training period."""

    name: str
    count: int

    def first(self, known: Known, pool: Pool) -> Wish:
        nodes = pool.first_nodes(self.count)
        return Wish(nodes, ranked_within_bounds(pool, nodes, known.history.mean(axis=0)))

    def decide(self, known: Known, state: State, pool: Pool) -> Wish | None:
        return None


def static_peak(load: Load, pool: Pool) -> Static:
    """As many nodes as the highest load of the test needs: in hindsight, the least that a fixed pool can be bought for."""
    return Static("static_peak", pool.needed(float(load.test.sum(axis=1).max())))


def static_mean(load: Load, pool: Pool, factor: float = MEAN_FACTOR) -> Static:
    """As many nodes as `factor` × the mean load of the training period needs."""
    return Static("static_mean", pool.needed(factor * float(load.training.sum(axis=1).mean())))
