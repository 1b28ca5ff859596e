"""What stands against one replica of a shard being on another node: hard constraints and the node's ceiling.

Written from the meaning of the constraints, apart from the solver, and for one replica at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from foreshard.placement.cluster import FULL, HOT, Bools, Floats
from foreshard.placement.explanation.remedy import Remedy
from foreshard.placement.explanation.standing import Standing
from foreshard.placement.explanation.wording import figure, listed, number, percent, rounded_up
from foreshard.placement.loads import pool_quantile

# Room for rounding: an excess below this part of a limit is none.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A constraint that binds, in words, and what would lift it: all of `remedies` together."""

    constraint: str  # state, avoids, pins, limit, distinct, zones, near, ceiling, replicas or budget
    sentence: str
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True)
class Try:
    """A replica at `place` of a shard's row (-1: one more replica) put on node `target`, in the layout of `standing`."""

    standing: Standing
    row: int
    place: int
    target: int

    @property
    def shard(self) -> int:
        return int(self.standing.cluster.shards.ids[self.row])

    @property
    def node(self) -> str:
        return self.standing.cluster.nodes.ids[self.target]

    @property
    def source(self) -> int:
        return -1 if self.place < 0 else int(self.standing.held.node[self.row, self.place])

    @property
    def kind(self) -> int:
        """HOT or FULL: what the target would hold. A replica beyond those there are is full while these are too few."""
        standing, cluster = self.standing, self.standing.cluster
        if self.place >= 0:
            return int(standing.held.kind[self.row, self.place])
        full = sum(standing.held.kind[self.row, k] == FULL for k in standing.places(self.row))
        return FULL if full < cluster.shards.least[self.row] else int(cluster.extra_kind()[self.row])

    @property
    def share(self) -> float:
        """Of the shard's load that would come along; of one more replica as much as of each other."""
        if self.place >= 0:
            return float(self.standing.share[self.row, self.place])
        return 1.0 / (len(self.standing.places(self.row)) + 1)

    @property
    def bytes(self) -> int:
        return int(self.standing.cluster.shards.size[self.row, self.kind])


def obstacles(tried: Try) -> list[Obstacle]:
    """All constraints that bind, the firmest first; empty if nothing stands against it. Time O(S × K + T × F)."""
    nodes = tried.standing.cluster.nodes
    if not nodes.accepts[tried.target]:
        return [_state(tried)]
    return [o for check in _CHECKS for o in check(tried)]


def _state(tried: Try) -> Obstacle:
    state = "draining: it takes nothing and is to end empty" if tried.standing.cluster.nodes.live[tried.target] else "dead"
    remedy = Remedy("state", tried.node, 0.0, sentence=f"{tried.node} were active")
    return Obstacle("state", f"{tried.node} is {state}", (remedy,))


def _avoids(tried: Try) -> Iterator[Obstacle]:
    cluster = tried.standing.cluster
    permit = int(cluster.shards.permit[tried.row])
    if permit >= 0 and not cluster.allowed[permit, tried.target]:
        remedy = Remedy("avoids", str(tried.shard), 0.0, tried.node, f"{tried.node} were not among the nodes that it avoids")
        yield Obstacle("avoids", f"shard {tried.shard} avoids {tried.node}", (remedy,))


def _pins(tried: Try) -> Iterator[Obstacle]:
    cluster = tried.standing.cluster
    shards = cluster.shards
    pins = shards.pins[shards.pin_start[tried.row] : shards.pin_start[tried.row + 1]]
    if tried.place >= 0 and tried.source in pins:
        name = cluster.nodes.ids[tried.source]
        remedy = Remedy("pins", str(tried.shard), 0.0, name, f"it were not pinned to {name}")
        yield Obstacle("pins", f"its replica on {name} is pinned there", (remedy,))


def _replicas(tried: Try) -> Iterator[Obstacle]:
    most = int(tried.standing.cluster.shards.most[tried.row])
    have = len(tried.standing.places(tried.row))
    if tried.place < 0 and have >= most:
        remedy = Remedy("max_replicas", str(tried.shard), have + 1, sentence=f"it might have {have + 1} replicas")
        yield Obstacle("replicas", f"shard {tried.shard} has {number(have, 'replica')} and may have {most}", (remedy,))


