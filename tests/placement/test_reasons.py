"""Each move says what it serves, in one sentence with numbers and times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clusters import HOT_FROM, random_problem, steps, typical

from foreshard.errors import ForeshardError
from foreshard.model import (
    Balance,
    Goal,
    Layout,
    MoveKind,
    Node,
    NodeState,
    PlacementProblem,
    Policy,
    Replica,
    Resource,
    ShardGroup,
    ShardLoad,
)
from foreshard.placement.building import build
from foreshard.placement.bundles import merged
from foreshard.placement.cluster import FULL
from foreshard.placement.explanation.reasons import reason, reasons
from foreshard.placement.loads import node_quantiles
from foreshard.placement.movement import GOALS, KINDS, Moves
from foreshard.placement.solver import solve_cluster

NODES = (
    Node("p-0", 100.0, zone="x", limits={"memory": 100.0, "disk": 100.0}, targets={"memory": 0.5}),
    Node("p-1", 100.0, zone="y", limits={"memory": 100.0, "disk": 100.0}),
    Node("p-2", 100.0, NodeState.DRAINING, limits={"memory": 100.0, "disk": 100.0}),
    Node("p-3", 100.0, NodeState.DEAD, limits={"memory": 100.0, "disk": 100.0}),
    Node("p-4", 100.0, NodeState.JOINING, limits={"memory": 100.0, "disk": 100.0}),
    Node("p-5", 100.0, limits={"memory": 100.0, "disk": 100.0}),
)
SHARDS = (
    ShardLoad(0, (40.0, 90.0), (0.0, 0.0), (), 1_000, 100, needs={"memory": 60.0}),
    ShardLoad(1, (5.0, 10.0), (0.0, 0.0), (), 1_000, 100, avoids=("p-0",), needs={"disk": 120.0}),
    ShardLoad(2, (1.0, 2.0), (0.0, 0.0), (), 1_000, 100, pins=("p-1",)),
    ShardLoad(3, (1.0, 2.0), (0.0, 0.0), (), 1_000, 100, group="g"),
    ShardLoad(4, (1.0, 2.0), (0.0, 0.0), (), 1_000, 100, parent=0),
)
HELD = (
    Replica(0, "p-0"),
    Replica(1, "p-0"),
    Replica(1, "p-2"),
    Replica(2, "p-3"),
    Replica(3, "p-1"),
    Replica(3, "p-5"),
)
PROBLEM = PlacementProblem(
    "usage",
    Layout(1, HELD),
    NODES,
    SHARDS,
    Policy(min_full_replicas=2, bounded_load=9.0),
    steps(2),
    HOT_FROM,
    groups=(ShardGroup("g", distinct_nodes=True, min_zones=2),),
    resources=(Resource("memory", soft_cost=2.0), Resource("disk")),
    balances=(Balance("memory", "disk", 2.0, 1.0),),
)


def said(
    kind: MoveKind,
    shard: int,
    source: int,
    target: int,
    goal: Goal,
    gain: float = 0.0,
    step: int = -1,
    given: PlacementProblem = PROBLEM,
) -> str:
    cluster = build(given)
    columns = ([KINDS.index(kind)], [shard], [source], [target], [FULL], [1_000], [GOALS.index(goal)], [gain], [step])
    moves = Moves(*(np.array(c) for c in columns))
    return reason(cluster, moves, 0, node_quantiles(cluster, cluster.held) / cluster.nodes.capacity[:, None])


def test_a_node_above_its_bound_is_named_with_the_step_and_the_load_of_the_shard() -> None:
    told = said(MoveKind.MOVE, 0, 0, 5, Goal.BALANCE, 12.5)
    expected = "node p-0 predicted at 0.96 of capacity at 2013-11-27 01:00, bound 0.80; shard 0 carries 91/s of it"
    assert told == f"{expected}, 12.5/s of what is above the bound"
    at_its_step = said(MoveKind.MOVE, 0, 0, 5, Goal.BALANCE, step=0)
    assert "0.43 of capacity at 2013-11-27 00:00, below the bound, but above it with what this plan brings" in at_its_step
    assert "shard 0 carries 40.5/s of it" in at_its_step
    assert "node p-0 predicted at 0.96" in said(MoveKind.REPLICATE, 0, -1, 5, Goal.BALANCE)


@pytest.mark.parametrize(
    ("shard", "source", "target", "words"),
    [
        (0, -1, 5, "shard 0 has 1 full replica on live nodes, the minimum is 2"),
        (2, -1, 5, "shard 2 has no full replica on live nodes, the minimum is 2"),
        (2, -1, 1, "shard 2 is pinned to node p-1"),
        (1, 0, 5, "shard 1 avoids node p-0"),
        (1, 2, 5, "node p-2 has 120 of disk in use, its limit is 100; shard 1 takes 120 of it"),
        (3, 1, 4, "shard 3 on node p-1 breaks what group g demands (distinct nodes, 2 zones)"),
    ],
)
def test_repairs_name_what_is_broken(shard: int, source: int, target: int, words: str) -> None:
    kind = MoveKind.MOVE if source >= 0 else MoveKind.REPLICATE
    assert said(kind, shard, source, target, Goal.REPAIR) == words


def test_what_is_on_dead_nodes_is_said_to_count_no_more() -> None:
    assert said(MoveKind.DROP, 2, 3, -1, Goal.REPAIR) == "node p-3 is dead or gone: what it held counts no more"


def test_draining_filling_and_cold_shards_are_told() -> None:
    drained = said(MoveKind.MOVE, 1, 2, 5, Goal.DRAIN, 1.0)
    assert drained == "node p-2 is draining; shard 1 carries 5/s there at 2013-11-27 01:00"
    enough = said(MoveKind.DROP, 1, 2, -1, Goal.DRAIN, 1.0)
    assert enough == "node p-2 is draining, and shard 1 has replicas enough elsewhere"
    filled = said(MoveKind.MOVE, 3, 1, 4, Goal.FILL, 14.25)
    rank = "it takes shards that rank it first, up to 0.85 of its fair share"
    assert filled == f"node p-4 joined: {rank}; shard 3 brings 14.25/s"
    assert said(MoveKind.MOVE, 3, 1, 5, Goal.FILL).startswith("node p-5 holds nothing")
    cold = said(MoveKind.DROP, 3, 5, -1, Goal.CONSOLIDATE, 1.0)
    assert cold == (
        "shard 3 predicted at 2/s at most (2013-11-27 01:00), 0.02 of a mean node; below 0.09 for each further one "
        "1 replica is enough"
    )


def test_hot_shards_and_isolated_entities_are_told() -> None:
    hot = said(MoveKind.REPLICATE, 0, -1, 5, Goal.REPLICATE, 1.0)
    assert hot == "shard 0 predicted at 91/s at 2013-11-27 01:00, 0.91 of a mean node; above 0.15 it gets 2 replicas"
    own = said(MoveKind.REPLICATE, 4, -1, 5, Goal.REPLICATE, 1.0)
    assert own == "shard 4 is one entity of slot 0 by itself and needs a replica of its own"


def test_costs_name_the_soft_limit_or_the_balance() -> None:
    soft = said(MoveKind.MOVE, 0, 0, 5, Goal.COST, 20.0)
    assert soft == "cost: soft limit of memory on node p-0 (60 in use, 50 meant); the move saves 20"
    # p-2 has no memory in use and all of its disk: 2 × 100 free of the first against −20 of the second.
    balance = said(MoveKind.MOVE, 1, 2, 5, Goal.COST, 220.0)
    assert (
        balance == "cost: balance between memory and disk on node p-2 (100 of memory and -20 of disk free); the move saves 220"
    )


def test_without_steps_no_time_is_named() -> None:
    given = replace(PROBLEM, steps=(), shards=tuple(replace(s, mean=(), spread_own=()) for s in SHARDS))
    assert "at any time" in said(MoveKind.MOVE, 0, 0, 5, Goal.BALANCE, given=given)


def test_the_reasons_of_a_real_plan_name_its_goals() -> None:
    given = typical(2, 48, 6, used=0.6)
    given = replace(given, nodes=(replace(given.nodes[0], state=NodeState.DRAINING), *given.nodes[1:]))
    outcome = solve_cluster(build(given), iterations=2_000)
    before = outcome.before / outcome.cluster.nodes.capacity[:, None]
    told = reasons(outcome.cluster, outcome.moves, before, outcome.ceiling)
    assert told == tuple(reason(outcome.cluster, outcome.moves, i, before, outcome.ceiling) for i in range(len(told)))
    for goal, words in ((Goal.DRAIN, "node pipeline-00 is draining"), (Goal.REPLICATE, "of a mean node; above 0.15 it gets")):
        own = [t for t, g in zip(told, outcome.moves.goal, strict=True) if GOALS[g] is goal]
        assert own
        assert all(words in t for t in own)


@pytest.mark.parametrize("seed", range(30))
def test_every_move_of_any_goal_has_a_sentence(seed: int) -> None:
    """Moves at random, also ones that no search would make, of problems with everything switched on."""
    try:
        cluster = build(merged(random_problem(seed))[0])
    except ForeshardError:
        pytest.skip("the problem contradicts itself")
    generator, count = np.random.default_rng(seed), 40 if len(cluster.shards.ids) else 0
    nodes = len(cluster.nodes.ids)
    kind = generator.integers(0, len(KINDS), count)
    has_source = np.isin(kind, [KINDS.index(MoveKind.MOVE), KINDS.index(MoveKind.DROP)])
    moves = Moves(
        kind,
        generator.integers(0, max(1, len(cluster.shards.ids)), count),
        np.where(has_source, generator.integers(0, nodes, count), -1),
        np.where(kind == KINDS.index(MoveKind.DROP), -1, generator.integers(0, nodes, count)),
        np.full(count, FULL),
        np.full(count, 10),
        # Filling is of a target, so drops have another goal.
        np.where(kind == KINDS.index(MoveKind.DROP), GOALS.index(Goal.DRAIN), generator.integers(0, len(GOALS), count)),
        generator.choice([0.0, 1.5], count),
        generator.integers(-1, cluster.shards.mean.shape[1], count),
    )
    before = node_quantiles(cluster, cluster.held) / cluster.nodes.capacity[:, None]
    for sentence in reasons(cluster, moves, before):
        assert len(sentence) > 15
        assert "nan" not in sentence
        assert "inf" not in sentence
