"""The load of a node: risk is pooled within it, and what only full replicas can answer is charged to them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from clusters import HOT_FROM, clusters, nodes, problem
from hypothesis import given, settings

from foreshard.model import Layout, PlacementProblem, Policy, Replica, ShardLoad
from foreshard.placement import node_load


def test_a_quantile_adds_common_spreads_and_pools_own_ones() -> None:
    loads = (ShardLoad(0, (10.0,), (3.0,), ((1.0, 2.0),)), ShardLoad(1, (20.0,), (4.0,), ((2.0, -1.0),)))
    layout = Layout(1, (Replica(0, "pipeline-00"), Replica(1, "pipeline-00")))
    given_problem = problem(loads, nodes(2), layout, Policy(risk_z=2.0))
    expected = 30.0 + 2.0 * math.sqrt((1 + 2) ** 2 + (2 - 1) ** 2 + 3**2 + 4**2)
    assert node_load(given_problem, layout).tolist() == [[pytest.approx(expected)], [0.0]]


def test_old_data_is_asked_of_full_replicas_and_recent_data_of_all_by_weight() -> None:
    pool = nodes(3)
    layout = Layout(
        1, (Replica(0, "pipeline-00", 0.2), Replica(0, "pipeline-01", 0.3), Replica(0, "pipeline-02", 0.5, HOT_FROM))
    )
    given_problem = problem((ShardLoad(0, (100.0,), (0.0,), recent_share=0.6),), pool, layout)
    assert node_load(given_problem, layout)[:, 0] == pytest.approx([60 * 0.2 + 40 * 0.4, 60 * 0.3 + 40 * 0.6, 60 * 0.5])


@settings(max_examples=60, deadline=None)
@given(given_problem=clusters())
def test_loads_agree_with_the_formula_written_out(given_problem: PlacementProblem) -> None:
    layout = given_problem.layout
    live = {n.node_id for n in given_problem.nodes if n.is_live}
    held = [r for r in layout.replicas if r.node_id in live]
    loads = {s.shard_id: s for s in given_problem.shards}
    expected = np.zeros((len(given_problem.nodes), len(given_problem.steps)))
    for i, node in enumerate(given_problem.nodes):
        for t in range(len(given_problem.steps)):
            mean, own, common = 0.0, 0.0, [0.0, 0.0]
            for r in (r for r in held if r.node_id == node.node_id and r.shard_id in loads):
                load = loads[r.shard_id]
                every = [o for o in held if o.shard_id == r.shard_id]
                share = load.recent_share * r.weight / sum(o.weight for o in every)
                if r.is_full:
                    share += (1 - load.recent_share) * r.weight / sum(o.weight for o in every if o.is_full)
                mean += share * load.mean[t]
                own += (share * load.spread_own[t]) ** 2
                for f, spread in enumerate(load.spread_common[t] if load.spread_common else ()):
                    common[f] += share * spread
            expected[i, t] = mean + given_problem.policy.risk_z * math.sqrt(own + sum(c * c for c in common))
    np.testing.assert_allclose(node_load(given_problem, layout), expected, rtol=1e-9, atol=1e-12)


def test_loads_follow_the_order_of_the_problems_nodes() -> None:
    given_problem = problem((ShardLoad(0, (5.0,), (0.0,)),), nodes(2), Layout(1, (Replica(0, "pipeline-01"),)))
    turned = replace(given_problem, nodes=given_problem.nodes[::-1])
    assert node_load(turned, turned.layout)[:, 0].tolist() == [5.0, 0.0]
