"""The verifier finds each way in which a plan can be wrong: a sound plan is spoilt, one way at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from clusters import typical

from foreshard.model import Layout, Move, MoveKind, NodeState, PlacementProblem, Plan, Policy
from foreshard.placement import solve
from foreshard.placement.verify import violations


@pytest.fixture(scope="module")
def sound() -> tuple[PlacementProblem, Plan]:
    """A plan that drains one node and repairs after another."""
    given_problem = typical(3, 24, 6, used=0.4)
    states = (NodeState.ACTIVE, NodeState.DRAINING, NodeState.DEAD, *[NodeState.ACTIVE] * 3)
    given_problem = replace(
        given_problem, nodes=tuple(replace(n, state=s) for n, s in zip(given_problem.nodes, states, strict=True))
    )
    plan = solve(given_problem)
    assert violations(given_problem, plan) == []
    return given_problem, plan


def with_replicas(plan: Plan, at: int, **change: object) -> Plan:
    replicas = list(plan.layout.replicas)
    replicas[at] = replace(replicas[at], **change)  # type: ignore[arg-type]
    return replace(plan, layout=replace(plan.layout, replicas=tuple(replicas)))


def with_metrics(plan: Plan, **change: object) -> Plan:
    return replace(plan, metrics=replace(plan.metrics, **change))  # type: ignore[arg-type]


def with_move(plan: Plan, move: Move) -> Plan:
    return replace(plan, moves=(*plan.moves, move))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda p: replace(p, layout=replace(p.layout, epoch=9)), "the plan leads from epoch"),
        (lambda p: replace(p, moves=p.moves[1:]), "the moves do not lead to the plan's layout"),
        (lambda p: with_replicas(p, 0, node_id="pipeline-02"), "which is dead or unknown"),
        (lambda p: with_replicas(p, 0, node_id="pipeline-01"), "which is draining"),
        (lambda p: with_replicas(p, 0, weight=0.9), "sum to"),
        (lambda p: with_replicas(p, 0, weight=-0.1), "has weight -0.1"),
        (lambda p: replace(p, layout=Layout(p.layout.epoch, p.layout.replicas[1:])), "ends with 1 full replicas"),
        (lambda p: replace(p, layout=replace(p.layout, replicas=p.layout.replicas[:1] * 2)), "twice on one node"),
        (lambda p: with_metrics(p, moves=0), "do not count the plan's moves"),
        (lambda p: with_metrics(p, peak_lower_bound=9.0), "below its lower bound"),
        (lambda p: with_metrics(p, bytes_lower_bound=1 << 50), "bytes moved are below their lower bound"),
        (lambda p: replace(p, moves=(replace(p.moves[0], reason=""), *p.moves[1:])), "has no reason"),
        (lambda p: with_move(p, Move(MoveKind.DROP, 0, "nowhere", "", None, 0, "x")), "which does not hold it"),
        (lambda p: with_move(p, p.moves[0]), "which holds it"),
        (lambda p: with_move(p, Move(MoveKind.WIDEN, 0, "", "pipeline-00", None, 0, "x")), "has no hot replica of it"),
        (
            lambda p: with_move(p, Move(MoveKind.DROP, 9, p.layout.of_shard(9)[0].node_id, "", None, 0, "x")),
            "leaves shard 9 with fewer than 2 full replicas",
        ),
    ],
)
def test_a_spoilt_plan_is_found(sound: tuple[PlacementProblem, Plan], spoil: Callable[[Plan], Plan], complaint: str) -> None:
    given_problem, plan = sound
    assert any(complaint in sentence for sentence in violations(given_problem, spoil(plan)))


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [(Policy(max_moves=1), "more than the budget of 1"), (Policy(max_move_bytes=1), "more than the budget of 1")],
)
def test_a_plan_beyond_its_budget_is_found(sound: tuple[PlacementProblem, Plan], policy: Policy, complaint: str) -> None:
    given_problem, plan = sound
    assert any(complaint in sentence for sentence in violations(replace(given_problem, policy=policy), plan))
