"""The plain hash layout."""

from __future__ import annotations

from collections import Counter

import pytest
from clusters import nodes

from foreshard.errors import ForeshardError
from foreshard.model import Node, NodeState, Policy
from foreshard.placement import initial_layout


def test_every_shard_has_two_full_replicas_on_its_first_ranked_nodes() -> None:
    layout = initial_layout(range(500), nodes(5), Policy())
    assert layout.epoch == 1
    assert all(n == 2 for n in Counter(r.shard_id for r in layout.replicas).values())
    assert all(r.is_full and r.weight == 0.5 for r in layout.replicas)
    held = Counter(r.node_id for r in layout.replicas)
    assert all(150 < held[n.node_id] < 250 for n in nodes(5))


def test_replicas_follow_capacity_and_weights_are_in_proportion_to_it() -> None:
    pool = (Node("large", 300.0), Node("small", 100.0))
    layout = initial_layout(range(10), pool, Policy())
    assert {r.weight for r in layout.of_node("large")} == {0.75}
    ones = initial_layout(range(2_000), pool, Policy(min_full_replicas=1))
    assert 1_400 < len(ones.of_node("large")) < 1_600


def test_losing_a_node_moves_only_its_shards() -> None:
    whole, fewer = (initial_layout(range(300), nodes(n), Policy()) for n in (6, 5))
    for s in range(300):
        before, after = ({r.node_id for r in layout.of_shard(s)} for layout in (whole, fewer))
        assert before - {"pipeline-05"} <= after


def test_zones_differ_while_there_are_zones() -> None:
    pool = (Node("a1", 1.0, zone="a"), Node("a2", 1.0, zone="a"), Node("b1", 1.0, zone="b"))
    assert all("b1" in {r.node_id for r in initial_layout([s], pool, Policy()).replicas} for s in range(50))
    assert len(initial_layout([0], pool, Policy(min_full_replicas=3)).replicas) == 3


def test_one_node_gets_one_replica_and_a_pool_that_accepts_nothing_is_refused() -> None:
    assert [r.weight for r in initial_layout([7, 7], nodes(1), Policy()).replicas] == [1.0]
    with pytest.raises(ForeshardError, match="no node accepts shards"):
        initial_layout([0], (Node("n", 1.0, NodeState.DRAINING),), Policy())
