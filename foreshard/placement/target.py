"""Where a new replica goes: the highest-ranked node by rendezvous hashing that has room, as in hashing with bounded loads."""

from __future__ import annotations

import numpy as np

from foreshard.placement.draft import Draft
from foreshard.placement.instance import FULL, NONE, Bools, Floats, Instance, Ints
from foreshard.placement.load import NodeLoads, quantile


def load_bound(instance: Instance, peak_bound: float) -> float:
    """Utilisation up to which nodes take shards: min(target, bounded_load × fair share); source: Mirrokni et al. 2018.

    A pool that cannot stay within its target has only the fair share to go by.
    """
    fair, target = instance.policy.bounded_load * peak_bound, instance.policy.target_utilisation
    return min(target, fair) if peak_bound <= target else fair


def choose(draft: Draft, shard: int, kind: int, bound: float, leaving: int | None = None) -> int | None:
    """The node for one more replica, or None if every accepting node holds one; `leaving` holds one that goes in exchange.

    In this order: a node with room in a zone of its own; one in a zone of its own that stays within the target; one with
    room; any. The highest-ranked where there is room, else the one that ends least utilised.
    """
    instance = draft.instance
    free = np.flatnonzero(instance.accepts & (draft.kind[shard] == NONE))
    if not free.size:
        return None
    after = _utilisation_after(draft, shard, kind, free, leaving)
    room = after <= bound * (1 + 1e-9)
    apart = ~shares_zone(draft, shard, leaving)[free]
    within = after <= instance.policy.target_utilisation
    choice = np.select([room & apart, within & apart, room], [0, 1, 2], 3)
    return int(free[np.lexsort((instance.rank[shard][free], np.where(room, 0.0, after), choice))[0]])


def shares_zone(draft: Draft, shard: int, leaving: int | None = None) -> Bools:
    """For each node, whether another live replica of the shard is in its zone, shape (N,)."""
    held = (draft.kind[shard] > NONE) & draft.instance.live
    if leaving is not None:
        held[leaving] = False
    together: Bools = (draft.instance.same_zone & held[None, :]).any(axis=1)
    return together


def _utilisation_after(draft: Draft, shard: int, kind: int, free: Ints, leaving: int | None) -> Floats:
    """Peak utilisation of each free node if it took a replica with weight in proportion to capacity."""
    instance = draft.instance
    held = np.where(instance.live & (draft.kind[shard] > NONE), instance.capacity, 0.0)
    if leaving is not None:
        held[leaving] = 0.0
    full = np.where(draft.kind[shard] == FULL, held, 0.0)
    own, recent = instance.capacity[free], float(instance.recent[shard])
    part = recent * own / (own + float(np.add.accumulate(held)[-1]))
    if kind == FULL:
        part = part + (1.0 - recent) * own / (own + float(np.add.accumulate(full)[-1]))
    return peak_with(draft, free, part[:, None], np.array([shard]))[:, 0]


def peak_with(draft: Draft, nodes: Ints, part: Floats, shards: Ints) -> Floats:
    """Peak utilisation of each of K nodes with a further `part`, shape (K, L), of each of L shards' load; shape (K, L).

    A negative part takes away a replica that the node holds, whose whole part of the load this must be.
    """
    instance, loads = draft.instance, draft.loads
    wide = part[:, :, None]
    after = NodeLoads(
        loads.mean[nodes][:, None] + wide * instance.mean[shards],
        loads.common[nodes][:, None] + wide[..., None] * instance.common[shards],
        loads.own_square[nodes][:, None] + wide * np.abs(wide) * instance.own_square[shards],
    )
    used: Floats = (quantile(after, instance.policy.risk_z) / instance.capacity[nodes][:, None, None]).max(axis=2)
    return used
