"""Conflicts that counting shows, whatever the size of the problem."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from foreshard.placement.cluster import Bools, Cluster, Ints
from foreshard.placement.demands import (
    Demand,
    amount,
    may_hold,
    members,
    named,
    near,
    node_names,
    permit_rows,
    pins,
    shard_names,
    zones_of,
)

_ROWS = 200  # sets of nodes whose limits are summed: the narrowest, and all nodes


class Found(NamedTuple):
    demands: tuple[Demand, ...]
    remedy: str


def known_conflicts(cluster: Cluster) -> list[Found]:
    """Each with demands of which none is dispensable. A shard that cannot be placed by itself takes no part in larger ones.

    Time O(S × (R + P) + P × N × R + pins + members of groups).
    """
    found = [*_pins(cluster), *_numbers(cluster)]
    found += _too_large(cluster, _replicas_free(cluster, found))
    found += _limits(cluster, _replicas_free(cluster, found))
    free = _replicas_free(cluster, found)
    for group in range(len(cluster.groups.ids)):
        found += [*_distinct(cluster, group, free), *_zones(cluster, group), *_near(cluster, group, free)]
    return found


def _replicas_free(cluster: Cluster, found: list[Found]) -> Bools:
    """Shards whose replicas no conflict names yet, (S,)."""
    free = np.ones(len(cluster.shards.ids), dtype=np.bool_)
    for conflict in found:
        for demand in conflict.demands:
            if demand.kind == "replicas":
                free[list(demand.shards)] = False
    return free


def _pins(cluster: Cluster) -> Iterator[Found]:
    shards, nodes = cluster.shards, cluster.nodes
    for s in np.flatnonzero(np.diff(shards.pin_start)).tolist():
        good = []
        for n in pins(cluster, s):
            pin, who = Demand("pin", (s,), (n,)), shard_names(cluster, [s])
            if shards.permit[s] >= 0 and not cluster.allowed[shards.permit[s], n]:
                yield Found((pin,), f"let {who} be on node {nodes.ids[n]}, or pin it to another node")
            elif not nodes.accepts[n]:
                instead = "make it active" if nodes.live[n] else "bring it back"
                yield Found((pin, Demand("state", nodes=(n,))), f"pin {who} to another node than {nodes.ids[n]}, or {instead}")
            else:
                good.append(pin)
        most = int(shards.most[s])
        if len(good) > most:
            remedy = f"allow {shard_names(cluster, [s])} {len(good)} replicas, or drop {len(good) - most} of its pins"
            yield Found((*good[: most + 1], Demand("most", (s,))), remedy)


def _numbers(cluster: Cluster) -> Iterator[Found]:
    """Least replicas against the nodes that may hold a shard, and against the most that it may have."""
    shards = cluster.shards
    counts = np.append((cluster.allowed & cluster.nodes.accepts).sum(axis=1), cluster.accepting)[permit_rows(cluster)]
    least = np.where(shards.parent >= 0, np.maximum(shards.least, 1), shards.least)
    for s in np.flatnonzero(least > counts).tolist():
        lacking = int(least[s] - counts[s])
        more = f"let {shard_names(cluster, [s])} be on {lacking} more node{'s' if lacking > 1 else ''}"
        fewer = f", or set its min_replicas to {int(counts[s])}" if counts[s] else ""
        yield Found((Demand("replicas", (s,)),), more + fewer)
    for s in np.flatnonzero((least > shards.most) & (least <= counts)).tolist():
        remedy = f"set max_replicas of {shard_names(cluster, [s])} to {int(least[s])}"
        yield Found((Demand("replicas", (s,)), Demand("most", (s,))), remedy)


def _too_large(cluster: Cluster, free: Bools) -> Iterator[Found]:
    """Shards for which too few nodes have room at all, by each resource."""
    shards, limit = cluster.shards, cluster.nodes.limit
    rows = _rows(cluster)
    for r in range(limit.shape[1]):
        ordered = -np.sort(-np.where(rows, limit[:, r], -np.inf), axis=1)  # the largest limits of each row first
        least = np.maximum(shards.least, 1)
        room = ordered[permit_rows(cluster), np.minimum(least, limit.shape[0]) - 1]
        wanted = (shards.least > 0) & free & (shards.need[:, r] > room * (1 + 1e-9))
        for s in np.flatnonzero(wanted).tolist():
            free[s] = False
            small = np.flatnonzero(may_hold(cluster, s) & (limit[:, r] < shards.need[s, r])).tolist()
            best = max(small, key=lambda n: (limit[n, r], -n))
            need, name = amount(float(shards.need[s, r])), cluster.costs.names[r]
            remedy = f"raise {name} of node {cluster.nodes.ids[best]} from {amount(float(limit[best, r]))} to {need}"
            yield Found((Demand("replicas", (s,)), Demand("limit", nodes=tuple(small), resource=r)), remedy)


def _rows(cluster: Cluster) -> Bools:
    """Accepting nodes by row of `permit_rows`, (P + 1, N)."""
    rows: Bools = np.vstack([cluster.allowed, np.ones((1, len(cluster.nodes.ids)), dtype=np.bool_)]) & cluster.nodes.accepts
    return rows


def _limits(cluster: Cluster, free: Bools) -> Iterator[Found]:
    """Least full replicas of shards that may be on some nodes only, against the limits of these nodes in all."""
    shards, nodes = cluster.shards, cluster.nodes
    rows, row = _rows(cluster), permit_rows(cluster)
    for r in range(nodes.limit.shape[1]):
        taken = np.zeros(len(shards.ids), dtype=np.bool_)
        narrowest = np.argsort(rows.sum(axis=1), kind="stable")
        for chosen in rows[[*narrowest[:_ROWS], *narrowest[_ROWS:][-1:]]]:
            inside = ~(rows & ~chosen).any(axis=1)
            which = inside[row] & free & ~taken & (shards.need[:, r] * shards.least > 0)
            total = float((shards.need[which, r] * shards.least[which]).sum())
            room = float(nodes.limit[chosen, r].sum())
            if not which.any() or total <= room * (1 + 1e-9):
                continue
            taken |= which
            on = tuple(np.flatnonzero(chosen).tolist())
            who = tuple(np.flatnonzero(which).tolist())
            lacking = amount(total - room)
            where = f"of {node_names(cluster, on)}" if len(on) <= 5 else "of these nodes"
            remedy = (
                f"raise {cluster.costs.names[r]} {where} by {lacking} in all, or add a node with {lacking} that may hold them"
            )
            yield Found((Demand("replicas", who), Demand("limit", nodes=on, resource=r)), remedy)


def _reach(cluster: Cluster, shards: list[int]) -> Bools:
    reach = np.zeros(len(cluster.nodes.ids), dtype=np.bool_)
    for s in shards:
        reach |= may_hold(cluster, s)
    return reach


def _needed(cluster: Cluster, group: int, free: Bools) -> tuple[list[int], Ints]:
    """Members that must have replicas, and how many."""
    shards = cluster.shards
    least = np.where(shards.parent >= 0, np.maximum(shards.least, 1), shards.least)
    who = [s for s in members(cluster, group) if least[s] > 0 and free[s]]
    return who, least[who]


def _distinct(cluster: Cluster, group: int, free: Bools) -> Iterator[Found]:
    """More least replicas of a group than nodes that may hold them."""
    if not cluster.groups.distinct[group]:
        return
    who, least = _needed(cluster, group, free)
    lacking = int(least.sum()) - int(_reach(cluster, who).sum())
    if lacking > 0:
        nodes = f"{lacking} node{'s' if lacking > 1 else ''}"
        remedy = f"add {nodes} that may hold group {cluster.groups.ids[group]}, or take shards out of it"
        yield Found((Demand("distinct", group=group), Demand("replicas", tuple(who))), remedy)


def _zones(cluster: Cluster, group: int) -> Iterator[Found]:
    """More zones than the group's shards can reach."""
    wanted, reached = int(cluster.groups.min_zones[group]), len(zones_of(cluster, group))
    if wanted > reached and members(cluster, group):
        nodes = "a node in another zone" if wanted == reached + 1 else f"nodes in {wanted - reached} other zones"
        remedy = f"add {nodes}" + (f" or set min_zones to {reached}" if reached else "")
        yield Found((Demand("zones", group=group),), remedy)


def _near(cluster: Cluster, group: int, free: Bools) -> Iterator[Found]:
    """A shard that must be somewhere, and nowhere the groups that it must be near can be."""
    place = cluster.nodes.neighbourhood
    who, _ = _needed(cluster, group, free)
    for other in near(cluster, group):
        there = np.unique(place[_reach(cluster, members(cluster, other))])
        for s in who:
            here = np.unique(place[may_hold(cluster, s)])
            if not np.intersect1d(here, there).size:
                names = cluster.groups.ids
                remedy = (
                    f"let {named('group', [names[other]])} be on a node near those that may hold {shard_names(cluster, [s])}"
                )
                yield Found((Demand("replicas", (s,)), Demand("near", group=group, other=other)), remedy)
                break
