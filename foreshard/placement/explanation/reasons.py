"""Why each move: the goal it serves and what it gains, in one sentence with numbers and times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from foreshard.model import Goal, MoveKind
from foreshard.placement.cluster import FULL, Cluster, Floats, Ints
from foreshard.placement.counting import mean_capacity
from foreshard.placement.explanation.standing import Standing
from foreshard.placement.explanation.wording import figure, number
from foreshard.placement.movement import GOALS, KINDS, Moves

_TOLERANCE = 1e-9


def reasons(cluster: Cluster, moves: Moves, before: Floats, ceiling: Floats | None = None) -> tuple[str, ...]:
    """One sentence per move. `before`: load quantile over capacity of each node in the layout at hand, shape (N, T).

    `ceiling`: load above which nodes are relieved, shape (N, T), the cluster's own unless given. Time O(M × K + S × K).
    """
    said = Reasons(cluster, moves, before, ceiling)
    return tuple(said.of(i) for i in range(len(moves.shard)))


def reason(cluster: Cluster, moves: Moves, i: int, before: Floats, ceiling: Floats | None = None) -> str:
    """The sentence for one move; for many, `reasons` does the common work once."""
    return Reasons(cluster, moves, before, ceiling).of(i)


class Reasons:
    """What the sentences have in common, worked out once."""

    def __init__(self, cluster: Cluster, moves: Moves, before: Floats, ceiling: Floats | None = None) -> None:
        self.cluster, self.moves, self.before = cluster, moves, before
        self.standing = Standing(cluster, cluster.held)
        self.limit = (self.standing.ceiling if ceiling is None else ceiling) / cluster.nodes.capacity[:, None]
        self.names, self.ids = cluster.nodes.ids, cluster.shards.ids.tolist()

    def of(self, i: int) -> str:
        return _GOALS[GOALS[self.moves.goal[i]]](self, i)

    @cached_property
    def full(self) -> Ints:
        """Full replicas of each shard on live nodes, shape (S,)."""
        held, nodes = self.cluster.held, self.cluster.nodes
        live = (held.node >= 0) & nodes.live[np.maximum(held.node, 0)]
        counted: Ints = (live & (held.kind == FULL)).sum(axis=1)
        return counted

    @cached_property
    def replicas(self) -> Ints:
        """Replicas of each shard on live nodes after the plan, shape (S,)."""
        held, nodes, moves = self.cluster.held, self.cluster.nodes, self.moves
        counted: Ints = ((held.node >= 0) & nodes.live[np.maximum(held.node, 0)]).sum(axis=1).astype(np.int64)
        kinds = np.array([kind.value for kind in KINDS])[moves.kind]
        np.add.at(counted, moves.shard[kinds == MoveKind.REPLICATE], 1)
        left = (kinds == MoveKind.DROP) & nodes.live[np.maximum(moves.source, 0)]
        np.subtract.at(counted, moves.shard[left], 1)
        # A move away from a dead node makes a replica that was not counted.
        revived = (kinds == MoveKind.MOVE) & ~nodes.live[np.maximum(moves.source, 0)]
        np.add.at(counted, moves.shard[revived], 1)
        return counted

    @cached_property
    def peak(self) -> tuple[Ints, Floats]:
        """The step of each shard's highest mean load, and that load, shape (S,)."""
        mean = self.cluster.shards.mean
        step: Ints = mean.argmax(axis=1)
        return step, np.take_along_axis(mean, step[:, None], axis=1)[:, 0]

    @cached_property
    def mean_capacity(self) -> float:
        """Of the accepting nodes, or of all if there is none."""
        return mean_capacity(self.cluster) or float(self.cluster.nodes.capacity.mean())

    @cached_property
    def worst(self) -> Ints:
        """The step at which each node is furthest above its bound, shape (N,)."""
        ratio = np.divide(self.before, self.limit, out=np.zeros_like(self.before), where=self.limit > 0)
        steps: Ints = ratio.argmax(axis=1)
        return steps

    def kind(self, i: int) -> MoveKind:
        return KINDS[self.moves.kind[i]]

    def shard(self, i: int) -> int:
        return int(self.ids[self.moves.shard[i]])

    def step(self, i: int, node: int) -> int:
        step = int(self.moves.step[i])
        return step if step >= 0 else int(self.worst[node])

    def carried(self, row: int, node: int, step: int) -> float:
        """The mean load of a shard on a node at a step, as things are."""
        own = self.cluster.held.node[row] == node
        return float(self.standing.share[row][own].sum() * self.cluster.shards.mean[row, step])


