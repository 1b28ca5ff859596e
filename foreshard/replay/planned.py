"""The project's planner in a replay: the layout for given nodes and expected loads, from the one that is wanted so far.

Full replicas are pinned to the base nodes, which always run. Nodes beyond them get hot replicas, one of each shard with load
and more of heavy ones, so that a node that comes for some hours copies days, not months, and leaves without copying back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import numpy as np

from foreshard.model import Policy
from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Costs, Floats, Groups, Holdings, Ints, Nodes, Shards
from foreshard.placement.effort import Effort
from foreshard.placement.searching import search
from foreshard.replay.load import Load
from foreshard.replay.pool import Pool

# A shard gets one more hot replica for each time that its peak exceeds this share of what a node is meant to carry.
_HOT_PART = 0.5
# Of the last, improving stage of the search. A replay plans thousands of times, and nodes under their ceilings are enough.
_ITERATIONS = 2_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Expected(NamedTuple):
    """What S shards are expected to carry in each of T steps ahead, in requests per second.

    A node's quantile is Σ mean + z·√(Σ_f (Σ common_f)² + Σ own²), with the planner's z.
    """

    mean: Floats  # (S, T)
    own: Floats  # (S, T)
    common: Floats  # (S, T, F)

    @staticmethod
    def surely(rates: Floats) -> Expected:
        """One step of loads (S,) taken for certain."""
        return Expected(rates[:, None], np.zeros((len(rates), 1)), np.zeros((len(rates), 1, 0)))


@dataclass(frozen=True)
class Planner:
    """Plans for the nodes of a pool with its defaults; `z`: of the quantile that nodes are to carry within their target.

    `base`: how many nodes, the first ones, hold full replicas; all do if it is the number of nodes.
    """

    pool: Pool
    policy: Policy
    z: float
    base: int
    full: Ints  # (S,) full replicas of each shard

    @staticmethod
    def of(pool: Pool, peaks: Floats, total_peak: float, z: float = 0.0, *, elastic: bool = True) -> Planner:
        """For shards and a pool that had these highest loads so far, (S,) and of all together. Not `elastic`: no node ever
        leaves, and all may hold full replicas."""
        defaults = pool.defaults
        policy = Policy(
            min_full_replicas=defaults.replicas,
            max_replicas=defaults.max_replicas,
            # How many extra replicas there are is said for each shard by what it may have at most.
            hot_share=1e-9,
            cold_factor=1.0,
            target_utilisation=defaults.target,
            bounded_load=defaults.bounded_load,
            risk_z=z,
            copy_bytes_per_second=defaults.copy_bytes_per_second,
            verify_seconds=defaults.verify_seconds,
            node_start_seconds=defaults.boot_seconds,
            capacity_while_moving=defaults.capacity_while_copying,
            max_moves=1_000_000,
            max_move_bytes=1 << 62,
        )
        full = pool.full_replicas(peaks)
        base = max(pool.base_nodes(total_peak), int(full.max(initial=0))) if elastic else pool.nodes
        return Planner(pool, policy, z, base, full)

    def place(self, nodes: Bools, expected: Expected, held: Holdings | None = None) -> Holdings:
        """Who is to hold what on `nodes` (N,), among them all base nodes; without `held` from nothing."""
        count = int(nodes.sum())
        if held is None:
            base = self.pool.first_nodes(min(self.base, count))
            held = self._searched(base, expected, self._nothing(), pinned=False)
            if count <= self.base:
                return held
        return self._searched(nodes, expected, held, pinned=count > self.base)

    def _searched(self, nodes: Bools, expected: Expected, held: Holdings, pinned: bool) -> Holdings:
        draft = search(self._cluster(nodes, expected, held, pinned), Effort(iterations=_ITERATIONS)).draft
        return _trimmed(draft.held, self.pool.defaults.max_replicas)

    def _most(self, expected: Expected, nodes: Bools, pinned: bool) -> Ints:
        """Replicas that each shard is to have, shape (S,)."""
        peak = expected.mean.max(axis=1, initial=0.0)
        extra = np.ceil(peak / (_HOT_PART * self.pool.usable)).astype(np.int64) - (0 if pinned else self.full)
        most: Ints = np.minimum(self.full + np.maximum(extra, 0), min(self.pool.defaults.max_replicas, int(nodes.sum())))
        return most

    def above(self, expected: Expected, held: Holdings) -> float:
        """The most by which nodes are to be above what they are meant to carry in a step, of all nodes together."""
        used = held.node >= 0
        weight = np.zeros((self.pool.nodes, len(self.pool.shard_ids)))
        shard = np.broadcast_to(np.arange(len(held.node))[:, None], held.node.shape)[used]
        np.add.at(weight, (held.node[used], shard), held.weight[used])
        mean = weight @ expected.mean
        square = (weight**2) @ expected.own**2
        for factor in range(expected.common.shape[2]):
            square += (weight @ expected.common[:, :, factor]) ** 2
        over = np.maximum(mean + self.z * np.sqrt(square) - self.pool.usable, 0.0)
        return float(over.sum(axis=0).max())

    def _nothing(self) -> Holdings:
        shape = (len(self.pool.shard_ids), 1)
        return Holdings(np.full(shape, -1, np.int32), np.zeros(shape, np.int8), np.zeros(shape))

    def _cluster(self, nodes: Bools, expected: Expected, held: Holdings, pinned: bool) -> Cluster:
        shard, place = np.nonzero((held.kind == FULL) & (held.node < self.base) & (held.node >= 0) & pinned)
        pins = np.bincount(shard, minlength=len(held.node))
        pool, defaults = self.pool, self.pool.defaults
        count, shards = pool.nodes, len(pool.shard_ids)
        steps = tuple(_EPOCH + timedelta(seconds=defaults.decision_seconds * i) for i in range(expected.mean.shape[1]))
        none = np.zeros(0, dtype=np.int64)
        size = np.zeros((shards, 3), dtype=np.int64)
        size[:, FULL] = pool.bytes_full
        size[:, HOT] = pool.bytes_full * defaults.hot_bytes_share
        return Cluster(
            pool_id="replay",
            policy=self.policy,
            steps=steps,
            covers_from=date(1970, 1, 1),
            nodes=Nodes(
                ids=pool.names,
                capacity=np.full(count, pool.capacity),
                target=np.full(count, defaults.target),
                accepts=nodes,
                live=np.ones(count, dtype=np.bool_),
                joining=np.zeros(count, dtype=np.bool_),
                zone=np.arange(count),
                zone_names=("",) * count,
                neighbourhood=np.arange(count),
                limit=np.zeros((count, 0)),
                soft=np.zeros((count, 0)),
            ),
            shards=Shards(
                ids=pool.shard_ids,
                mean=np.ascontiguousarray(expected.mean),
                own_square=expected.own**2,
                common=np.ascontiguousarray(expected.common),
                recent=np.full(shards, defaults.recent_share),
                size=size,
                need=np.zeros((shards, 0)),
                least=np.minimum(self.full, int(nodes.sum())),
                most=self._most(expected, nodes, pinned),
                parent=np.full(shards, -1),
                group=np.full(shards, -1),
                permit=np.full(shards, -1),
                move_cost=np.zeros(shards),
                pin_start=np.concatenate([[0], np.cumsum(pins)]),
                pins=held.node[shard, place].astype(np.int64),
            ),
            groups=Groups((), np.zeros(0, dtype=np.bool_), none, np.zeros(1, dtype=np.int64), none),
            costs=Costs((), np.zeros(0, dtype=np.bool_), np.zeros(0), none, none, np.zeros(0), np.zeros(0), np.zeros((0, 0))),
            allowed=np.zeros((0, count), dtype=np.bool_),
            held=held,
            hot_from={},
        )


def planner_of(load: Load, pool: Pool, z: float = 0.0, *, elastic: bool = True) -> Planner:
    """For what had come before the test."""
    training = load.training
    return Planner.of(pool, training.max(axis=0), float(training.sum(axis=1).max()), z, elastic=elastic)


def _trimmed(held: Holdings, places: int) -> Holdings:
    """The same in so many places a shard, used ones first: the order of places says nothing."""
    order = np.argsort(held.node < 0, axis=1, kind="stable")[:, :places]
    shard = np.arange(len(order))[:, None]
    return Holdings(held.node[shard, order], held.kind[shard, order], held.weight[shard, order]).widened(places)
