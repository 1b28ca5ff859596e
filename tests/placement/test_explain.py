"""What people see of a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from clusters import clusters, typical
from hypothesis import given, settings

from foreshard.model import NodeState, PlacementProblem
from foreshard.placement import solve
from foreshard.placement.explain import table


def test_the_table_shows_nodes_moves_bounds_and_deviations() -> None:
    given_problem = typical(2, 48, 5, used=0.5)
    given_problem = replace(
        given_problem, nodes=(replace(given_problem.nodes[0], state=NodeState.DRAINING), *given_problem.nodes[1:])
    )
    plan = solve(given_problem)
    shown = table(plan, given_problem)
    assert [n.node_id for n in shown.nodes] == [n.node_id for n in given_problem.nodes]
    assert max(n.utilisation_after for n in shown.nodes) == pytest.approx(plan.metrics.peak_after, abs=1e-8)
    assert shown.nodes[0].shards_after == 0
    assert shown.nodes[0].utilisation_after == 0.0
    assert len(shown.moves) == plan.metrics.moves
    peak = shown.bounds[0]
    assert peak.gap == pytest.approx(peak.attained / peak.lower_bound - 1)
    text = str(shown)
    for line in (plan.summary, "pipeline-00 -> ", "node pipeline-00 is draining", "lower bound", "search ended by: converged"):
        assert line in text
    assert all(sentence in text for sentence in plan.deviations)


@settings(max_examples=30, deadline=None)
@given(given_problem=clusters())
def test_every_plan_can_be_explained(given_problem: PlacementProblem) -> None:
    plan = solve(given_problem)
    assert plan.summary in str(table(plan, given_problem))
