"""How many nodes there should be over the horizon, and when changing their number must begin.

Nodes are counted in units of the mean accepting node: its capacity, its target, its limits. See node_count_paths.py for the
search and its source.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from foreshard.model import NodeCount
from foreshard.placement.cluster import FULL, HOT, NONE, Cluster, Floats
from foreshard.placement.node_count_paths import Change, Path, Prices, change_seconds, cheapest_path

# The length of a step that is the only one.
_ONLY_STEP_SECONDS = 3600.0
# Seconds, forty years: more is as much too late.
_LONGEST = 1_262_304_000


def node_counts(cluster: Cluster, load: Floats) -> tuple[NodeCount, ...]:
    """The count now and each change of it, by the step from which it holds; `load` is the pool's quantile, shape (T,).

    Minimises node-hours, load above what the nodes are meant to carry and bytes moved, at the policy's costs. There are never
    fewer nodes than the policy, full replicas or limits of resources demand. The look-ahead is at least twice the time that
    moving takes: a shorter horizon is taken to go on at its last load, and the reason says so. A growth's `start_by` is when
    new nodes must be started, margin included; a shrinkage's when it begins. A change that is complete after the last step
    is given at the last step, unless one is there. Empty without steps or without an accepting node. Time as `cheapest_path`.
    """
    prices = _prices(cluster)
    if not cluster.steps or prices.usable <= 0:
        return ()
    low, why = _fewest(cluster)
    low = min(low, cluster.policy.max_nodes)
    start = min(max(cluster.accepting, low), cluster.policy.max_nodes)
    high = min(cluster.policy.max_nodes, max(start, _needed(float(load.max()), prices.usable * prices.while_moving)))
    edges, note = _look_ahead(cluster, load, start, low, high, prices)
    extended = np.append(load, np.full(edges.size - 1 - load.size, load[-1]))
    path = cheapest_path(edges, extended, start, low, high, prices)
    counts = {cluster.steps[0]: _first(cluster, load, path, start, prices, why, note)}
    for i, change in enumerate(path.changes):
        until = path.changes[i + 1].step if i + 1 < len(path.changes) else load.size
        step = cluster.steps[min(change.step, load.size - 1)]
        # What begins after the horizon, or ends there after another change, is for a later plan.
        if change.begin >= edges[load.size] or (i and step in counts):
            break
        reason = _reason(cluster, load, change, until, prices, why)
        begin = min(step, _start_by(cluster, change))
        reason += "; to begin at once" if begin < cluster.steps[0] else ""
        reason += note if step == cluster.steps[0] else ""
        counts[step] = NodeCount(step, change.after, begin, reason)
    return tuple(counts.values())


def _needed(load: float, usable: float) -> int:
    return max(1, int(np.ceil(load / usable * (1 - 1e-12))))


def _prices(cluster: Cluster) -> Prices:
    nodes, policy, held = cluster.nodes, cluster.policy, cluster.held
    usable = (nodes.capacity * nodes.target)[nodes.accepts]
    live = (held.kind > NONE) & nodes.live[held.node]
    volume = float(np.where(live, np.take_along_axis(cluster.shards.size, held.kind.astype(np.int64), axis=1), 0).sum())
    return Prices(
        usable=float(usable.mean()) if usable.size else 0.0,
        while_moving=policy.capacity_while_moving,
        pair_seconds=volume / policy.copy_bytes_per_second,
        start_seconds=policy.node_start_seconds,
        verify_seconds=policy.verify_seconds,
        node_second=policy.node_hour_cost / 3600.0,
        overload_second=policy.overload_cost / 3600.0,
        all_bytes=volume * policy.gigabyte_cost / 1e9,
    )


def _fewest(cluster: Cluster) -> tuple[int, str]:
    """The fewest nodes that there may be, and what demands them."""
    nodes, shards, held = cluster.nodes, cluster.shards, cluster.held
    replicas = max(cluster.policy.min_full_replicas, int(shards.least.max(initial=1))) if shards.ids.size else 1
    demands = [
        (cluster.policy.min_nodes, f"the policy demands {cluster.policy.min_nodes}"),
        (replicas, f"{replicas} full replicas of each shard need as many"),
    ]
    hot = np.divide(shards.size[:, HOT], shards.size[:, FULL], out=np.ones(len(shards.size)), where=shards.size[:, FULL] > 0)
    live = (held.kind > NONE) & nodes.live[held.node]
    parts = (np.where(held.kind == FULL, 1.0, hot[:, None]) * live).sum(axis=1)
    for resource, name in enumerate(cluster.costs.names):
        limit = float(nodes.limit[nodes.accepts, resource].mean())
        if np.isfinite(limit) and limit > 0:
            count = _needed(float((parts * shards.need[:, resource]).sum()), limit)
            demands.append((count, f"the {name} of all replicas needs {count}"))
    return max(demands, key=lambda demand: demand[0])


def _edges(cluster: Cluster) -> Floats:
    """Where steps begin and end, in seconds from the first, shape (T + 1,); the last is as long as the one before it."""
    begins = np.array([(step - cluster.steps[0]).total_seconds() for step in cluster.steps])
    last = begins[-1] - begins[-2] if begins.size > 1 else _ONLY_STEP_SECONDS
    return np.append(begins, begins[-1] + last)


def _look_ahead(cluster: Cluster, load: Floats, start: int, low: int, high: int, prices: Prices) -> tuple[Floats, str]:
    """The edges of the steps, with one more step where they end before twice the time that moving takes, and a note on it."""
    edges = _edges(cluster)
    peak = min(high, max(low, _needed(float(load.max()), prices.usable)))
    moving = change_seconds(prices, start, peak if peak != start else start + 1)
    if edges[-1] >= 2 * moving:
        return edges, ""
    note = (
        f"; the horizon of {_minutes(edges[-1])} is shorter than twice the {_minutes(moving)} that moving takes, "
        "so its last load is taken to go on"
    )
    return np.append(edges, 2 * moving), note


def _first(cluster: Cluster, load: Floats, path: Path, start: int, prices: Prices, why: str, note: str) -> NodeCount:
    """The count at the first step: that now, unless the pool must not have so few or so many."""
    if start > cluster.accepting:
        reason = f"there are {cluster.accepting} nodes, but {why}"
    elif start < cluster.accepting:
        reason = f"there are {cluster.accepting} nodes, but the policy allows {start}"
    elif path.changes:
        reason = f"the nodes there are, {_demand(cluster, load, 0, path.changes[0].step, prices)}"
    else:
        peak = _demand(cluster, load, 0, load.size, prices)
        reason = f"{peak}{_difference(cluster, load, start, 0, load.size, prices, why)}: no change"
    capacity = cluster.nodes.capacity[cluster.nodes.accepts]
    if capacity.min() < capacity.max():
        reason += f"; counted in nodes of the mean capacity of {capacity.mean():.4g}/s"
    return NodeCount(cluster.steps[0], start, None if start == cluster.accepting else cluster.steps[0], reason + note)


def _reason(cluster: Cluster, load: Floats, change: Change, until: int, prices: Prices, why: str) -> str:
    """Why the count changes; it is in force from its step until another."""
    begin = min(change.step, load.size - 1)
    until = max(begin + 1, until)
    peak = _demand(cluster, load, begin, until, prices)
    difference = _difference(cluster, load, change.after, begin, until, prices, why)
    moving = _minutes(change_seconds(prices, change.before, change.after))
    return f"{peak}{difference}; moving takes {moving}"


def _demand(cluster: Cluster, load: Floats, begin: int, until: int, prices: Prices) -> str:
    peak = begin + int(load[begin:until].argmax())
    count = _needed(float(load[peak]), prices.usable)
    accepts = cluster.nodes.accepts
    target = prices.usable / float(cluster.nodes.capacity[accepts].mean())
    return f"load {load[peak]:.4g}/s at {cluster.step_label(peak)} needs {count} node{'s' * (count > 1)} at {target:.2f}"


def _difference(cluster: Cluster, load: Floats, count: int, begin: int, until: int, prices: Prices, why: str) -> str:
    """Why the count is not what the highest load of some steps needs."""
    needed = _needed(float(load[begin:until].max()), prices.usable)
    if count < needed:
        allowed = count == cluster.policy.max_nodes
        return f", but {count} are allowed" if allowed else f", but {count} and the load above their target cost less"
    if count > needed:
        demanded = count == _fewest(cluster)[0]
        return (
            f", but {why}"
            if demanded
            else f", but going below {count} does not pay for moving the data or leaves no room for noise"
        )
    return ""


def _start_by(cluster: Cluster, change: Change) -> datetime:
    margin = min(cluster.policy.margin_seconds, _LONGEST) if change.after > change.before else 0.0
    return cluster.steps[0] + timedelta(seconds=change.begin - margin)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
