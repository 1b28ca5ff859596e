"""A cluster under one layout, with what sentences about it need: shares, loads, ceilings and what resources are in use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from foreshard.errors import ForeshardError
from foreshard.hashing import rendezvous_scores
from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Floats, Holdings, Ints
from foreshard.placement.loads import NodeLoads, ceiling, fair_share, node_loads, quantile, shares


@dataclass(frozen=True)
class Standing:
    """Each figure is worked out when first asked for. Time O(replicas × T × F) altogether.

    `copied`: replicas, by the positions of shard and node, that a plan brings to where they are.
    """

    cluster: Cluster
    held: Holdings
    copied: frozenset[tuple[int, int]] = frozenset()

    @cached_property
    def share(self) -> Floats:
        """Of each replica in its shard's load, shape (S, K)."""
        return shares(self.cluster, self.held)

    @cached_property
    def loads(self) -> NodeLoads:
        return node_loads(self.cluster, self.held)

    @cached_property
    def load(self) -> Floats:
        """Load quantile of each node at each step, shape (N, T)."""
        return quantile(self.loads, self.cluster.policy.risk_z)

    @cached_property
    def ceiling(self) -> Floats:
        """Load above which a node is relieved, shape (N, T)."""
        return ceiling(self.cluster)

    @cached_property
    def fair(self) -> Floats:
        return fair_share(self.cluster)

    @cached_property
    def alone(self) -> Floats:
        """Load quantile of each shard by itself, shape (S, T)."""
        shards = self.cluster.shards
        return quantile(NodeLoads(shards.mean, shards.own_square, shards.common), self.cluster.policy.risk_z)

    @cached_property
    def taken(self) -> Floats:
        """The part of its shard's needs that each replica takes, shape (S, K): a hot one takes as much as of the bytes."""
        hot = self.cluster.shards.hot_part()[:, None]
        used: Floats = np.where(self.held.kind == FULL, 1.0, np.where(self.held.kind == HOT, hot, 0.0))
        return used

    @cached_property
    def use(self) -> Floats:
        """Of each further resource on each node, shape (N, R)."""
        need = self.cluster.shards.need
        used = np.zeros((len(self.cluster.nodes.ids), need.shape[1]))
        row, place = np.nonzero(self.held.node >= 0)
        np.add.at(used, self.held.node[row, place], self.taken[row, place][:, None] * need[row])
        return used

    def row(self, shard_id: int) -> int:
        """Position of a shard; raises ForeshardError if there is no such one."""
        ids = self.cluster.shards.ids
        at = int(np.searchsorted(ids, shard_id))
        if at == len(ids) or ids[at] != shard_id:
            raise ForeshardError(f"pool {self.cluster.pool_id} has no shard {shard_id}; `foreshard routes show` lists them")
        return at

    def node(self, node_id: str) -> int:
        """Position of a node; raises ForeshardError if there is no such one."""
        try:
            return self.cluster.nodes.ids.index(node_id)
        except ValueError:
            known = ", ".join(self.cluster.nodes.ids[:10])
            raise ForeshardError(f"pool {self.cluster.pool_id} has no node {node_id}; it has {known}") from None

    def places(self, row: int) -> list[int]:
        """Places of a shard's replicas on live nodes, in the order of their nodes."""
        nodes = self.held.node[row]
        live = [k for k in range(len(nodes)) if nodes[k] >= 0 and self.cluster.nodes.live[nodes[k]]]
        return sorted(live, key=lambda k: int(nodes[k]))

    def ranked(self, row: int) -> Ints:
        """The accepting nodes from the shard's first preference to its last. Time O(N log N)."""
        nodes = self.cluster.nodes
        accepting = np.flatnonzero(nodes.accepts)
        ids = [nodes.ids[n] for n in accepting]
        scores = rendezvous_scores([int(self.cluster.shards.ids[row])], ids, nodes.capacity[accepting].tolist())[0]
        best: Ints = accepting[np.lexsort((accepting, -scores))]
        return best

    def of_group(self, group: int) -> Bools:
        """Rows of a group's shards, shape (S,)."""
        rows: Bools = self.cluster.shards.group == group
        return rows

    def group_nodes(self, group: int, without: tuple[int, int] | None = None) -> Ints:
        """Live nodes with replicas of a group, one entry for each; without the replica at (row, place)."""
        nodes = self.held.node[self.of_group(group)].astype(np.int64)
        if without is not None:
            nodes = self.held.node.astype(np.int64)
            nodes[without] = -1
            nodes = nodes[self.of_group(group)]
        found = nodes[nodes >= 0]
        alive: Ints = found[self.cluster.nodes.live[found]]
        return alive

    def load_with(self, node: int, row: int, share: float) -> Floats:
        """Load quantile of a node with a share of one more shard, shape (T,)."""
        shards, loads = self.cluster.shards, self.loads
        more = NodeLoads(
            loads.mean[node] + share * shards.mean[row],
            loads.own_square[node] + share * share * shards.own_square[row],
            loads.common[node] + share * shards.common[row],
        )
        return quantile(more, self.cluster.policy.risk_z)
