"""Moves that make room: a node within its ceiling gives something away because something larger comes to it."""

from __future__ import annotations

from foreshard.model import Layout, PlacementProblem, Plan, Replica
from foreshard.placement import node_load
from foreshard.placement.building import build
from foreshard.placement.loads import ceiling
from foreshard.placement.verifier import violations

_WITHIN = "both within their ceilings"


def unexplained(problem: PlacementProblem, plan: Plan) -> list[str]:
    """What the verifier finds, less moves that make room, and less those of shards without bytes.

    The latter copy nothing, so that the search does not save them (docs/planning.md, Limits).
    """
    found = violations(problem, plan)
    return [v for v in found if not (v.endswith(_WITHIN) and _is_borne(problem, plan, int(v.split()[1])))]


def _is_borne(problem: PlacementProblem, plan: Plan, index: int) -> bool:
    return plan.moves[index].bytes == 0 or _makes_room(problem, plan, index)


def _makes_room(problem: PlacementProblem, plan: Plan, index: int) -> bool:
    move = plan.moves[index]
    replicas = [r for r in plan.layout.replicas if (r.shard_id, r.node_id) != (move.shard_id, move.target)]
    moved = next(r for r in plan.layout.replicas if (r.shard_id, r.node_id) == (move.shard_id, move.target))
    stayed = Replica(move.shard_id, move.source, moved.weight, moved.covers_from)
    load = node_load(problem, Layout(plan.layout.epoch, (*replicas, stayed)))
    # Loads are in the order of the problem's nodes, ceilings in that of their names.
    at = [n.node_id for n in problem.nodes].index(move.source)
    limit = ceiling(build(problem))[sorted(n.node_id for n in problem.nodes).index(move.source)]
    return bool((load[at] > limit * (1 - 1e-6)).any())
