"""What a plan attains, and the least that any plan could."""

from __future__ import annotations

import numpy as np

from foreshard.model import PlanMetrics
from foreshard.placement.cluster import FULL, Cluster, Floats, Holdings
from foreshard.placement.loads import ceiling, fair_share
from foreshard.placement.movement import Moves
from foreshard.placement.movement_bound import movement_lower_bound
from foreshard.placement.peak_bound import peak_lower_bound
from foreshard.placement.waves import Waves

_CLOSE = 1e-9


def measured(
    cluster: Cluster, held: Holdings, moves: Moves, waves: Waves, before: Floats, after: Floats, ended_by: str
) -> PlanMetrics:
    """`before`, `after`: load quantiles of the nodes, shape (N, T). Time that of the bounds."""
    nodes = cluster.nodes
    holds = cluster.holding(held)
    usable = nodes.accepts | (holds & nodes.live)
    served = ((held.kind == FULL) & np.append(nodes.live, False)[held.node]).any(axis=1)
    served |= (cluster.shards.parent >= 0) & (held.node >= 0).any(axis=1)
    # A bound of all plans, so those that leave replicas where more than are allowed stand now are not beaten by it.
    peak = peak_lower_bound(cluster, usable=usable, served=served).value
    attained = round(float((after / nodes.capacity[:, None]).max(initial=0.0)), 9)
    moved = int(moves.bytes.sum())
    least = movement_lower_bound(
        cluster,
        np.maximum(ceiling(cluster), after),
        _floors(cluster, after),
        emptied=nodes.live & ~nodes.accepts & ~holds,
        attained=held,
    ).bytes
    # The bounds are of plans that keep every constraint; one whose budget left some broken may stay below.
    peak, least = min(peak, attained), min(least, moved)
    over = (after > (nodes.target * nodes.capacity)[:, None] * (1 + _CLOSE)).any(axis=1) & nodes.live
    return PlanMetrics(
        peak_before=round(float((before / nodes.capacity[:, None]).max(initial=0.0)), 9),
        peak_after=attained,
        peak_lower_bound=peak,
        bytes_moved=moved,
        bytes_lower_bound=least,
        moves=len(moves.shard),
        ended_by=ended_by,
        overloaded_nodes=tuple(nodes.ids[n] for n in np.flatnonzero(over)),
        imbalance_before=_imbalance(cluster, before),
        imbalance_after=_imbalance(cluster, after),
        peak_gap=_gap(attained, peak),
        bytes_gap=_gap(moved, least),
        waves=waves.waves,
    )


def _floors(cluster: Cluster, after: Floats) -> Floats:
    """What joining and empty nodes carry at some step, shape (N,), no more than they are to; nothing of the others."""
    floors = cluster.policy.floor_load * fair_share(cluster)
    floors_reached: Floats = np.where(cluster.fresh(), np.minimum(floors, after).max(axis=1), 0.0)
    return floors_reached


def _imbalance(cluster: Cluster, loads: Floats) -> float:
    """Highest utilisation of an accepting node over that of all of them, less 1, at the worst step."""
    used, capacity = loads[cluster.nodes.accepts], cluster.nodes.capacity[cluster.nodes.accepts]
    if not capacity.size:
        return 0.0
    mean = used.sum(axis=0) / capacity.sum()
    highest = (used / capacity[:, None]).max(axis=0)
    return round(float(np.divide(highest, mean, out=np.ones_like(mean), where=mean > 0).max(initial=1.0)) - 1.0, 9)


def _gap(attained: float, least: float) -> float:
    return round(max(0.0, attained / least - 1.0), 9) if least > 0 else 0.0
