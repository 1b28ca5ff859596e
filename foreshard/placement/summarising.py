"""What a plan does and what it cannot do, in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foreshard.model import HeavyEntity, Isolation, PlanMetrics
from foreshard.placement.cluster import Cluster, Floats, Holdings
from foreshard.placement.explanation.nothing import next_move
from foreshard.placement.explanation.standing import Standing
from foreshard.placement.explanation.wording import figure, number, size
from foreshard.placement.loads import pool_quantile

_NAMED = 5  # overloaded nodes that the summary names; the metrics name all


def summarise(
    cluster: Cluster,
    held: Holdings,
    metrics: PlanMetrics,
    after: Floats,
    isolated: Sequence[Isolation],
    notes: Sequence[str],
    reweighed: bool,
    entities: Sequence[HeavyEntity],
) -> str:
    """Sentences on moves and peak, on what is overloaded and missing, and on what was left undone."""
    said = [
        _done(cluster, held, metrics, reweighed, entities),
        _entities(isolated),
        _overload(cluster, metrics, after),
        _undone(cluster, held, metrics),
        *notes,
    ]
    return " ".join(sentence for sentence in said if sentence)


def _done(cluster: Cluster, held: Holdings, metrics: PlanMetrics, reweighed: bool, entities: Sequence[HeavyEntity]) -> str:
    if not cluster.accepting:
        return (
            "No node accepts shards: all are draining or dead. "
            "Nothing is copied and draining nodes keep what they hold; add a node."
        )
    peaks = f"predicted peak {metrics.peak_before:.2f} of capacity before, {metrics.peak_after:.2f} after"
    if metrics.moves:
        waves = number(metrics.waves, "wave")
        moves = f"{number(metrics.moves, 'move')} of {size(metrics.bytes_moved)} in {waves}"
        return f"{moves}, at least {size(metrics.bytes_lower_bound)}; {peaks}, at best {metrics.peak_lower_bound:.2f}."
    if reweighed:
        return f"No moves: new weights are enough; {peaks}."
    if metrics.overloaded_nodes:
        return f"Nothing to do that would help: no move or weight lowers the overload; {peaks}."
    if metrics.ended_by == "movement budget":
        return f"Nothing moves; {peaks}."
    return str(next_move(Standing(cluster, held), entities))


def _entities(isolated: Sequence[Isolation]) -> str:
    begun = [i.entity_id for i in isolated if not i.ends]
    ended = [i.entity_id for i in isolated if i.ends]
    said = []
    if begun:
        said.append(f"{', '.join(begun)} {'gets a shard of its' if len(begun) == 1 else 'get shards of their'} own.")
    if ended:
        where = "goes back into its slot" if len(ended) == 1 else "go back into their slots"
        said.append(f"{', '.join(ended)} {where}.")
    return " ".join(said)


def _overload(cluster: Cluster, metrics: PlanMetrics, after: Floats) -> str:
    if not metrics.overloaded_nodes:
        return ""
    nodes = cluster.nodes
    at = {node_id: i for i, node_id in enumerate(nodes.ids)}
    used = after / nodes.capacity[:, None]
    order = sorted((at[node_id] for node_id in metrics.overloaded_nodes), key=lambda n: (-float(used[n].max()), n))
    parts = []
    for node in order[:_NAMED]:
        step = int(used[node].argmax())
        excess = after[node, step] - nodes.target[node] * nodes.capacity[node]
        where = f"{nodes.ids[node]} at {used[node, step]:.2f} at {cluster.step_label(step)}"
        parts.append(f"{where} ({figure(float(excess))}/s over its target {nodes.target[node]:.2f})")
    if len(order) > _NAMED:
        parts.append(f"{len(order) - _NAMED} more")
    return f"Overloaded: {', '.join(parts)}. {_missing(cluster)}"


def _missing(cluster: Cluster) -> str:
    needed = float(pool_quantile(cluster).max())
    there = float((cluster.nodes.target * cluster.nodes.capacity)[cluster.nodes.accepts].sum())
    if needed > there:
        share = there / float(cluster.nodes.capacity[cluster.nodes.accepts].sum()) if there else 1.0
        return f"The pool needs at least {figure((needed - there) / share)}/s more capacity."
    return "The pool's capacity would do, but its shards cannot be spread that way with these replicas and this budget."


def _undone(cluster: Cluster, held: Holdings, metrics: PlanMetrics) -> str:
    if metrics.ended_by != "movement budget":
        return ""
    nodes, policy = cluster.nodes, cluster.policy
    leaving = [nodes.ids[n] for n in np.flatnonzero(nodes.live & ~nodes.accepts & cluster.holding(held))]
    rest = f" {', '.join(leaving)} still hold shards; plan again after this plan." if leaving else ""
    return f"The movement budget ({policy.max_moves} moves, {size(policy.max_move_bytes)}) left something undone.{rest}"
