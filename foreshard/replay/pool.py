"""What the nodes and shards of a replay are like: fixed before the first policy is played, and the same for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.hashing import node_hashes
from foreshard.ranking import scores
from foreshard.replay.defaults import DEFAULTS, Defaults
from foreshard.replay.trace import Floats, Ints, Trace

_DAY = 86_400


@dataclass(frozen=True)
class Pool:
    """N nodes that could be started, numbered in the order in which a policy that wants n of them takes them, and S shards."""

    capacity: float  # requests per second of one node
    nodes: int
    shard_ids: Ints  # (S,)
    bytes_full: Floats  # (S,) of a full replica
    preference: npt.NDArray[np.int32]  # (S, N) nodes, the shard's first choice first
    defaults: Defaults = DEFAULTS

    @property
    def names(self) -> tuple[str, ...]:
        """Of the nodes."""
        return node_names(self.nodes)

    @property
    def usable(self) -> float:
        """Requests per second that a node is meant to carry."""
        return self.capacity * self.defaults.target

    def first_nodes(self, count: int) -> npt.NDArray[np.bool_]:
        """The first `count` nodes, shape (N,)."""
        return np.arange(self.nodes) < count

    def base_nodes(self, peak: float) -> int:
        """How many nodes hold full replicas: enough to answer what hot ones cannot, at so many requests per second in all."""
        only_full = (1.0 - self.defaults.recent_share) * peak
        return max(self.defaults.replicas, self.needed(only_full / self.defaults.base_fill))

    def full_replicas(self, peaks: Floats) -> Ints:
        """How many full replicas shards have that had so many requests per second at most, both (S,): as many nodes as are
        needed for what hot ones cannot answer."""
        only_full = (1.0 - self.defaults.recent_share) * peaks / self.defaults.base_fill
        return np.ceil(only_full / self.usable).astype(np.int64).clip(self.defaults.replicas, self.defaults.max_replicas)

    def needed(self, load: float) -> int:
        """The fewest nodes that are meant to carry so many requests per second, within what there may be."""
        count = math.ceil(load / self.usable * (1 - 1e-12))
        return min(self.nodes, max(self.defaults.replicas, count))


def pool_of(trace: Trace, test_start: int, defaults: Defaults = DEFAULTS) -> Pool:
    """The pool in which a trace is replayed.

    A node's capacity is a share of the whole trace's highest load: a property of the machines, not something to be foreseen.
    Bytes follow what came to each shard per day before the test. There may be twice as many nodes as the highest load needs.
    """
    peak = float(trace.requests.sum(axis=1).max()) / trace.interval_seconds
    days = test_start * trace.interval_seconds / _DAY
    per_day = trace.requests[:test_start].sum(axis=0) / days
    return drawn_up(
        peak * defaults.node_peak_share,
        max(defaults.max_replicas, math.ceil(2 / defaults.node_peak_share / defaults.target)),
        trace.shard_ids,
        per_day * defaults.kept_days * defaults.bytes_per_request,
        defaults,
    )


def drawn_up(capacity: float, nodes: int, shard_ids: Ints, bytes_full: Floats, defaults: Defaults = DEFAULTS) -> Pool:
    """A pool of `nodes` nodes of one capacity, with the ranking of nodes for each shard (`foreshard.ranking`)."""
    ranked = scores(shard_ids.astype(np.uint64), node_hashes(node_names(nodes)), np.ones(nodes))
    preference = np.argsort(-ranked, axis=1, kind="stable").astype(np.int32)
    return Pool(capacity, nodes, shard_ids, bytes_full, preference, defaults)


def node_names(count: int) -> tuple[str, ...]:
    return tuple(f"node-{i:03d}" for i in range(count))
