"""The summary of a layout that the suites of plans and epochs check: one row per shard."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from foreshard.model import Node, Policy, Replica
from foreshard.routing.invariants import enough_full_replicas


def layout_summary(
    replicas: Iterable[Replica], nodes: Iterable[Node], policy: Policy, slots: int, now: Mapping[int, int] | None = None
) -> pd.DataFrame:
    """Per shard: the full replicas on live nodes that it lacks, its lowest and highest weight, how far its weights are from 1.

    Every slot has a row, whether or not it has replicas; an isolated entity's shard leans on its slot's full replicas. `now`:
    slot → full replicas in the epoch that a step of a plan replaces, see `invariants.enough_full_replicas`.
    """
    live: Collection[str] = {node.node_id for node in nodes if node.is_live}
    by_shard: dict[int, list[Replica]] = {slot: [] for slot in range(slots)}
    for replica in replicas:
        by_shard.setdefault(replica.shard_id, []).append(replica)
    rows = []
    for shard_id, own in sorted(by_shard.items()):
        needed = enough_full_replicas(policy, len(live), None if now is None else now.get(shard_id, 0))
        full = len({r.node_id for r in own if r.is_full and r.node_id in live})
        rows.append(
            {
                "shard_id": shard_id,
                "missing_full_replicas": max(needed - full, 0) if shard_id < slots else 0,
                "lowest_weight": min((r.weight for r in own), default=0.0),
                "highest_weight": max((r.weight for r in own), default=0.0),
                "weight_error": abs(sum(r.weight for r in own) - 1.0),
            }
        )
    return pd.DataFrame(rows)
