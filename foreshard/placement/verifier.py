"""Checks a plan against its problem: written apart from the solver, from the model alone, so as not to share its mistakes."""

from __future__ import annotations

from collections.abc import Iterator

from foreshard.model import Layout, PlacementProblem, Plan
from foreshard.placement.codec import input_digest, plan_id_of
from foreshard.placement.verifier_facts import Facts
from foreshard.placement.verifier_goals import goals_and_metrics
from foreshard.placement.verifier_moves import budget, conflicts, in_flight, isolations, moves_in_themselves, node_counts
from foreshard.placement.verifier_states import carrying_out, nodes_to_empty


def violations(problem: PlacementProblem, plan: Plan) -> list[str]:
    """One sentence for each rule that the plan breaks; empty if it keeps all.

    Hard constraints are checked in every state: resources that are transient while a wave copies, all else as published after
    each wave. What the layout at hand breaks must not get worse, and is mended in the end unless the budget is used up. A
    conflict excuses what one of its demands names: `shard 5`, `node n1`, `group g`, `resource storage` or `label l`.
    No goal ends worse than it began unless something hard forced a change. Time O(waves × replicas + replicas × steps).
    """
    facts = Facts(problem, plan)
    return [
        *_identity(problem, plan),
        *moves_in_themselves(facts),
        *carrying_out(facts),
        *nodes_to_empty(facts),
        *_weights(plan.layout),
        *budget(facts),
        *in_flight(facts),
        *isolations(facts),
        *node_counts(facts),
        *conflicts(facts),
        *goals_and_metrics(facts),
    ]


def _identity(problem: PlacementProblem, plan: Plan) -> Iterator[str]:
    if plan.pool_id != problem.pool_id:
        yield f"the plan is for pool {plan.pool_id}, the problem is of {problem.pool_id}"
    if plan.base_epoch != problem.layout.epoch or plan.layout.epoch != plan.base_epoch + 1:
        yield f"the plan leads from epoch {plan.base_epoch} to {plan.layout.epoch}, the problem is at {problem.layout.epoch}"
    if plan.input_digest != input_digest(problem):
        yield "the plan was made from other inputs"
    if plan.plan_id != plan_id_of(plan.input_digest, plan.moves):
        yield f"{plan.plan_id} is not the id of these inputs and moves"
    if len({(r.shard_id, r.node_id) for r in plan.layout.replicas}) != len(plan.layout.replicas):
        yield "the layout has a shard twice on one node"


def _weights(layout: Layout) -> Iterator[str]:
    sums: dict[int, float] = {}
    for replica in layout.replicas:
        sums[replica.shard_id] = sums.get(replica.shard_id, 0.0) + replica.weight
        if not replica.weight > 0:
            yield f"shard {replica.shard_id} on {replica.node_id} has weight {replica.weight}"
    for shard, total in sums.items():
        if abs(total - 1.0) > 1e-5:
            yield f"the weights of shard {shard} sum to {total}"