def _limits(tried: Try) -> Iterator[Obstacle]:
    standing, cluster = tried.standing, tried.standing.cluster
    size = cluster.shards.size[tried.row]
    part = 1.0 if tried.kind == FULL or size[FULL] <= 0 else min(1.0, size[HOT] / size[FULL])
    need, limit, use = part * cluster.shards.need[tried.row], cluster.nodes.limit[tried.target], standing.use[tried.target]
    for r, name in enumerate(cluster.costs.names):
        after = use[r] + need[r]
        if need[r] > 0 and after > limit[r] * (1.0 + _TOLERANCE):
            enough = rounded_up(float(after), 6)
            sentence = (
                f"{name} of {tried.node}: {figure(use[r])} of {figure(limit[r])} is in use and the shard needs "
                f"{figure(need[r])}, {figure(rounded_up(float(after - limit[r])))} more than there is"
            )
            more = figure(rounded_up(enough - float(limit[r]), 4))
            remedy = Remedy("limit", tried.node, enough, name, f"{name} of {tried.node} rose by {more} to {figure(enough)}")
            yield Obstacle("limit", sentence, (remedy,))


def _distinct(tried: Try) -> Iterator[Obstacle]:
    standing, cluster = tried.standing, tried.standing.cluster
    group = int(cluster.shards.group[tried.row])
    if group < 0 or not cluster.groups.distinct[group]:
        return
    rows = standing.of_group(group)
    rows[tried.row] = False
    there = np.flatnonzero(rows & (standing.held.node == tried.target).any(axis=1))
    if there.size:
        name = cluster.groups.ids[group]
        others = listed([str(i) for i in cluster.shards.ids[there]])
        sentence = (
            f"group {name} is on distinct nodes, and {tried.node} has {'shard' if there.size == 1 else 'shards'} {others}"
        )
        remedy = Remedy("distinct_nodes", name, 0.0, sentence=f"shard {others} left {tried.node} or {name} could share nodes")
        yield Obstacle("distinct", f"{sentence} of it", (remedy,))


def _zones(tried: Try) -> Iterator[Obstacle]:
    standing, cluster = tried.standing, tried.standing.cluster
    group = int(cluster.shards.group[tried.row])
    if group < 0 or tried.place < 0:
        return
    zone = cluster.nodes.zone
    before = set(zone[standing.group_nodes(group)].tolist())
    kept = set(zone[standing.group_nodes(group, (tried.row, tried.place))].tolist())
    after, wanted = len(kept | {int(zone[tried.target])}), int(cluster.groups.min_zones[group])
    if after < min(wanted, len(before)):
        name = cluster.groups.ids[group]
        left = cluster.nodes.zone_names[int(zone[tried.source])] or cluster.nodes.ids[tried.source]
        sentence = f"group {name} must be in {number(wanted, 'zone')}, and without the replica in {left} it would be in {after}"
        remedy = Remedy("min_zones", name, after, sentence=f"group {name} needed only {number(after, 'zone')}")
        yield Obstacle("zones", sentence, (remedy,))


def _near(tried: Try) -> Iterator[Obstacle]:
    """Where the group comes it needs the groups that it is near; where its last leaves, groups near it must not stay alone."""
    cluster = tried.standing.cluster
    group = int(cluster.shards.group[tried.row])
    if group < 0:
        return
    around = cluster.nodes.neighbourhood
    here = int(around[tried.target])
    kept = set(around[tried.standing.group_nodes(group, (tried.row, tried.place) if tried.place >= 0 else None)].tolist())
    after = kept | {here}
    for asks, wants in _near_pairs(tried.standing):
        if group not in (asks, wants):
            continue
        asking = after if asks == group else _around(tried.standing, asks)
        wanted = after if wants == group else _around(tried.standing, wants)
        before = _around(tried.standing, asks) - _around(tried.standing, wants)
        if (asking - wanted) - before:
            yield _apart(tried, asks, wants, came=asks == group)


def _near_pairs(standing: Standing) -> Iterator[tuple[int, int]]:
    groups = standing.cluster.groups
    for asks in range(len(groups.ids)):
        for wants in groups.near[groups.near_start[asks] : groups.near_start[asks + 1]]:
            yield asks, int(wants)


