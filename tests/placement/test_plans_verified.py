"""Every plan of random clusters keeps what the verifier, written apart from the solver, checks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from chains import unexplained
from clusters import clusters, random_problem
from hypothesis import HealthCheck, assume, given, settings

from foreshard.model import NodeState, PlacementProblem
from foreshard.placement import solve

BLOCK = 600


def in_scope(problem: PlacementProblem) -> bool:
    """What the planner promises to bring in order by one plan (docs/planning.md, Limits).

    The movement budget bears it, no bundle is apart, the layout at hand is within the limits of resources, and no two nodes
    join at once.
    """
    used: Counter[tuple[str, str]] = Counter()
    needs = {s.shard_id: s.needs for s in problem.shards}
    for replica in problem.layout.replicas:
        used.update({(replica.node_id, name): need for name, need in needs.get(replica.shard_id, {}).items()})
    within = all(used[n.node_id, name] <= limit for n in problem.nodes for name, limit in n.limits.items())
    ample = problem.policy.max_moves >= 1_000 and problem.policy.max_move_bytes >= 1 << 30
    held = {r.node_id for r in problem.layout.replicas}
    joining = [n for n in problem.nodes if n.state is NodeState.JOINING or (n.accepts_shards and n.node_id not in held)]
    return within and ample and len(joining) < 2 and not any(s.together for s in problem.shards)


@pytest.mark.parametrize("block", range(6))
def test_plans_of_clusters_with_everything_switched_on(block: int) -> None:
    found, tried = {}, 0
    for seed in range(block * BLOCK, block * BLOCK + BLOCK):
        given_problem = random_problem(seed)
        if not in_scope(given_problem):
            continue
        tried += 1
        wrong = unexplained(given_problem, solve(given_problem, iterations=20_000))
        if wrong:
            found[seed] = wrong
    assert tried > 20
    assert not found, "\n".join(f"seed {seed}: {len(wrong)} violations, first: {wrong[0]}" for seed, wrong in found.items())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(given_problem=clusters())
def test_plans_of_plain_clusters(given_problem: PlacementProblem) -> None:
    given_problem = replace(given_problem, policy=replace(given_problem.policy, max_moves=1_000, max_move_bytes=1 << 40))
    assume(in_scope(given_problem))
    assert unexplained(given_problem, solve(given_problem, iterations=20_000)) == []
