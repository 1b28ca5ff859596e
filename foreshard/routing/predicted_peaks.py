"""The load that an epoch's own forecast brings to each node, as gateways would divide it by the epoch's weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from foreshard.hashing import entity_slot
from foreshard.model import Node, Replica
from foreshard.routing.predicted import PredictedLoad, PredictedLoads

Floats = NDArray[np.float64]


def predicted_peaks(
    nodes: Sequence[Node],
    replicas: Iterable[Replica],
    isolated: Mapping[str, int],
    predicted: Sequence[PredictedLoad],
    slot_bits: int,
) -> dict[str, float]:
    """Live node → its highest predicted load of any interval, weighted requests per second; {} without a forecast."""
    if not predicted:
        return {}
    _, loads = predicted_node_loads(nodes, replicas, isolated, predicted, slot_bits)
    return {node.node_id: float(loads[at].max()) for at, node in enumerate(nodes) if node.is_live}


def predicted_node_loads(
    nodes: Sequence[Node],
    replicas: Iterable[Replica],
    isolated: Mapping[str, int],
    predicted: Sequence[PredictedLoad],
    slot_bits: int,
) -> tuple[tuple[datetime, ...], Floats]:
    """The intervals' starts, and the load of each node (rows, as in `nodes`) at each (columns); 0 for what is not live.

    A shard's load goes to its replicas on live nodes by weight; an isolated entity's also to its slot's. Time
    O(replicas × intervals), space O(shards × intervals).
    """
    columns = PredictedLoads.of(predicted)
    starts = columns.starts
    live = {node.node_id: at for at, node in enumerate(nodes) if node.is_live}
    holders = _with_slots([r for r in replicas if r.node_id in live], isolated, slot_bits)
    held = np.array([r.shard_id for r in holders], np.int64)
    node = np.array([live[r.node_id] for r in holders], np.int64)
    weight = np.array([r.weight for r in holders], np.float64)
    shards = 1 + max(int(columns.shard.max(initial=0)), int(held.max(initial=0)))
    cells = columns.shard.astype(np.int64) * len(starts) + columns.at
    means = np.bincount(cells, columns.mean, shards * len(starts)).reshape(shards, len(starts))
    share = weight / np.bincount(held, weight, shards)[held]
    loads = [np.bincount(node, share * means[held, at], len(nodes)) for at in range(len(starts))]
    return starts, np.array(loads, np.float64).reshape(len(starts), len(nodes)).T


def _with_slots(replicas: list[Replica], isolated: Mapping[str, int], slot_bits: int) -> list[Replica]:
    """The same, and for each isolated entity's shard the replicas of its slot on nodes that have none of its own."""
    if not isolated:
        return replicas
    borrowers: dict[int, list[int]] = {}
    for entity, shard in isolated.items():
        borrowers.setdefault(entity_slot(entity, slot_bits), []).append(shard)
    own = {(r.shard_id, r.node_id) for r in replicas}
    lent = [
        Replica(shard, r.node_id, r.weight)
        for r in replicas
        for shard in borrowers.get(r.shard_id, ())
        if (shard, r.node_id) not in own
    ]
    return replicas + lent