def _repair(said: Reasons, i: int) -> str:
    row, source, target = int(said.moves.shard[i]), int(said.moves.source[i]), int(said.moves.target[i])
    shards, nodes = said.cluster.shards, said.cluster.nodes
    kind = said.kind(i)
    if source >= 0 and not nodes.live[source] and kind is MoveKind.DROP:
        return f"node {said.names[source]} is dead or gone: what it held counts no more"
    if target >= 0 and target in shards.pins[shards.pin_start[row] : shards.pin_start[row + 1]]:
        return f"shard {said.shard(i)} is pinned to node {said.names[target]}"
    if said.full[row] < shards.least[row]:
        has = number(int(said.full[row]), "full replica") if said.full[row] else "no full replica"
        return f"shard {said.shard(i)} has {has} on live nodes, the minimum is {shards.least[row]}"
    if source >= 0:
        return _broken(said, row, source)
    return f"shard {said.shard(i)} needs a replica on node {said.names[target]} for {_group(said, row)}"


def _broken(said: Reasons, row: int, source: int) -> str:
    """Which hard constraint a replica at hand breaks on its node."""
    cluster, name = said.cluster, said.names[source]
    permit, shard = int(cluster.shards.permit[row]), said.ids[row]
    if permit >= 0 and not cluster.allowed[permit, source]:
        return f"shard {shard} avoids node {name}"
    use, limit = said.standing.use[source], cluster.nodes.limit[source]
    over = np.flatnonzero((use > limit * (1.0 + _TOLERANCE)) & (cluster.shards.need[row] > 0))
    if over.size:
        r = int(over[(use[over] - limit[over]).argmax()])
        needs = figure(float(cluster.shards.need[row, r]))
        over_by = f"{figure(use[r])} of {cluster.costs.names[r]} in use, its limit is {figure(limit[r])}"
        return f"node {name} has {over_by}; shard {shard} takes {needs} of it"
    return f"shard {shard} on node {name} breaks {_group(said, row)}"


def _group(said: Reasons, row: int) -> str:
    group = int(said.cluster.shards.group[row])
    if group < 0:
        return "a constraint together with other shards"
    groups = said.cluster.groups
    demands = ["distinct nodes"] if groups.distinct[group] else []
    demands += [number(int(groups.min_zones[group]), "zone")] if groups.min_zones[group] > 1 else []
    near = groups.near[groups.near_start[group] : groups.near_start[group + 1]]
    demands += [f"being near group {groups.ids[h]}" for h in near]
    return f"what group {groups.ids[group]} demands ({', '.join(demands) or 'no further constraint'})"


def _drain(said: Reasons, i: int) -> str:
    source = int(said.moves.source[i])
    if source < 0:
        return f"shard {said.shard(i)} needs another full replica before a draining node gives up its own"
    state = "is draining" if said.cluster.nodes.live[source] else "is dead or gone"
    if said.kind(i) is MoveKind.DROP:
        return f"node {said.names[source]} {state}, and shard {said.shard(i)} has replicas enough elsewhere"
    step = said.step(i, source)
    load = said.carried(int(said.moves.shard[i]), source, step)
    carries = f"; shard {said.shard(i)} carries {figure(load)}/s there at {said.cluster.step_label(step)}" if load > 0 else ""
    return f"node {said.names[source]} {state}{carries}"


def _replicate(said: Reasons, i: int) -> str:
    row = int(said.moves.shard[i])
    steps, peaks = said.peak
    load, at = float(peaks[row]), said.cluster.step_label(int(steps[row]))
    parent = int(said.cluster.shards.parent[row])
    if parent >= 0 and said.replicas[row] <= 1:
        return f"shard {said.shard(i)} is one entity of slot {said.ids[parent]} by itself and needs a replica of its own"
    wanted = number(int(said.replicas[row]), "replica")
    part, above = load / said.mean_capacity, f"above {said.cluster.policy.hot_share:.2g}"
    return f"shard {said.shard(i)} predicted at {figure(load)}/s at {at}, {part:.2g} of a mean node; {above} it gets {wanted}"


def _fill(said: Reasons, i: int) -> str:
    target = int(said.moves.target[i])
    joined = "joined" if said.cluster.nodes.joining[target] else "holds nothing"
    upto = f"up to {said.cluster.policy.floor_load:.2f} of its fair share"
    brings = f"; shard {said.shard(i)} brings {_gain(said, i)}" if _gain(said, i) else ""
    return f"node {said.names[target]} {joined}: it takes shards that rank it first, {upto}{brings}"


