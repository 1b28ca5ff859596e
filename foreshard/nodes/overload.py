"""A placement problem as the nodes see it: one that carries more than was predicted counts as that much smaller."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from foreshard.model import PlacementProblem

# However wrong a prediction was, a node is not emptied for a few minutes of it.
LEAST_SHARE = 0.25


def as_observed(problem: PlacementProblem, observed: Mapping[str, float], now: datetime) -> PlacementProblem:
    """The problem with the capacities of the `observed` nodes (node → load, weighted requests per second) lowered.

    By predicted / observed at the step that `now` falls in, at least to LEAST_SHARE, never raised: the node then is as full in
    the problem as it is in fact, and the loads stay those that were forecast. Time O(replicas + nodes).
    """
    if not problem.steps:
        return problem
    step = max(bisect_right(problem.steps, now) - 1, 0)
    predicted = _predicted(problem, step)
    nodes = []
    for node in problem.nodes:
        load = observed.get(node.node_id, 0.0)
        factor = min(max(predicted.get(node.node_id, 0.0) / load, LEAST_SHARE), 1.0) if load > 0 else 1.0
        nodes.append(replace(node, capacity=node.capacity * factor))
    return replace(problem, nodes=tuple(nodes))


def _predicted(problem: PlacementProblem, step: int) -> dict[str, float]:
    """Node → the mean load that its shards were forecast to bring it, by the layout's weights."""
    means = {s.shard_id: s.mean[step] for s in problem.shards}
    sums: dict[int, float] = defaultdict(float)
    for replica in problem.layout.replicas:
        sums[replica.shard_id] += replica.weight
    found: dict[str, float] = defaultdict(float)
    for replica in problem.layout.replicas:
        if sums[replica.shard_id] > 0:
            share = replica.weight / sums[replica.shard_id]
            found[replica.node_id] += means.get(replica.shard_id, 0.0) * share
    return found
