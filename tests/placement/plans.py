"""Plans by hand, for tests of what reads plans."""

from __future__ import annotations

from foreshard.model import Layout, Move, NodeState, PlacementProblem, Plan, PlanMetrics, Replica
from foreshard.placement import codec


def plan_of(problem: PlacementProblem, replicas: tuple[Replica, ...] | None = None, moves: tuple[Move, ...] = ()) -> Plan:
    """A plan that leads to these replicas; to those at hand on live nodes unless given."""
    if replicas is None:
        live = {n.node_id for n in problem.nodes if n.state is not NodeState.DEAD}
        replicas = tuple(r for r in problem.layout.replicas if r.node_id in live)
    digest = codec.input_digest(problem)
    moved = sum(m.bytes for m in moves)
    metrics = PlanMetrics(0.9, 0.8, 0.7, moved, moved, len(moves), "converged")
    layout = Layout(problem.layout.epoch + 1, replicas)
    plan_id = codec.plan_id_of(digest, moves)
    return Plan(plan_id, problem.pool_id, problem.layout.epoch, digest, moves, layout, metrics, summary="by hand")
