"""An infeasible problem names conflicting demands, none of them dispensable, and what would make it feasible."""

from __future__ import annotations

import itertools
from dataclasses import replace

import arrays
import numpy as np
import pytest

from foreshard.placement.cluster import FULL, HOT, NONE, Cluster
from foreshard.placement.conflicts import conflicting_demands, conflicts
from foreshard.placement.demands import members, near, pins
from foreshard.placement.feasibility import satisfiable


def random_cluster(seed: int, count: int, size: int) -> Cluster:
    generator = np.random.default_rng(seed)
    accepts = generator.random(size) < 0.85
    need = generator.integers(0, 6, (count, 1)).astype(float)
    pinned = [generator.permutation(size)[: generator.choice([0, 0, 0, 1, 2])].tolist() for _ in range(count)]
    entity = generator.random(count) < 0.1
    shards = arrays.shards(
        np.ones((count, 1)),
        need=need,
        size=np.tile(np.array([0, 50, 100]), (count, 1)),
        least=np.where(entity, 0, np.minimum(generator.integers(1, 3, count), max(1, int(accepts.sum())))),
        most=generator.integers(1, 4, count),
        parent=np.where(entity, 0, -1),
        group=generator.integers(-1, 2, count),
        permit=generator.integers(-1, 2, count),
        pin_start=np.concatenate([[0], np.cumsum([len(p) for p in pinned])]).astype(np.int64),
        pins=np.array([n for p in pinned for n in p], dtype=np.int64),
    )
    pool = arrays.nodes(
        [10.0] * size,
        accepts=accepts,
        live=accepts | (generator.random(size) < 0.5),
        limit=generator.choice([3.0, 6.0, 12.0, np.inf], (size, 1)),
        zone=generator.integers(0, 3, size),
        zone_names=("x", "y", "z"),
        neighbourhood=generator.integers(0, 2, size),
    )
    groups = arrays.groups(generator.random(2) < 0.5, generator.integers(1, 4, 2).tolist(), [[1] if seed % 3 == 0 else [], []])
    held = arrays.holdings([{} for _ in range(count)])
    return arrays.cluster(pool, shards, held, group=groups, allowed=generator.random((2, size)) < 0.7)


def feasible(cluster: Cluster) -> bool:
    """Whether any of all layouts keeps every constraint."""
    count, size = len(cluster.shards.ids), len(cluster.nodes.ids)
    rows = [
        [row for row in itertools.product((NONE, HOT, FULL), repeat=size) if shard_kept(cluster, s, row)] for s in range(count)
    ]
    return any(together_kept(cluster, np.array(layout)) for layout in itertools.product(*rows))


def shard_kept(cluster: Cluster, s: int, row: tuple[int, ...]) -> bool:
    shards = cluster.shards
    on = [n for n, kind in enumerate(row) if kind != NONE]
    may = cluster.nodes.accepts & (cluster.allowed[shards.permit[s]] if shards.permit[s] >= 0 else True)
    least = sum(kind == FULL for kind in row) >= shards.least[s] and len(on) >= (shards.parent[s] >= 0)
    return bool(least and len(on) <= shards.most[s] and all(may[n] for n in on) and set(pins(cluster, s)) <= set(on))


def together_kept(cluster: Cluster, layout: np.ndarray) -> bool:
    part = np.array([0.0, 0.5, 1.0])[layout]
    if ((part * cluster.shards.need).sum(axis=0) > cluster.nodes.limit[:, 0] + 1e-9).any():
        return False
    return all(group_kept(cluster, layout != NONE, g) for g in range(2))


def group_kept(cluster: Cluster, on: np.ndarray, g: int) -> bool:
    who = members(cluster, g)
    if not who:
        return True
    counts = on[who].sum(axis=0)
    if cluster.groups.distinct[g] and (counts > 1).any():
        return False
    if len(set(cluster.nodes.zone[counts > 0])) < cluster.groups.min_zones[g]:
        return False
    here = set(cluster.nodes.neighbourhood[counts > 0])
    return all(here <= set(cluster.nodes.neighbourhood[on[members(cluster, h)].any(axis=0)]) for h in near(cluster, g))


@pytest.mark.parametrize("block", range(10))
def test_a_problem_has_conflicts_exactly_if_no_layout_keeps_everything(block: int) -> None:
    seen = set()
    for seed in range(block * 20, block * 20 + 20):
        cluster = random_cluster(seed, 3, 3)
        if not cluster.accepting:
            continue
        found = [c for c in conflicts(cluster) if "of load at" not in c.demands[0]]
        assert bool(found) != feasible(cluster), f"seed {seed}: {found}"
        seen.add(bool(found))
    assert seen == {False, True}


