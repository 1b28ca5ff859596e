"""Alike shards are spread with the fewest moves, at the least cost of their pairs, and to the nodes that they rank high."""

from __future__ import annotations

import itertools
from dataclasses import replace

import arrays
import numpy as np
import pytest

from foreshard.hashing import rendezvous_scores
from foreshard.model import Goal, MoveKind, Policy
from foreshard.placement.alike import most_alike, spread_alike
from foreshard.placement.cluster import FULL, Cluster, Ints
from foreshard.placement.loads import ceiling, node_quantiles
from foreshard.placement.movement import GOALS, KINDS, Moves
from foreshard.placement.movement_bound import movement_lower_bound


def pool(seed: int, count: int, size: int, *, pair: bool = False) -> Cluster:
    generator = np.random.default_rng(seed)
    state = generator.choice([0, 0, 0, 1, 2, 3], size)  # active, joining, draining, dead
    state[0] = 0
    mean = np.tile(generator.uniform(0.5, 2.0, 2), (count, 1))
    shards = arrays.shards(mean, own_square=np.full((count, 2), 0.04), common=np.full((count, 2, 1), 0.1))
    places = [n for n in range(size) if state[n] != 1] or [0]
    held = arrays.holdings([{int(generator.choice(places)): FULL} for _ in range(count)])
    nodes = arrays.nodes(generator.uniform(50, 150, size).tolist(), accepts=state < 2, live=state < 3, joining=state == 1)
    costs = generator.integers(0, 9, (size, size)).astype(float) if pair else None
    return arrays.cluster(nodes, shards, held, pair=costs)


def applied(cluster: Cluster, moves: Moves) -> Ints:
    """The node of each shard afterwards, after checking that each move can be done."""
    node = cluster.held.node[:, 0].astype(np.int64)
    copies = moves.target >= 0
    assert len(set(moves.shard[copies].tolist())) == copies.sum()
    for kind, shard, source, target in zip(moves.kind, moves.shard, moves.source, moves.target, strict=True):
        if KINDS[kind] is MoveKind.MOVE:
            assert node[shard] == source
            assert cluster.nodes.live[source]
        if KINDS[kind] is MoveKind.DROP:
            assert not cluster.nodes.live[source]
        else:
            assert cluster.nodes.accepts[target]
            node[shard] = target
    return node


@pytest.mark.parametrize("seed", range(40))
def test_the_moves_are_the_fewest_that_keep_every_node_within_its_counts(seed: int) -> None:
    generator = np.random.default_rng(seed)
    cluster = pool(seed, int(generator.integers(1, 200)), int(generator.integers(2, 9)), pair=bool(seed % 2))
    accepts = cluster.nodes.accepts
    fair = len(cluster.shards.ids) / cluster.accepting
    most = np.full(len(accepts), int(np.ceil(fair * 1.1)))
    least = np.where(cluster.nodes.joining, int(fair * 0.8), 0)
    moves = spread_alike(cluster, most, least)
    assert moves is not None
    after = np.bincount(applied(cluster, moves), minlength=len(most))
    assert (after[accepts] <= most[accepts]).all()
    assert (after[accepts] >= least[accepts]).all()
    assert (after[~accepts] == 0).all()
    before = np.bincount(cluster.held.node[:, 0], minlength=len(most))
    leave = before[~accepts].sum() + np.maximum(0, before - most)[accepts].sum()
    assert (moves.target >= 0).sum() == max(leave, np.maximum(0, least - before)[accepts].sum())
    assert not (
        moves.source[moves.kind == KINDS.index(MoveKind.MOVE)] == moves.target[moves.kind == KINDS.index(MoveKind.MOVE)]
    ).any()


@pytest.mark.parametrize("seed", range(12))
def test_with_pair_costs_no_other_fewest_moves_cost_less(seed: int) -> None:
    cluster = pool(seed, 5, 3, pair=True)
    accepts = cluster.nodes.accepts
    most = np.full(3, int(np.ceil(5 / cluster.accepting)))
    moves = spread_alike(cluster, most)
    assert moves is not None
    start = cluster.held.node[:, 0]
    from_dead = ~cluster.nodes.live[start]

    def price(node: Ints) -> tuple[int, float]:
        moved = node != start
        return int(moved.sum()), float(cluster.costs.pair[start, node][moved & ~from_dead].sum())

    every = (np.array(nodes) for nodes in itertools.product(np.flatnonzero(accepts).tolist(), repeat=5))
    least = min(price(node) for node in every if (np.bincount(node, minlength=3) <= most).all())
    assert price(applied(cluster, moves)) == pytest.approx(least)


def test_counts_are_the_largest_whose_quantile_is_under_the_ceiling() -> None:
    cluster = pool(3, 300, 5)
    limit = ceiling(cluster)
    most = most_alike(cluster, limit)
    for n, count in enumerate(most.tolist()):
        for more, fits in ((0, True), (1, False)):
            row = arrays.holdings([{n: FULL}] * (count + more) + [{}] * (300 - count - more))
            assert bool((node_quantiles(cluster, row)[n] <= limit[n]).all()) is fits


def test_the_moves_are_at_the_bound_of_movement() -> None:
    # With spreads the bound is a slope's, a shard less at times.
    for risk_z, gap in ((0.0, 1.0), (1.645, 1.002)):
        cluster = replace(pool(5, 4_000, 20), policy=Policy(risk_z=risk_z))
        limit = ceiling(cluster)
        moves = spread_alike(cluster, most_alike(cluster, limit))
        assert moves is not None
        bound = movement_lower_bound(cluster, limit, np.zeros_like(limit))
        assert bound.bytes <= int(moves.bytes.sum()) <= gap * bound.bytes


def test_a_joining_node_gets_the_shards_that_rank_it_highest() -> None:
    shards = arrays.shards(np.ones((400, 1)))
    held = arrays.holdings([{s % 4: FULL} for s in range(400)])
    nodes = arrays.nodes([100.0] * 5, joining=np.arange(5) == 4)
    cluster = arrays.cluster(nodes, shards, held, policy=Policy(risk_z=0.0))
    moves = spread_alike(cluster, np.full(5, 100), np.array([0, 0, 0, 0, 80]))
    assert moves is not None
    assert {GOALS[g] for g in moves.goal} == {Goal.FILL}
    scores = rendezvous_scores(range(400), cluster.nodes.ids, [100.0] * 5)[:, 4]
    for source in range(4):
        gone = moves.shard[moves.source == source]
        stayed = np.setdiff1d(np.arange(source, 400, 4), gone)
        assert len(gone) == 20
        assert scores[gone].min() > scores[stayed].max()


def test_shards_that_differ_or_do_not_fit_are_left_to_the_general_search() -> None:
    held = arrays.holdings([{0: FULL}, {0: FULL}])
    nodes = arrays.nodes([10.0, 10.0])
    differ = arrays.cluster(nodes, arrays.shards([[1.0], [2.0]]), held)
    assert spread_alike(differ, np.array([1, 1])) is None
    same = arrays.cluster(nodes, arrays.shards([[1.0], [1.0]]), held)
    assert spread_alike(same, np.array([1, 0])) is None
    twice = arrays.cluster(nodes, arrays.shards([[1.0], [1.0]]), arrays.holdings([{0: FULL, 1: FULL}, {0: FULL}]))
    assert spread_alike(twice, np.array([1, 1])) is None
