"""What a plan does and what it cannot do, in a few sentences."""

from __future__ import annotations

import numpy as np

from foreshard.model import PlanMetrics
from foreshard.placement.draft import Draft
from foreshard.placement.instance import NONE, Floats, Instance
from foreshard.placement.load import NodeLoads, quantile

_NAMED = 5  # overloaded nodes that the summary names; the metrics name all


def summarise(draft: Draft, metrics: PlanMetrics, used: Floats) -> str:
    """Sentences on moves and peak, on what is overloaded and missing, and on what the budget left undone."""
    return " ".join(s for s in (_done(draft, metrics), _overload(draft.instance, metrics, used), _undone(draft)) if s)


def _done(draft: Draft, metrics: PlanMetrics) -> str:
    instance = draft.instance
    if not instance.accepting:
        return (
            "No node accepts shards: all are draining or dead. "
            "Nothing is copied and draining nodes keep what they hold; add a node."
        )
    peaks = f"predicted peak {metrics.peak_before:.2f} of capacity before, {metrics.peak_after:.2f} after"
    if metrics.moves:
        return f"{metrics.moves} moves of {metrics.bytes_moved:,} bytes; {peaks}, at best {metrics.peak_lower_bound:.2f}."
    target = f"target {instance.policy.target_utilisation:.2f}"
    if (draft.weight != instance.weight).any():
        return f"No moves: new weights are enough; {peaks}, {target}."
    if metrics.overloaded_nodes:
        return f"Nothing to do that would help: no move or weight lowers the overload; {peaks}, {target}."
    return f"Nothing to do: every node stays within its {target}, and no node is worth relieving; {peaks}."


def _overload(instance: Instance, metrics: PlanMetrics, used: Floats) -> str:
    if not metrics.overloaded_nodes:
        return ""
    target = instance.policy.target_utilisation
    at = {node.node_id: i for i, node in enumerate(instance.nodes)}
    parts = []
    order = sorted((at[node_id] for node_id in metrics.overloaded_nodes), key=lambda n: (-float(used[n].max()), n))
    for node in order[:_NAMED]:
        step = int(used[node].argmax())
        excess = (used[node, step] - target) * instance.capacity[node]
        where = f"{instance.nodes[node].node_id} at {used[node, step]:.2f} at {instance.step_label(step)}"
        parts.append(f"{where} ({excess:.4g}/s over cap {target:.2f})")
    if len(order) > _NAMED:
        parts.append(f"{len(order) - _NAMED} more")
    return f"Overloaded: {', '.join(parts)}. {_missing(instance)}"


def _missing(instance: Instance) -> str:
    pool = NodeLoads(*(np.add.accumulate(a, axis=0)[-1] for a in (instance.mean, instance.common, instance.own_square)))
    needed = float(quantile(pool, instance.policy.risk_z).max()) / instance.policy.target_utilisation
    there = float(np.add.accumulate(np.where(instance.accepts, instance.capacity, 0.0))[-1])
    if needed > there:
        return f"The pool needs at least {needed - there:.4g}/s more capacity."
    return "The pool's capacity would do, but its shards cannot be spread that way with these replicas and this budget."


def _undone(draft: Draft) -> str:
    if not draft.blocked:
        return ""
    instance = draft.instance
    leaving = [
        instance.nodes[n].node_id for n in np.flatnonzero(instance.live & ~instance.accepts) if (draft.kind[:, n] > NONE).any()
    ]
    rest = f" {', '.join(leaving)} still hold shards; plan again after this plan." if leaving else ""
    budget = f"{instance.policy.max_moves} moves, {instance.policy.max_move_bytes:,} bytes"
    return f"The movement budget ({budget}) left something undone.{rest}"
