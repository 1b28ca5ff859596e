"""Where shards are alike, the least movement to a balance is exact: counts per node, and a minimum-cost flow between nodes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ortools.graph.python import min_cost_flow

from foreshard.hashing import node_hashes
from foreshard.model import Goal, MoveKind
from foreshard.placement.alike_choice import choose
from foreshard.placement.cluster import FULL, Cluster, Floats, Ints
from foreshard.placement.movement import GOALS, KINDS, Moves

_SCALE = 1_000_000  # pair costs as whole numbers, to this part of the largest


class _Counts(NamedTuple):
    """Shards per node, (N,): held by nodes that accept shards, to leave, that may leave beyond these, lacking, and room."""

    held: Ints
    surplus: Ints
    spare: Ints
    lacks: Ints
    room: Ints


def are_alike(cluster: Cluster) -> bool:
    """Whether any shard may stand for any other: equal loads, sizes and needs, one live replica at most, free to be anywhere.

    Time O(S × T × F).
    """
    shards, held = cluster.shards, cluster.held
    if not len(shards.ids) or len(shards.pins) or len(cluster.costs.balance):
        return False
    alone = (shards.least == 1) & (shards.permit < 0) & (shards.group < 0) & (shards.parent < 0)
    live = (held.node >= 0) & cluster.nodes.live[held.node]
    if not alone.all() or live.sum(axis=1).max() > 1 or (held.kind[live] != FULL).any():
        return False
    same = (shards.mean, shards.own_square, shards.common, shards.size, shards.need, shards.move_cost)
    return all(bool((values == values[:1]).all()) for values in same)


def most_alike(cluster: Cluster, ceiling: Floats) -> Ints:
    """How many of the alike shards each node carries under its `ceiling`, (N, T), and its limits: shape (N,).

    The quantile of k shards is k × mean + z·√(k² Σ common² + k × own²), which grows with k: found by halving.
    Time O(N × T log S).
    """
    shards = cluster.shards
    highest = np.maximum(ceiling, 0.0) * (1 + 1e-12)
    low, high = np.zeros(len(ceiling), dtype=np.int64), np.full(len(ceiling), len(shards.ids), dtype=np.int64)
    while (low < high).any():
        middle = (low + high + 1) // 2
        fits = (_of_count(cluster, middle) <= highest).all(axis=1)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    need = shards.need[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        by_limit = np.where(need > 0, np.floor(cluster.nodes.limit / need * (1 + 1e-12)), np.inf).min(axis=1, initial=np.inf)
    counts: Ints = np.minimum(low, np.minimum(by_limit, len(shards.ids))).astype(np.int64)
    return counts


def _of_count(cluster: Cluster, count: Ints) -> Floats:
    shards, z = cluster.shards, cluster.policy.risk_z
    k = count[:, None].astype(np.float64)
    common = (shards.common[0] ** 2).sum(axis=1)
    quantiles: Floats = k * shards.mean[0] + z * np.sqrt(k * k * common + k * shards.own_square[0])
    return quantiles


def spread_alike(cluster: Cluster, most: Ints, least: Ints | None = None) -> Moves | None:
    """The fewest moves after which each accepting node has at most `most` shards and at least `least`, shapes (N,).

    Draining nodes end empty, and what only dead nodes hold is made anew. With pair costs the cheapest of the fewest moves, by
    minimum-cost flow (OR-Tools, cost scaling); without, nodes give and take in order, and of a node's shards those go that rank
    the target highest. None where shards are not alike or do not fit. Time O(S × T), and of the flow O(N² log N).
    """
    if not are_alike(cluster):
        return None
    least = np.zeros_like(most) if least is None else np.minimum(least, most)
    node = _live_node(cluster)
    lost = int((node < 0).sum())
    counts = _counts(cluster, node, most, least)
    leaving, lacking = int(counts.surplus.sum()) + lost, int(counts.lacks.sum())
    if leaving > counts.room.sum() or lacking > leaving + counts.spare.sum():
        return None
    flows = _flows(cluster, counts, lost)
    if flows is None:
        return None
    source, target, amount = flows
    shard, arc = choose(
        np.where(node < 0, len(most), node),
        cluster.shards.ids.astype(np.uint64),
        node_hashes(cluster.nodes.ids),
        cluster.nodes.capacity,
        source,
        target,
        amount,
    )
    return _moves(cluster, counts, shard, source[arc], target[arc])


def _live_node(cluster: Cluster) -> Ints:
    """The live node that holds each shard, -1 for none, shape (S,)."""
    held = cluster.held
    live = (held.node >= 0) & cluster.nodes.live[held.node]
    place = live.argmax(axis=1)
    node: Ints = np.where(live.any(axis=1), held.node[np.arange(len(held.node)), place], -1).astype(np.int64)
    return node


def _counts(cluster: Cluster, node: Ints, most: Ints, least: Ints) -> _Counts:
    accepts = cluster.nodes.accepts & cluster.nodes.live
    every = np.bincount(node[node >= 0], minlength=len(accepts)).astype(np.int64)
    held = np.where(accepts, every, 0)
    surplus = np.where(accepts, np.maximum(0, held - most), every)
    lacks = np.where(accepts, np.maximum(0, least - held), 0)
    spare = np.where(accepts, np.maximum(0, held - surplus - least), 0)
    return _Counts(held, surplus, spare, lacks, np.where(accepts, np.maximum(0, most - held), 0))


def _flows(cluster: Cluster, counts: _Counts, lost: int) -> tuple[Ints, Ints, Ints] | None:
    """Source, target and number of shards of each pair of nodes; the source of lost shards is N."""
    extra = max(0, int(counts.lacks.sum()) - int(counts.surplus.sum()) - lost)
    given = np.append(counts.surplus, lost)
    if cluster.costs.pair.size:
        return _cheapest(cluster, counts, given, extra)
    given[:-1] += _levelled(counts, extra)
    taken = counts.lacks + _levelled_room(counts, max(0, int(given.sum()) - int(counts.lacks.sum())))
    return _paired(given, taken)


def _levelled(counts: _Counts, extra: int) -> Ints:
    """How much each node gives beyond its surplus so that `extra` come together, the fullest first."""
    return _shared(counts.held - counts.surplus, counts.spare, extra)


def _levelled_room(counts: _Counts, rest: int) -> Ints:
    """How much each node takes beyond what it lacks, those with the most room first."""
    free = counts.room - counts.lacks
    return _shared(free, free, rest)


def _shared(height: Ints, available: Ints, wanted: int) -> Ints:
    """Parts of what is available that sum to the wanted and leave the highest as low as can be; earlier nodes give the rest."""
    low, high = 0, int(height.max(initial=0))
    while low < high:
        middle = (low + high) // 2
        if int(np.minimum(available, np.maximum(0, height - middle)).sum()) <= wanted:
            high = middle
        else:
            low = middle + 1
    parts = np.minimum(available, np.maximum(0, height - low))
    more = np.minimum(available, np.maximum(0, height - low + 1)) - parts
    rest = wanted - int(parts.sum())
    parts[np.flatnonzero(more)[:rest]] += 1
    return parts


def _paired(given: Ints, taken: Ints) -> tuple[Ints, Ints, Ints]:
    """Givers and takers in order: at most as many pairs as there are of both."""
    ends = np.union1d(np.cumsum(given), np.cumsum(taken))
    ends = ends[ends > 0]
    amount = np.diff(ends, prepend=0)
    source = np.searchsorted(np.cumsum(given), ends - amount, side="right")
    target = np.searchsorted(np.cumsum(taken), ends - amount, side="right")
    return source, target, amount


def _cheapest(cluster: Cluster, counts: _Counts, given: Ints, extra: int) -> tuple[Ints, Ints, Ints] | None:
    """By minimum-cost flow: from givers, and by way of those that may give more, to takers and those that may take more."""
    size = len(counts.held)
    pair = np.vstack([cluster.costs.pair, np.zeros((1, size))])
    unit = np.rint(pair * (_SCALE / max(float(np.abs(pair).max()), 1e-300))).astype(np.int64)
    may_give = given.copy()
    may_give[:-1] += counts.spare if extra else 0
    source, target = np.nonzero((may_give[:, None] > 0) & (counts.room[None] > 0))
    total = int(given.sum()) + extra
    more, sink = 2 * size + 1, 2 * size + 2  # takers follow the givers
    flow = min_cost_flow.SimpleMinCostFlow()
    between = flow.add_arcs_with_capacity_and_unit_cost(
        source, size + 1 + target, np.minimum(may_give[source], counts.room[target]), unit[source, target]
    )
    donors = np.flatnonzero(counts.spare) if extra else np.zeros(0, dtype=np.int64)
    for tail, head, capacity in (
        (np.full(len(donors), more), donors, counts.spare[donors]),
        (size + 1 + np.arange(size), np.full(size, sink), counts.room - counts.lacks),
    ):
        flow.add_arcs_with_capacity_and_unit_cost(tail, head, capacity, np.zeros(len(tail), dtype=np.int64))
    supply = np.concatenate([given, -counts.lacks, [extra, int(counts.lacks.sum()) - total]])
    flow.set_nodes_supplies(np.arange(len(supply)), supply)
    if flow.solve() != flow.OPTIMAL:
        return None
    amount = np.asarray(flow.flows(between), dtype=np.int64)
    return source[amount > 0], target[amount > 0], amount[amount > 0]


def _moves(cluster: Cluster, counts: _Counts, shard: Ints, source: Ints, target: Ints) -> Moves:
    """The copies, and drops of what dead nodes held."""
    made, size = source == len(counts.held), cluster.shards.size[0, FULL]
    gone, place = np.nonzero((cluster.held.node >= 0) & ~cluster.nodes.live[cluster.held.node])
    drops, copies = len(gone), len(shard)
    origin = np.where(made, 0, source)
    goal = np.select(
        [made, ~cluster.nodes.accepts[origin], counts.surplus[origin] > 0],
        [GOALS.index(Goal.REPAIR), GOALS.index(Goal.DRAIN), GOALS.index(Goal.BALANCE)],
        GOALS.index(Goal.FILL),
    )
    peak = int(cluster.shards.mean[0].argmax())
    gain = np.where(made, 1.0, float(cluster.shards.mean[0, peak]))
    kind = np.where(made, KINDS.index(MoveKind.REPLICATE), KINDS.index(MoveKind.MOVE))
    return Moves(
        kind=np.append(kind, np.full(drops, KINDS.index(MoveKind.DROP))).astype(np.int8),
        shard=np.append(shard, gone),
        source=np.append(np.where(made, -1, source), cluster.held.node[gone, place]).astype(np.int64),
        target=np.append(target, np.full(drops, -1)),
        holds=np.append(np.full(copies, FULL), cluster.held.kind[gone, place]).astype(np.int8),
        bytes=np.append(np.full(copies, size), np.zeros(drops, dtype=np.int64)),
        goal=np.append(goal, np.full(drops, GOALS.index(Goal.REPAIR))).astype(np.int8),
        gain=np.append(gain, np.zeros(drops)),
        step=np.append(np.where(goal == GOALS.index(Goal.BALANCE), peak, -1), np.full(drops, -1)).astype(np.int64),
    )
