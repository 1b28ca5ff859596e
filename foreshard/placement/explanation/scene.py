"""A problem and its plan side by side: the same cluster under the layout at hand and under the plan's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from foreshard.model import Isolation, Move, MoveKind, Node, NodeState, PlacementProblem, Plan, ShardLoad
from foreshard.placement.building import build
from foreshard.placement.bundles import merged
from foreshard.placement.cluster import Cluster
from foreshard.placement.explanation.standing import Standing
from foreshard.placement.isolation import loads_after

COPYING = (MoveKind.MOVE, MoveKind.REPLICATE)  # kinds that bring a replica to a node that had none


@dataclass(frozen=True)
class Scene:
    """`before` and `after` have the same nodes in the same order. In `whole`, the plan's layout, shards that must share their
    nodes are one row, with all that they need together."""

    problem: PlacementProblem
    plan: Plan
    before: Standing
    after: Standing
    whole: Standing
    stands: Mapping[int, int]  # the shard that stands for each one of a bundle

    def whole_row(self, shard_id: int) -> int:
        """Position in `whole` of the shard, or of the bundle that it is in; raises ForeshardError if there is none."""
        return self.whole.row(self.stands.get(shard_id, shard_id))

    def members(self, shard_id: int) -> list[int]:
        """The shards that share their nodes with this one, itself included."""
        first = self.stands.get(shard_id, shard_id)
        return sorted(s for s, at in self.stands.items() if at == first) or [shard_id]

    def moves_of(self, shard_id: int) -> list[tuple[int, Move]]:
        """The plan's moves of a shard with their places in the plan, from 1."""
        return [(i, m) for i, m in enumerate(self.plan.moves, 1) if m.shard_id == shard_id]


def scene(problem: PlacementProblem, plan: Plan) -> Scene:
    """Both sides as arrays; raises ForeshardError if the problem contradicts itself. Time O(replicas + shards × T × F)."""
    known = {n.node_id for n in problem.nodes}
    named = {r.node_id for r in (*problem.layout.replicas, *plan.layout.replicas)}
    gone = tuple(Node(name, 1.0, NodeState.DEAD) for name in sorted(named - known))
    # Costs between pairs of nodes are of no use here, and have no rows for nodes that are gone.
    wider = replace(problem, nodes=(*problem.nodes, *gone), pair_cost=())
    before = build(wider)
    later = replace(wider, shards=isolated(problem, plan.isolations), layout=plan.layout)
    bundled, stands = merged(later)
    at_end = build(later)
    after = Standing(at_end, at_end.held)
    whole = build(bundled) if stands else at_end
    copied = _copied(plan, whole, stands)
    return Scene(problem, plan, Standing(before, before.held), after, Standing(whole, whole.held, copied), stands)


def _copied(plan: Plan, whole: Cluster, stands: Mapping[int, int]) -> frozenset[tuple[int, int]]:
    row = {int(shard_id): i for i, shard_id in enumerate(whole.shards.ids)}
    at = {node_id: i for i, node_id in enumerate(whole.nodes.ids)}
    targets = ((stands.get(m.shard_id, m.shard_id), m.target) for m in plan.moves if m.kind in COPYING)
    return frozenset((row[shard], at[node]) for shard, node in targets if shard in row and node in at)


def isolated(problem: PlacementProblem, isolations: Sequence[Isolation]) -> tuple[ShardLoad, ...]:
    """The problem's shards once these entities have shards of their own, or have them no longer."""
    return loads_after(problem.shards, problem.heavy, isolations)
