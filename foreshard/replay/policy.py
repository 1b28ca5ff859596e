"""What a policy is told and what it may ask for.

What is told is known at that moment: `History` holds only the intervals that are over, in memory of its own, so that no policy
can reach a later one by any route. What is known in hindsight (the peak of `static_peak`) is given to a policy when it is
made.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from foreshard.placement.cluster import Bools, Holdings
from foreshard.replay.pool import Pool
from foreshard.replay.trace import Floats


class Known(NamedTuple):
    """What is known at a second of the test; loads in requests per second of each shard."""

    second: int
    interval_seconds: int
    history: Floats  # (intervals that are over, those of training first, S), read only
    running: Floats | None  # (S,) in the interval that has begun, as far as it has come; None at its very start

    @property
    def latest(self) -> Floats:
        """The newest load, shape (S,)."""
        return self.history[-1] if self.running is None else self.running

    @property
    def last_hour(self) -> Floats:
        """Mean load of the last hour, or of the last interval if that is longer, shape (S,)."""
        mean: Floats = self.history[-max(1, 3600 // self.interval_seconds) :].mean(axis=0)
        return mean


class Wish(NamedTuple):
    """Which nodes are to run, shape (N,), and who is to hold what on them."""

    nodes: Bools
    held: Holdings


class State(NamedTuple):
    """How far the pool has come, as copies."""

    wanted: Wish  # what was last asked for
    running: Bools  # (N,) nodes that have booted
    held: Holdings  # what serves now


class Policy(Protocol):
    """Decides about nodes and layout. Of the same answers it must always make the same; it may keep what it was told."""

    @property
    def name(self) -> str: ...

    def first(self, known: Known, pool: Pool) -> Wish:
        """Where the test begins: all of it runs, is copied and paid for from the first second on."""
        ...

    def decide(self, known: Known, state: State, pool: Pool) -> Wish | None:
        """What is wanted from now on; None for no change."""
        ...


class History:
    """The intervals that are over. Rows of later ones are not written before they are."""

    def __init__(self, training: Floats, intervals: int) -> None:
        self._rows = np.zeros((len(training) + intervals, training.shape[1]))
        self._rows[: len(training)] = training
        self._known = len(training)

    def add(self, rates: Floats) -> None:
        self._rows[self._known] = rates
        self._known += 1

    def view(self) -> Floats:
        """All rows that are known, read only, without copying."""
        rows = self._rows[: self._known]
        rows.flags.writeable = False
        return rows
