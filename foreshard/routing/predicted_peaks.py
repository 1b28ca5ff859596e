"""The highest load that an epoch's own forecast brings to each node, as gateways would divide it by the epoch's weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from foreshard.hashing import entity_slot
from foreshard.model import Node, Replica
from foreshard.routing.snapshot import PredictedLoad

Floats = NDArray[np.float64]


def predicted_peaks(
    nodes: Sequence[Node],
    replicas: Iterable[Replica],
    isolated: Mapping[str, int],
    predicted: Sequence[PredictedLoad],
    slot_bits: int,
) -> dict[str, float]:
    """Node → its highest predicted load of any interval, weighted requests per second; {} without a forecast.

    A shard's load goes to its replicas on live nodes by weight; an isolated entity's also to its slot's. Time
    O(replicas × intervals), space O(shards × intervals).
    """
    if not predicted:
        return {}
    starts = {start: at for at, start in enumerate(sorted({p.interval_start for p in predicted}))}
    live = {node.node_id: at for at, node in enumerate(nodes) if node.is_live}
    holders = _with_slots([r for r in replicas if r.node_id in live], isolated, slot_bits)
    top = max([p.shard_id for p in predicted] + [r.shard_id for r in holders])
    means: Floats = np.zeros((top + 1, len(starts)))
    shard = np.fromiter((p.shard_id for p in predicted), np.int64, len(predicted))
    column = np.fromiter((starts[p.interval_start] for p in predicted), np.int64, len(predicted))
    np.add.at(means, (shard, column), np.fromiter((p.mean for p in predicted), np.float64, len(predicted)))
    held = np.array([r.shard_id for r in holders], np.int64)
    node = np.array([live[r.node_id] for r in holders], np.int64)
    weight = np.array([r.weight for r in holders], np.float64)
    share = weight / np.bincount(held, weight, top + 1)[held] if len(held) else weight
    loads = [np.bincount(node, share * means[held, at], len(nodes)) for at in range(len(starts))]
    peaks = np.max(loads, axis=0)
    return {name: float(peaks[at]) for name, at in live.items()}


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
