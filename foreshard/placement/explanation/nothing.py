"""Why a plan moves nothing, and how far the load must rise before one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreshard.model import HeavyEntity
from foreshard.placement.cluster import Ints
from foreshard.placement.counting import mean_capacity, wanted_replicas
from foreshard.placement.explanation.standing import Standing
from foreshard.placement.explanation.wording import figure, number, rounded_down
from foreshard.placement.loads import pool_quantile


@dataclass(frozen=True, slots=True)
class NextMove:
    """If all loads rise by `rise` (0.09: by 9 %), and no less, something has a cause to move; None if no rise gives one."""

    rise: float | None
    cause: str
    fullest: str  # the node that is nearest its bound, and how near

    def __str__(self) -> str:
        if self.rise is None:
            return f"Nothing to do: {self.fullest}; no rise of the load alone makes a move worth while."
        least = rounded_down(100.0 * self.rise, 2)
        return f"Nothing to do: {self.fullest}; no move until the load rises by {least:.6g} %: then {self.cause}."


def next_move(standing: Standing, entities: Sequence[HeavyEntity] = ()) -> NextMove:
    """What comes first when every load, mean and spreads, rises by the same factor. Time O(N × T + S × T).

    A node passes its target; or a shard becomes hot enough for a further replica, or an entity for a shard of its own. A bound
    by the fair share rises with the load. Above the rise at which the pool no longer fits within its targets only that counts.
    """
    found = (_fuller_node(standing), _hotter_shard(standing), _hotter_entity(standing, entities))
    causes = [c for c in found if c is not None]
    rise, cause = min(causes, default=(None, ""), key=lambda c: c[0])
    return NextMove(rise, cause, _fullest(standing))


def _fuller_node(standing: Standing) -> tuple[float, str] | None:
    cluster = standing.cluster
    nodes = cluster.nodes
    meant = (nodes.target * nodes.capacity)[:, None]
    ratio = np.where(nodes.accepts[:, None], standing.load / meant, 0.0)
    room, pool = float((nodes.target * nodes.capacity)[nodes.accepts].sum()), pool_quantile(cluster)
    # At the rise at which the node is full the pool must still fit at that step, else its target does not count there.
    rise = np.divide(1.0, ratio, out=np.full_like(ratio, np.inf), where=ratio > 0)
    rise = np.where(pool[None, :] <= room * (1.0 + 1e-12) * ratio, rise, np.inf)
    if not np.isfinite(rise).any():
        return None
    node, step = np.unravel_index(int(rise.argmin()), rise.shape)
    said = f"node {nodes.ids[int(node)]} passes its target of {nodes.target[node]:.2f}"
    return float(rise[node, step]) - 1.0, f"{said} at {cluster.step_label(int(step))}"


def _hotter_shard(standing: Standing) -> tuple[float, str] | None:
    cluster = standing.cluster
    threshold = cluster.policy.hot_share * mean_capacity(cluster)
    peak = cluster.shards.mean.max(axis=1, initial=0.0)
    wanted = wanted_replicas(cluster, standing.held)
    least = np.maximum(cluster.shards.least, (cluster.shards.parent >= 0).astype(np.int64))
    further = wanted - np.minimum(least, wanted) + 1
    able = (peak > 0) & (wanted < _most(standing))
    if threshold <= 0 or not able.any():
        return None
    rise = np.where(able, np.divide(further * threshold, peak, out=np.full_like(peak, np.inf), where=peak > 0), np.inf)
    row = int(rise.argmin())
    many = number(int(wanted[row]) + 1, "replica")
    share = f"{figure(float(further[row]) * cluster.policy.hot_share)} of a mean node"
    return float(rise[row]) - 1.0, f"shard {cluster.shards.ids[row]} passes {share} and gets {many}"


def _hotter_entity(standing: Standing, entities: Sequence[HeavyEntity]) -> tuple[float, str] | None:
    cluster = standing.cluster
    policy, ids = cluster.policy, cluster.shards.ids.tolist()
    threshold = policy.isolate_share * mean_capacity(cluster)
    found = []
    for entity in entities:
        peak = max(entity.mean, default=0.0)
        if entity.shard_id is not None or peak <= 0 or entity.slot not in ids or threshold <= 0:
            continue
        if peak > policy.isolate_slot_share * cluster.shards.mean[ids.index(entity.slot), entity.mean.index(peak)]:
            what = f"{entity.entity_id} passes {figure(policy.isolate_share)} of a mean node and gets a shard of its own"
            found.append((threshold / peak - 1.0, what))
    return min(found, default=None)


def _most(standing: Standing) -> Ints:
    """Replicas that each shard may have on the nodes there are, shape (S,)."""
    cluster = standing.cluster
    permit = cluster.shards.permit
    free = np.append((cluster.allowed & cluster.nodes.accepts[None, :]).sum(axis=1), cluster.accepting)
    most: Ints = np.minimum(cluster.shards.most, free[permit])
    return most


def _fullest(standing: Standing) -> str:
    cluster = standing.cluster
    load = np.where(cluster.nodes.accepts[:, None], standing.load, 0.0)
    ratio = np.divide(load, standing.ceiling, out=np.zeros_like(load), where=standing.ceiling > 0)
    if not ratio.any():
        return "no node carries any load"
    node, step = np.unravel_index(int(ratio.argmax()), ratio.shape)
    capacity = cluster.nodes.capacity[node]
    used, bound = standing.load[node, step] / capacity, standing.ceiling[node, step] / capacity
    return (
        f"the node nearest its bound is {cluster.nodes.ids[int(node)]} at {used:.2f} of capacity at "
        f"{cluster.step_label(int(step))}, bound {bound:.2f}"
    )
