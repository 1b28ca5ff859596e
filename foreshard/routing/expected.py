"""What each node is expected to carry, by one epoch: its forecast, spread by its weights as far as they are trusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime, timedelta

import numpy as np

from foreshard.hashing import entity_slot
from foreshard.model import Replica
from foreshard.routing.predicted import PredictedLoads
from foreshard.routing.snapshot import Snapshot


def expected_loads(snapshot: Snapshot, now: datetime, live: Collection[str]) -> dict[str, float]:
    """Node → weighted requests per second in the interval that holds `now`, of `live` nodes; empty if no forecast reaches it.

    A shard's mean goes to its live replicas by weight, shrunk toward even by the forecast's skill as gateways do it.
    Time O(predicted loads + replicas).
    """
    means = _means(PredictedLoads.of(snapshot.predicted), now, timedelta(seconds=snapshot.interval_seconds))
    if not means:
        return {}
    found = dict.fromkeys(live, 0.0)
    holders: dict[int, list[Replica]] = defaultdict(list)
    for replica in snapshot.replicas:
        if replica.node_id in found:
            holders[replica.shard_id].append(replica)
    slots = {shard: entity_slot(entity, snapshot.slot_bits) for entity, shard in snapshot.isolated}
    for shard_id, mean in means.items():
        own = holders.get(shard_id, [])
        # The replicas of an isolated entity's slot answer for it too.
        besides = [r for r in holders.get(slots.get(shard_id, -1), []) if r.node_id not in {o.node_id for o in own}]
        replicas = [*own, *besides]
        total = sum(r.weight for r in replicas)
        for replica in replicas:
            share = snapshot.skill * replica.weight / total + (1.0 - snapshot.skill) / len(replicas)
            found[replica.node_id] += mean * share
    return found


def _means(predicted: PredictedLoads, now: datetime, interval: timedelta) -> dict[int, float]:
    """Shard → mean in the interval that holds `now`."""
    at = [place for place, start in enumerate(predicted.starts) if start <= now < start + interval]
    chosen = np.isin(predicted.at, at)
    return dict(zip(predicted.shard[chosen].tolist(), predicted.mean[chosen].tolist(), strict=True))
