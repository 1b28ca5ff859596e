"""The plain hash layout: every shard's full replicas on its highest-ranked nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foreshard.errors import ForeshardError
from foreshard.hashing import node_hashes
from foreshard.model import Layout, Node, Policy, Replica
from foreshard.ranking import first_ranked


def initial_layout(shard_ids: Sequence[int], nodes: Sequence[Node], policy: Policy, epoch: int = 1) -> Layout:
    """Each shard's `min_full_replicas` full replicas, or as many as there are accepting nodes, by weighted rendezvous rank.

    A node in a zone that the shard is already in is passed over while other zones are left. Weights are proportional to
    capacity and sum to 1 per shard. Raises ForeshardError if no node accepts shards. Time O(shards × nodes).
    """
    ordered = sorted(nodes, key=lambda n: n.node_id)
    accepting = [n for n in ordered if n.accepts_shards]
    if not accepting:
        raise ForeshardError("no node accepts shards; add an active node before laying out the pool")
    wanted = min(policy.min_full_replicas, len(accepting))
    unique = sorted(set(shard_ids))
    ids, capacity = [n.node_id for n in accepting], np.array([n.capacity for n in accepting])
    ranked = first_ranked(np.array(unique, dtype=np.int64), node_hashes(ids), capacity, np.ones(len(ids), bool), len(ids))
    replicas: list[Replica] = []
    for shard_id, order in zip(unique, ranked.tolist(), strict=True):
        preference = [accepting[j] for j in order]
        chosen = _distinct_zones(preference, wanted)
        weights = rounded_weights([n.capacity for n in chosen])
        replicas += [Replica(shard_id, n.node_id, w) for n, w in zip(chosen, weights, strict=True)]
    return Layout(epoch, tuple(sorted(replicas, key=lambda r: (r.shard_id, r.node_id))))


def rounded_weights(parts: Sequence[float]) -> list[float]:
    """Weights in proportion to `parts`, of six decimals, that sum to 1: the largest takes what rounding leaves."""
    total = sum(parts)
    weights = [max(round(part / total, 6), 1e-6) for part in parts]
    largest = max(range(len(weights)), key=lambda i: (weights[i], -i))
    weights[largest] = round(1.0 - sum(w for i, w in enumerate(weights) if i != largest), 6)
    return weights


def _distinct_zones(preference: Sequence[Node], wanted: int) -> list[Node]:
    chosen: list[Node] = []
    for node in preference:
        if len(chosen) < wanted and (not node.zone or node.zone not in {c.zone for c in chosen}):
            chosen.append(node)
    rest = [n for n in preference if n not in chosen]
    return chosen + rest[: wanted - len(chosen)]