@pytest.mark.parametrize("block", range(10))
def test_no_demand_of_a_conflict_is_dispensable(block: int) -> None:
    for seed in range(block * 12, block * 12 + 12):
        generator = np.random.default_rng(seed)
        cluster = random_cluster(1_000 + seed, int(generator.integers(1, 9)), int(generator.integers(2, 6)))
        if not cluster.accepting:
            continue
        for demands in conflicting_demands(cluster):
            assert satisfiable(cluster, demands) is False, f"seed {seed}: {demands}"
            for i in range(len(demands)):
                assert satisfiable(cluster, demands[:i] + demands[i + 1 :]) is True, f"seed {seed}: {demands} without {i}"


def simple(count: int, size: int, limit: list[float] | None = None, **given: object) -> Cluster:
    pool = arrays.nodes([10.0] * size, **({"limit": [[x] for x in limit]} if limit else {}))
    return arrays.cluster(pool, arrays.shards(np.ones((count, 1)), **given), arrays.holdings([{}] * count))


def test_storage_that_lacks_is_named_in_all() -> None:
    cluster = simple(4, 2, [50.0, 50.0], need=np.full((4, 1), 30.0))
    (found,) = conflicts(cluster)
    assert found.demands == (
        "shards 0, 1, 2 and 3 need 1 full replica each, with 120 of resource storage in all",
        "nodes n0 and n1 have 100 of resource storage in all",
    )
    assert found.remedy == "raise storage of nodes n0 and n1 by 20 in all, or add a node with 20 that may hold them"


def test_storage_that_suffices_in_all_but_not_in_pieces_is_found_too() -> None:
    cluster = simple(3, 2, [50.0, 50.0], need=np.full((3, 1), 30.0))
    (found,) = conflicts(cluster)
    assert len(found.demands) == 5
    assert found.remedy == "raise storage of the nodes named by 10 in all, or add a node"


def test_zones_out_of_reach_are_named_with_those_in_reach() -> None:
    pool = arrays.nodes([10.0] * 3, zone=np.array([0, 1, 1]), zone_names=("a", "b"))
    shards = arrays.shards(np.ones((1, 1)), group=np.zeros(1, dtype=np.int64), most=np.full(1, 3))
    (found,) = conflicts(arrays.cluster(pool, shards, arrays.holdings([{}]), group=arrays.groups([False], [3])))
    assert found.demands == ("group g0 must be in 3 zones; nodes that may hold it are in 2 (a, b)",)
    assert found.remedy == "add a node in another zone or set min_zones to 2"


def test_a_pin_to_a_draining_node_names_both() -> None:
    cluster = simple(1, 2, pin_start=np.array([0, 1]), pins=np.array([1]))
    cluster = replace(cluster, nodes=replace(cluster.nodes, accepts=np.array([True, False])))
    (found,) = conflicts(cluster)
    assert found.demands == ("shard 0 is pinned to node n1", "node n1 is draining and takes no shards")


def test_a_shard_larger_than_every_limit_names_the_node_that_lacks_least() -> None:
    cluster = simple(2, 2, [5.0, 7.0], need=np.array([[9.0], [1.0]]))
    (found,) = conflicts(cluster)
    assert "shard 0 needs 1 full replica" in found.demands[0]
    assert found.remedy == "raise storage of node n1 from 7 to 9"


def test_a_pool_without_an_accepting_node_says_so() -> None:
    cluster = simple(2, 2)
    cluster = replace(cluster, nodes=replace(cluster.nodes, accepts=np.zeros(2, dtype=np.bool_)))
    (found,) = conflicts(cluster)
    assert found.demands[0] == "shards 0 and 1 need a node that takes shards"
    assert found.remedy == "add a node, or make one of these active"


def test_load_beyond_all_targets_says_how_much_capacity_lacks() -> None:
    cluster = arrays.cluster(arrays.nodes([10.0, 10.0]), arrays.shards(np.full((2, 1), 10.0)), arrays.holdings([{}] * 2))
    (found,) = conflicts(cluster)
    assert found.demands == (
        "all that is to be placed needs 20 of load at any time",
        "what takes shards offers 16 within its target",
    )
    assert found.remedy.startswith("add capacity of 5 (1 more node like the largest)")
