"""The fewest bytes that any plan must move to attain a balance: what the plan's movement is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Floats, Holdings, Ints
from foreshard.placement.fill_bound import fill_cost
from foreshard.placement.loads import node_quantiles
from foreshard.placement.relief import locked, locked_loads, relief_costs, set_quantiles, unsteady
from foreshard.placement.repairing import Repair, least_repair

# Sets of nodes tried: those above these parts of their ceiling at hand.
_PARTS = (1.0, 0.9, 0.7, 0.0)
_SLACK = 1e-9


@dataclass(frozen=True)
class MovementBound:
    """`bytes`: no plan that attains the balance moves fewer. `load`: nor less load, at one step; each shard copied counts once.

    `parts`: bytes by cause: `repair` of lost replicas, `drain`, and the larger of `overload` and `floor` add up.
    """

    bytes: int
    load: float
    parts: dict[str, int] = field(default_factory=dict)


def movement_lower_bound(
    cluster: Cluster, ceiling: Floats, floor: Floats, *, emptied: Bools | None = None, attained: Holdings | None = None
) -> MovementBound:
    """The fewest bytes that any plan moves if afterwards each node's load quantile is at most its `ceiling`, shape (N, T).

    And at least its `floor`: of shape (N, T), at each step; of shape (N,), at some step; 0 or less where nothing is
    demanded. For the balance that a plan attained, give the larger of ceiling and its loads, and the smaller of floor and its
    loads. Nodes that do not accept shards end empty; if not all do, `emptied` (N,) names those that do. Dead ones always do.
    Where a plan's layout lacks replicas or pins, because demands conflict, give it as `attained`: then no more is demanded.

    Why it holds, for each shard s with b(s) bytes copied:

    1. b(s) ≥ r(s), the cheapest way to its least full replicas and its pins on nodes that remain (repairing.py).
    2. Take disjoint sets of nodes. The load that a set is locked in (relief.py) stays but for what a copy elsewhere takes.
       A quantile is convex in the shares of shards and grows with each, so the pooled locked load, which is at most the sum of
       the set's quantiles by the triangle inequality, falls at most by the slopes of what leaves. What leaves must outweigh
       the excess over the set's ceilings: the least bytes are a knapsack's, bounded by its fractional relaxation and by the
       fewest whole copies. Each shard is locked in one set at most, so the sets' bytes add up.
    3. A quantile is at most the sum of the quantiles of its parts, so what nodes under their floors hold, with all that may
       come, must outweigh the floors (fill_bound.py).
    4. In 2 and 3 a copy of s counts max(0, cost − r(s)), because b(s) ≥ max(r(s), cost): they add to Σ r(s). What leaves one
       node may be what another is filled with: of 2 and 3 only the larger counts.

    Where a common factor may lower a quantile by growth of one shard, it is left out. Time O(S × (K + T × F) + S log S).
    """
    usable = cluster.nodes.live & (cluster.nodes.accepts if emptied is None else ~emptied)
    repair = least_repair(cluster, usable, attained)
    best, load = 0.0, 0.0
    for bytes_least, load_least in _over_ceilings(cluster, usable, ceiling, repair):
        best, load = max(best, bytes_least), max(load, load_least)
    filled, filled_load = fill_cost(cluster, floor, usable, repair)
    forced = repair.forced_load(cluster)
    parts = {"repair": repair.lost, "drain": repair.total - repair.lost, "overload": round(best), "floor": round(filled)}
    return MovementBound(repair.total + max(parts["overload"], parts["floor"]), forced + max(load, filled_load), parts)


def _over_ceilings(cluster: Cluster, usable: Bools, ceiling: Floats, repair: Repair) -> Iterator[tuple[float, float]]:
    """Least bytes, and load, beyond repair that take the excess off several partitions of the nodes into sets."""
    z, shards = cluster.policy.risk_z, cluster.shards
    common = _steady_common(cluster)
    for label in _partitions(cluster, usable, ceiling):
        into, part, wholly = locked(cluster.held.node, cluster.held.kind, label, shards.recent, usable)
        sets = int(label.max(initial=-1)) + 1
        loads = locked_loads(into, part, shards.mean, shards.own_square, common, sets)
        room = np.zeros((sets, shards.mean.shape[1]))
        np.add.at(room, label[label >= 0], ceiling[label >= 0])
        excess = set_quantiles(*loads, z) - room - _SLACK * (1.0 + np.abs(np.where(np.isfinite(room), room, 0.0)))
        if not (excess > 0).any():
            continue
        whole, hot, reach = _copies(cluster, wholly, repair)
        untouched = (repair.least == 0).astype(np.float64)
        cost, load, _ = relief_costs(
            into, part, shards.mean, shards.own_square, common, *loads, excess, z, whole, hot, reach, untouched
        )
        yield float(cost.sum()), float(load)


def _steady_common(cluster: Cluster) -> Floats:
    common = cluster.shards.common
    if not common.shape[2]:
        return common
    left_out = unsteady(cluster.shards.mean, common, cluster.policy.risk_z)
    return np.where(left_out[None], 0.0, common) if left_out.any() else common


def _copies(cluster: Cluster, wholly: Bools, repair: Repair) -> tuple[Ints, Ints, Floats]:
    """Bytes beyond repair of a copy that takes locked load: a whole one, a hot one, and what a hot one can take."""
    shards = cluster.shards
    full, hot = shards.size[:, FULL], shards.size[:, HOT]
    whole = np.where(wholly, full, np.minimum(full, np.maximum(0, full - hot)))
    useful = wholly & (shards.most > np.maximum(shards.least, 1))
    reach = np.where(useful, shards.recent, 0.0)
    return np.maximum(0, whole - repair.least), np.maximum(0, hot - repair.least), reach


def _partitions(cluster: Cluster, usable: Bools, ceiling: Floats) -> Iterator[Ints]:
    """Sets of nodes as labels (N,), -1 for none: each node alone; then, where replicas share loads, nodes near their ceilings.

    Nodes that lock no shard in together are sets of their own.
    """
    single = np.where(usable, np.cumsum(usable) - 1, -1)
    yield single
    held = cluster.held
    on = (held.node >= 0) & usable[held.node]
    shared = on.sum(axis=1) > 1
    if not shared.any():
        return
    quantiles = node_quantiles(cluster, held)
    with np.errstate(divide="ignore", invalid="ignore"):
        used = np.where(quantiles > 0, quantiles / np.maximum(ceiling, 0.0), 0.0).max(axis=1)
    seen: set[bytes] = set()
    for least in _PARTS:
        chosen = usable & (used > least)
        if chosen.any() and not chosen[usable].all() and chosen.tobytes() not in seen:
            seen.add(chosen.tobytes())
            yield _components(cluster, on & shared[:, None], chosen)


def _components(cluster: Cluster, on: Bools, chosen: Bools) -> Ints:
    """The chosen nodes parted so that each shard whose replicas are all on chosen nodes is within one part."""
    node = cluster.held.node
    inside = (on & chosen[node]).sum(axis=1) == on.sum(axis=1)
    rows = np.flatnonzero(inside & on.any(axis=1))
    first = node[rows, on[rows].argmax(axis=1)]
    count = len(chosen)
    s, k = np.nonzero(on[rows])
    links = coo_matrix((np.ones(len(s), dtype=np.int8), (first[s], node[rows[s], k])), shape=(count, count))
    _, label = connected_components(links.tocsr(), directed=False)
    _, packed = np.unique(label[chosen], return_inverse=True)
    result = np.full(count, -1, dtype=np.int64)
    result[chosen] = packed
    return result
