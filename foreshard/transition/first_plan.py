"""The plan that makes a pool's first layout from nothing: one copy for every replica of the plain hash layout."""

from __future__ import annotations

import hashlib

from foreshard.model import Layout, Move, MoveKind, Plan, PlanMetrics


def first_plan(pool_id: str, layout: Layout) -> Plan:
    """A plan from epoch 0 to `layout`; its id depends on the pool and the layout alone."""
    moves = tuple(
        Move(MoveKind.REPLICATE, r.shard_id, "", r.node_id, r.covers_from, 0, "first layout: where the hash puts the shard")
        for r in layout.replicas
    )
    digest = hashlib.sha256(f"{pool_id}:{[(m.shard_id, m.target) for m in moves]}".encode()).hexdigest()
    metrics = PlanMetrics(0.0, 0.0, 0.0, 0, 0, len(moves), "converged")
    nodes = len({r.node_id for r in layout.replicas})
    summary = f"first layout: {len(moves)} replicas on {nodes} nodes by rendezvous hashing"
    return Plan(digest[:16], pool_id, 0, digest, moves, layout, metrics, summary=summary)
