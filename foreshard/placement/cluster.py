"""A placement problem as arrays: what every part of the planner reads and none changes.

Shards and nodes are in the order of their ids, whatever order the problem gives them in, so the plan does not depend on it.
A node that the layout names and the pool no longer has counts as dead. Large pools may be stated as a Cluster directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foreshard.model import Policy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# What a node holds of a shard.
NONE, HOT, FULL = 0, 1, 2


class Holdings(NamedTuple):
    """Who holds what: for each of S shards up to K replicas, in no order; unused places have node -1, kind 0 and weight 0."""

    node: npt.NDArray[np.int32]  # (S, K)
    kind: npt.NDArray[np.int8]  # (S, K), NONE, HOT or FULL
    weight: Floats  # (S, K), those of one shard sum to 1

    def copied(self) -> Holdings:
        return Holdings(self.node.copy(), self.kind.copy(), self.weight.copy())

    def widened(self, places: int) -> Holdings:
        """The same with at least so many places per shard."""
        short = max(0, places - self.node.shape[1])
        grow = ((0, 0), (0, short))
        return Holdings(np.pad(self.node, grow, constant_values=-1), np.pad(self.kind, grow), np.pad(self.weight, grow))


@dataclass(frozen=True)
class Nodes:
    """N nodes. `fill`: joining or empty ones, which take their share."""

    ids: tuple[str, ...]
    capacity: Floats  # (N,) of load
    target: Floats  # (N,) share of capacity meant to be used
    accepts: Bools  # (N,) active or joining
    live: Bools  # (N,) all but dead
    joining: Bools  # (N,)
    zone: Ints  # (N,) codes from 0; a node without a zone has a code of its own
    zone_names: tuple[str, ...]  # by code, '' for none
    neighbourhood: Ints  # (N,) likewise
    limit: Floats  # (N, R) of further resources, inf where a node has no limit
    soft: Floats  # (N, R) limit × target


@dataclass(frozen=True)
class Shards:
    """S shards over T ≥ 1 steps with F common factors and R further resources; groups as codes, -1 for none."""

    ids: Ints  # (S,)
    mean: Floats  # (S, T)
    own_square: Floats  # (S, T)
    common: Floats  # (S, T, F)
    recent: Floats  # (S,) share of the load that a hot replica can answer
    size: Ints  # (S, 3) bytes by kind
    need: Floats  # (S, R) of a full replica; a hot one takes the share bytes_hot / bytes_full of it
    least: Ints  # (S,) full replicas it must have; 0 for an isolated entity, whose slot has them
    most: Ints  # (S,) replicas it may have at most
    parent: Ints  # (S,) position of the slot of an isolated entity, else -1
    group: Ints  # (S,)
    permit: Ints  # (S,) row of `allowed`, -1 for any node
    move_cost: Floats  # (S,)
    pin_start: Ints  # (S + 1,)
    pins: Ints  # positions of nodes that must hold the shard

    def hot_part(self) -> Floats:
        """The part of a full replica's needs that a hot one takes: as much as of the bytes, shape (S,)."""
        full, hot = self.size[:, FULL], self.size[:, HOT]
        part: Floats = np.divide(np.minimum(hot, full), full, out=np.ones(len(full)), where=full > 0)
        return part


@dataclass(frozen=True)
class Groups:
    """G groups."""

    ids: tuple[str, ...]
    distinct: Bools  # (G,) all replicas of its shards on distinct nodes
    min_zones: Ints  # (G,)
    near_start: Ints  # (G + 1,)
    near: Ints


@dataclass(frozen=True)
class Costs:
    """Costs beside load and bytes: R resources and B balances."""

    names: tuple[str, ...]
    transient: Bools  # (R,)
    soft: Floats  # (R,)
    balance_first: Ints  # (B,)
    balance_second: Ints
    balance_target: Floats
    balance: Floats
    pair: Floats  # (N, N) or (0, 0)


@dataclass(frozen=True)
class Cluster:
    """The whole problem. Shards that share their nodes are one row: bundles.py merges them before and parts them after."""

    pool_id: str
    policy: Policy
    steps: tuple[datetime, ...]  # may be empty: then T is 1 and no step has a time
    covers_from: date
    nodes: Nodes
    shards: Shards
    groups: Groups
    costs: Costs
    allowed: Bools  # (P, N)
    held: Holdings  # the layout at hand, replicas on dead nodes included
    hot_from: dict[tuple[int, int], date]  # (shard, node) by position → first day of a hot replica at hand

    @property
    def accepting(self) -> int:
        return int(self.nodes.accepts.sum())

    def holding(self, held: Holdings) -> Bools:
        """Which nodes hold anything, shape (N,)."""
        found: Bools = np.bincount(held.node[held.node >= 0], minlength=len(self.nodes.ids)) > 0
        return found

    def fresh(self) -> Bools:
        """Nodes that are to be filled: joining ones, and those that hold nothing in the layout at hand, shape (N,)."""
        found: Bools = self.nodes.accepts & (self.nodes.joining | ~self.holding(self.held))
        return found

    def step_label(self, step: int) -> str:
        return self.steps[step].strftime("%Y-%m-%d %H:%M") if self.steps else "any time"

    def extra_kind(self) -> npt.NDArray[np.int8]:
        """What a replica beyond the least holds, shape (S,): recent days only where they serve most queries and save bytes."""
        shards = self.shards
        hot = (shards.recent >= 0.5) & (shards.size[:, HOT] < shards.size[:, FULL])
        return np.where(hot, HOT, FULL).astype(np.int8)
