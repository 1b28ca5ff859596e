"""Policies that never change anything: so many nodes for the whole test."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.replay.load import Load
from foreshard.replay.planned import Expected, Planner, planner_of
from foreshard.replay.policy import Known, State, Wish
from foreshard.replay.pool import Pool
from foreshard.replay.trace import Floats

# Nodes for half as much again as the mean load: what is bought for an average day.
MEAN_FACTOR = 1.5


@dataclass(frozen=True)
class Static:
    """`count` nodes, with shards placed once for the shares that they have of the load of the training period."""

    name: str
    count: int
    planner: Planner

    def first(self, known: Known, pool: Pool) -> Wish:
        nodes = pool.first_nodes(self.count)
        full = _at_full(known.history.mean(axis=0), self.count, pool)
        return Wish(nodes, self.planner.place(nodes, Expected.surely(full)))

    def decide(self, known: Known, state: State, pool: Pool) -> Wish | None:
        return None


def _at_full(rates: Floats, count: int, pool: Pool) -> Floats:
    """The same shares at the level for which so many nodes are bought."""
    total = float(rates.sum())
    return rates * (count * pool.usable / total) if total > 0 else rates


def static_peak(load: Load, pool: Pool) -> Static:
    """As many nodes as the highest load of the test needs: in hindsight, the least that a fixed pool can be bought for."""
    return _static("static_peak", float(load.test.sum(axis=1).max()), load, pool)


def static_mean(load: Load, pool: Pool, factor: float = MEAN_FACTOR) -> Static:
    """As many nodes as `factor` × the mean load of the training period needs."""
    return _static("static_mean", factor * float(load.training.sum(axis=1).mean()), load, pool)


def _static(name: str, load_to_carry: float, load: Load, pool: Pool) -> Static:
    return Static(name, pool.needed(load_to_carry), planner_of(load, pool, elastic=False))
