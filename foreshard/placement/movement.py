"""The moves of a plan as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foreshard.model import Goal, MoveKind
from foreshard.placement.cluster import Floats, Ints

KINDS = (MoveKind.REPLICATE, MoveKind.WIDEN, MoveKind.MOVE, MoveKind.DROP)
GOALS = tuple(Goal)


class Moves(NamedTuple):
    """M moves; shards and nodes by position in the cluster, -1 where a kind of move has no source or no target."""

    kind: npt.NDArray[np.int8]  # (M,) position in KINDS
    shard: Ints  # (M,)
    source: Ints  # (M,)
    target: Ints  # (M,)
    holds: npt.NDArray[np.int8]  # (M,) HOT or FULL: what the target holds afterwards, or the source held, for a drop
    bytes: Ints  # (M,)
    goal: npt.NDArray[np.int8]  # (M,) position in GOALS
    gain: Floats  # (M,) in the goal's unit
    step: Ints  # (M,) the step whose load made it necessary, -1 for none