def _around(standing: Standing, group: int) -> set[int]:
    return set(standing.cluster.nodes.neighbourhood[standing.group_nodes(group)].tolist())


def _apart(tried: Try, asks: int, wants: int, came: bool) -> Obstacle:
    ids, nodes = tried.standing.cluster.groups.ids, tried.standing.cluster.nodes.ids
    where = tried.node if came else nodes[tried.source]
    why = f"group {ids[asks]} must be near group {ids[wants]}, and none of that would be in the neighbourhood of {where}"
    remedy = Remedy("near", ids[asks], 0.0, ids[wants], f"group {ids[asks]} need not be near {ids[wants]}")
    return Obstacle("near", why, (remedy,))


def _ceiling(tried: Try) -> Iterator[Obstacle]:
    standing = tried.standing
    load = standing.load_with(tried.target, tried.row, tried.share)
    limit = standing.ceiling[tried.target]
    above = (load > limit * (1.0 + _TOLERANCE)) & (load > standing.load[tried.target])
    if not above.any():
        return
    ratio = np.divide(load, limit, out=np.full_like(load, np.inf), where=limit > 0)
    step = int(np.where(above, ratio, -1.0).argmax())
    at, limit_there = standing.cluster.step_label(step), float(limit[step])
    more = figure(float(load[step] - standing.load[tried.target, step]))
    excess = (
        f"{percent(float(ratio[step]) - 1.0)} above its bound of {figure(limit_there)}/s"
        if limit_there > 0
        else "its bound is 0"
    )
    sentence = f"{tried.node} would carry {figure(float(load[step]))}/s at {at} with the {more}/s of it, {excess}"
    yield Obstacle("ceiling", sentence, _higher_ceiling(tried, load, above))


def _higher_ceiling(tried: Try, load: Floats, above: Bools) -> tuple[Remedy, ...]:
    """Target and bounded load, each as far as it must rise."""
    standing, node = tried.standing, tried.target
    nodes, policy = standing.cluster.nodes, standing.cluster.policy
    fair = standing.fair[node]
    bounded = policy.bounded_load * fair
    remedies = []
    # A target counts only at steps at which the whole pool fits within its targets.
    fits = pool_quantile(standing.cluster) <= _room(tried)
    by_target = above & fits & (load > nodes.target[node] * nodes.capacity[node] * (1.0 + _TOLERANCE))
    if by_target.any():
        value, target = _least_target(tried, load, by_target), float(nodes.target[node])
        rise = percent(value / target - 1.0)
        said = f"the cap of {tried.node} rose by {rise} (its target from {target:.4g} to {value:.6g})"
        remedies.append(Remedy("target", tried.node, value, sentence=said))
    by_bound = above & (load > bounded * (1.0 + _TOLERANCE)) & (fair > 0)
    if by_bound.any():
        value = rounded_up(float((load[by_bound] / fair[by_bound]).max()))
        said = f"bounded_load rose from {policy.bounded_load:.4g} to {value:.6g}"
        remedies.append(Remedy("bounded_load", "", value, sentence=said))
    return tuple(remedies)


def _room(tried: Try) -> float:
    """What the pool carries with every node at its target."""
    nodes = tried.standing.cluster.nodes
    return float(np.where(nodes.accepts, nodes.target * nodes.capacity, 0.0).sum())


def _least_target(tried: Try, load: Floats, steps: Bools) -> float:
    """The target that makes room at these steps, and at those that the pool fits within its targets only with it."""
    cluster, node = tried.standing.cluster, tried.target
    nodes, pool = cluster.nodes, pool_quantile(cluster)
    room = _room(tried)
    wanted = load / nodes.capacity[node]
    value = rounded_up(float(wanted[steps].max()))
    while True:
        fitting = (pool > room) & (pool <= room + (value - nodes.target[node]) * nodes.capacity[node])
        more = rounded_up(float(wanted[fitting].max(initial=0.0)))
        if more <= value:
            return value
        value = more


_CHECKS: tuple[Callable[[Try], Iterator[Obstacle]], ...] = (
    _replicas,
    _pins,
    _avoids,
    _limits,
    _distinct,
    _zones,
    _near,
    _ceiling,
)