def _balance(said: Reasons, i: int) -> str:
    row, source = int(said.moves.shard[i]), int(said.moves.source[i])
    if source < 0:
        source = _busiest(said, row)
        if source < 0:
            return f"shard {said.shard(i)} has no live replica to answer its load"
    step = said.step(i, source)
    used, bound = said.before[source, step], said.limit[source, step]
    at = said.cluster.step_label(step)
    carries = f"shard {said.shard(i)} carries {figure(said.carried(row, source, step))}/s of it"
    gain = float(said.moves.gain[i])
    takes = f", {figure(gain)}/s of what is above the bound" if gain > 0 else ""
    if used > bound * (1.0 + _TOLERANCE):
        return f"node {said.names[source]} predicted at {used:.2f} of capacity at {at}, bound {bound:.2f}; {carries}{takes}"
    passes = "below the bound, but above it with what this plan brings"
    return f"node {said.names[source]} predicted at {used:.2f} of capacity at {at}, {passes} ({bound:.2f}); {carries}{takes}"


def _busiest(said: Reasons, row: int) -> int:
    """Of the nodes that hold a shard, the one that is furthest above its bound."""
    held = [int(n) for n in said.cluster.held.node[row] if n >= 0 and said.cluster.nodes.live[n]]
    return max(held, key=lambda n: float(said.before[n, said.worst[n]] - said.limit[n, said.worst[n]]), default=-1)


def _cost(said: Reasons, i: int) -> str:
    source = int(said.moves.source[i])
    gain = float(said.moves.gain[i])
    saves = f"; the move saves {figure(gain)}" if gain > 0 else ""
    if source < 0:
        return f"cost: soft limits and balances between resources, for all moves of this kind together{saves}"
    cluster, name = said.cluster, said.names[source]
    use, soft = said.standing.use[source], cluster.nodes.soft[source]
    over = np.where(np.isfinite(soft), np.maximum(0.0, use - soft), 0.0) * cluster.costs.soft
    if over.size and over.max() > 0:
        r = int(over.argmax())
        meant = f"{figure(use[r])} in use, {figure(soft[r])} meant"
        return f"cost: soft limit of {cluster.costs.names[r]} on node {name} ({meant}){saves}"
    other = f"room for what other nodes hold beyond their soft limits or out of balance, taken from node {name}"
    return f"cost: {_imbalance(said, source) or other}{saves}"


def _imbalance(said: Reasons, node: int) -> str:
    """The balance between two resources that costs most on a node; empty if none does."""
    costs, limit = said.cluster.costs, said.cluster.nodes.limit[node]
    free = np.where(np.isfinite(limit), limit - said.standing.use[node], np.inf)
    worst, which = 0.0, -1
    for b in range(len(costs.balance)):
        first, second = free[costs.balance_first[b]], free[costs.balance_second[b]]
        if np.isfinite(first) and np.isfinite(second):
            cost = costs.balance[b] * max(0.0, costs.balance_target[b] * first - second)
            worst, which = (cost, b) if cost > worst else (worst, which)
    if which < 0:
        return ""
    first, second = int(costs.balance_first[which]), int(costs.balance_second[which])
    left = f"{figure(free[first])} of {costs.names[first]} and {figure(free[second])} of {costs.names[second]} free"
    return f"balance between {costs.names[first]} and {costs.names[second]} on node {said.names[node]} ({left})"


def _consolidate(said: Reasons, i: int) -> str:
    row = int(said.moves.shard[i])
    steps, peaks = said.peak
    load, policy = float(peaks[row]), said.cluster.policy
    at = said.cluster.step_label(int(steps[row]))
    cold = policy.hot_share * policy.cold_factor
    enough = f"{number(int(said.replicas[row]), 'replica')} {'is' if said.replicas[row] == 1 else 'are'} enough"
    part = f"{load / said.mean_capacity:.2g} of a mean node"
    further = f"below {cold:.2g} for each further one {enough}"
    return f"shard {said.shard(i)} predicted at {figure(load)}/s at most ({at}), {part}; {further}"


def _gain(said: Reasons, i: int) -> str:
    row, step = int(said.moves.shard[i]), int(said.moves.step[i])
    gain = float(said.moves.gain[i])
    load = float(said.peak[1][row]) if step < 0 else float(said.cluster.shards.mean[row, step])
    if gain > 0:
        return f"{figure(gain)}/s"
    return f"a share of its {figure(load)}/s" if load > 0 else ""


_GOALS: dict[Goal, Callable[[Reasons, int], str]] = {
    Goal.REPAIR: _repair,
    Goal.DRAIN: _drain,
    Goal.REPLICATE: _replicate,
    Goal.FILL: _fill,
    Goal.BALANCE: _balance,
    Goal.COST: _cost,
    Goal.CONSOLIDATE: _consolidate,
}
