"""Checks a plan against its problem: written apart from the solver, from the model alone, so as not to share its mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date

from foreshard.model import Layout, MoveKind, PlacementProblem, Plan, Replica

# What a layout holds: (shard, node) → the day from which, None for all time.
Holdings = dict[tuple[int, str], date | None]


def violations(problem: PlacementProblem, plan: Plan) -> list[str]:
    """One sentence for each hard constraint that the plan breaks; empty if it keeps all. Time O(moves × nodes)."""
    return [
        *_identity(problem, plan),
        *_moves_lead_to_layout(problem, plan),
        *_replica_counts(problem, plan),
        *_nodes(problem, plan),
        *_weights(plan.layout),
        *_budget(problem, plan),
        *_metrics(plan),
    ]


def _identity(problem: PlacementProblem, plan: Plan) -> Iterator[str]:
    if plan.base_epoch != problem.layout.epoch or plan.layout.epoch != plan.base_epoch + 1:
        yield f"the plan leads from epoch {plan.base_epoch} to {plan.layout.epoch}, the problem is at {problem.layout.epoch}"
    if len({(r.shard_id, r.node_id) for r in plan.layout.replicas}) != len(plan.layout.replicas):
        yield "the layout has a shard twice on one node"


def _moves_lead_to_layout(problem: PlacementProblem, plan: Plan) -> Iterator[str]:
    """Carries the moves out one by one: copies first, then, after the publication, what is retired."""
    held, needed = _holdings(problem.layout), _needed(problem)
    live = {n.node_id for n in problem.nodes if n.is_live}
    met = {s: n >= needed for s, n in _full_counts(held, live).items()}
    for i, move in enumerate(plan.moves):
        at = (move.shard_id, move.target)
        if move.kind in (MoveKind.MOVE, MoveKind.DROP) and (move.shard_id, move.source) not in held:
            yield f"move {i} takes shard {move.shard_id} from {move.source}, which does not hold it"
        if move.kind in (MoveKind.MOVE, MoveKind.REPLICATE) and at in held:
            yield f"move {i} copies shard {move.shard_id} to {move.target}, which holds it"
        if move.kind is MoveKind.WIDEN and held.get(at) is None:
            yield f"move {i} widens shard {move.shard_id} on {move.target}, which has no hot replica of it"
        if move.kind is not MoveKind.DROP:
            held[at] = move.covers_from
    for i, move in enumerate(plan.moves):
        if move.kind not in (MoveKind.MOVE, MoveKind.DROP):
            continue
        held.pop((move.shard_id, move.source), None)
        if met.get(move.shard_id) and _full_count(held, move.shard_id, live) < needed:
            yield f"move {i} leaves shard {move.shard_id} with fewer than {needed} full replicas"
    if held != _holdings(plan.layout):
        yield "the moves do not lead to the plan's layout"


def _replica_counts(problem: PlacementProblem, plan: Plan) -> Iterator[str]:
    accepting = {n.node_id for n in problem.nodes if n.accepts_shards}
    live = {n.node_id for n in problem.nodes if n.is_live}
    if not accepting:
        return
    needed = _needed(problem)
    most = max(problem.policy.max_replicas, problem.policy.min_full_replicas)
    full = _full_counts(_holdings(plan.layout), live)
    every = Counter(r.shard_id for r in plan.layout.replicas)
    out_of_moves = plan.metrics.moves >= problem.policy.max_moves
    for shard in sorted({s.shard_id for s in problem.shards} | {r.shard_id for r in problem.layout.replicas}):
        if full[shard] < needed:
            yield f"shard {shard} ends with {full[shard]} full replicas on live nodes, {needed} are needed"
        if every[shard] > most and not out_of_moves:
            yield f"shard {shard} ends with {every[shard]} replicas, {most} are allowed"


def _nodes(problem: PlacementProblem, plan: Plan) -> Iterator[str]:
    state = {n.node_id: n for n in problem.nodes}
    before = _holdings(problem.layout)
    for replica in plan.layout.replicas:
        node = state.get(replica.node_id)
        if node is None or not node.is_live:
            yield f"shard {replica.shard_id} ends on {replica.node_id}, which is dead or unknown"
        elif not node.accepts_shards and (replica.shard_id, replica.node_id) not in before:
            yield f"shard {replica.shard_id} comes to {replica.node_id}, which is draining"
        elif not node.accepts_shards and any(n.accepts_shards for n in problem.nodes) and _affordable(problem, plan, replica):
            yield f"shard {replica.shard_id} ends on {replica.node_id}, which is draining, with budget left to move it"


def _affordable(problem: PlacementProblem, plan: Plan, replica: Replica) -> bool:
    """Whether one more move of this replica would have been within the budget."""
    sizes = {s.shard_id: s.bytes_full for s in problem.shards}
    return (
        plan.metrics.moves < problem.policy.max_moves
        and plan.metrics.bytes_moved + sizes.get(replica.shard_id, 0) <= problem.policy.max_move_bytes
    )


def _weights(layout: Layout) -> Iterator[str]:
    sums: dict[int, float] = {}
    for replica in layout.replicas:
        sums[replica.shard_id] = sums.get(replica.shard_id, 0.0) + replica.weight
        if not replica.weight > 0:
            yield f"shard {replica.shard_id} on {replica.node_id} has weight {replica.weight}"
    for shard, total in sums.items():
        if abs(total - 1.0) > 1e-5:
            yield f"the weights of shard {shard} sum to {total}"


def _budget(problem: PlacementProblem, plan: Plan) -> Iterator[str]:
    """Beyond the budget only repair may go: lost full replicas made anew, and what dead nodes held dropped."""
    live = {n.node_id for n in problem.nodes if n.is_live}
    sizes = {s.shard_id: max(s.bytes_full, s.bytes_full - s.bytes_hot) for s in problem.shards}
    full = _full_counts(_holdings(problem.layout), live)
    shards = set(sizes) | {r.shard_id for r in problem.layout.replicas}
    lacking = {s: max(0, _needed(problem) - full[s]) for s in shards}
    repair_moves = sum(lacking.values()) + sum(r.node_id not in live for r in problem.layout.replicas)
    repair_bytes = sum(count * sizes.get(s, 0) for s, count in lacking.items())
    if len(plan.moves) > max(problem.policy.max_moves, repair_moves):
        yield f"{len(plan.moves)} moves are more than the budget of {problem.policy.max_moves}"
    if sum(m.bytes for m in plan.moves) > max(problem.policy.max_move_bytes, repair_bytes):
        yield f"{sum(m.bytes for m in plan.moves)} bytes are more than the budget of {problem.policy.max_move_bytes}"


def _metrics(plan: Plan) -> Iterator[str]:
    metrics = plan.metrics
    if metrics.moves != len(plan.moves) or metrics.bytes_moved != sum(m.bytes for m in plan.moves):
        yield "the metrics do not count the plan's moves"
    if metrics.peak_lower_bound > metrics.peak_after:
        yield f"the peak {metrics.peak_after} is below its lower bound {metrics.peak_lower_bound}"
    if metrics.bytes_lower_bound > metrics.bytes_moved:
        yield f"{metrics.bytes_moved} bytes moved are below their lower bound {metrics.bytes_lower_bound}"
    if any(not move.reason for move in plan.moves):
        yield "a move has no reason"


def _needed(problem: PlacementProblem) -> int:
    return min(problem.policy.min_full_replicas, max(1, sum(n.accepts_shards for n in problem.nodes)))


def _holdings(layout: Layout) -> Holdings:
    return {(r.shard_id, r.node_id): r.covers_from for r in layout.replicas}


def _full_counts(held: Holdings, live: set[str]) -> Counter[int]:
    return Counter(shard for (shard, node), day in held.items() if day is None and node in live)


def _full_count(held: Holdings, shard: int, live: set[str]) -> int:
    return sum((shard, node) in held and held[shard, node] is None for node in live)
