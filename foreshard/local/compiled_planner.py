"""Compiles the planner's inner loops once, so that a first plan does not wait a minute for them. Nothing needs it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from foreshard.model import (
    Balance,
    HeavyEntity,
    Layout,
    Node,
    NodeState,
    PlacementProblem,
    Policy,
    Resource,
    ShardGroup,
    ShardLoad,
)
from foreshard.placement import initial_layout, solve


def compile_planner() -> None:
    """Solves a small problem that has something of everything; what it compiles is kept beside the sources."""
    solve(_problem(()), iterations=2_000)
    solve(_problem((Balance("cpu", "storage", 1.0, 0.1),)), iterations=2_000)


def _problem(balances: tuple[Balance, ...]) -> PlacementProblem:
    steps = tuple(datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=h) for h in range(3))
    limits = {"cpu": 60.0, "storage": 60.0}
    nodes = [Node(f"n{i}", 10.0, zone=f"z{i % 3}", limits=limits, targets={"cpu": 0.2}) for i in range(6)]
    policy = Policy(min_full_replicas=2, bounded_load=1.02)
    layout = initial_layout(range(24), nodes[:4], policy)
    nodes[1] = Node("n1", 10.0, NodeState.DRAINING, zone="z1", limits=limits)
    nodes[2] = Node("n2", 10.0, NodeState.DEAD, zone="z2", limits=limits)
    nodes[5] = Node("n5", 10.0, NodeState.JOINING, zone="z2", limits=limits)
    shards = tuple(_shard(i) for i in range(24))
    heavy = (HeavyEntity("e", 23, (3.0, 3.0, 3.0), (0.1, 0.1, 0.1), bytes_full=10, bytes_hot=5),)
    groups = (ShardGroup("spread", distinct_nodes=True, min_zones=2), ShardGroup("near", near=("spread",)))
    resources = (Resource("cpu", soft_cost=1.0), Resource("storage", transient=False))
    layout = Layout(1, layout.replicas)
    return PlacementProblem(
        "p", layout, tuple(nodes), shards, policy, steps, date(2019, 12, 25), groups, resources, balances, heavy
    )


def _shard(i: int) -> ShardLoad:
    load = 6.0 / (1 + i)
    return ShardLoad(
        i,
        (load, 1.2 * load, load),
        (0.1, 0.1, 0.1),
        ((0.1,), (0.1,), (0.1,)),
        bytes_full=1_000,
        bytes_hot=100,
        recent_share=0.7,
        needs={"cpu": 1.0, "storage": 1.0},
        pins=("n3",) if i == 5 else (),
        avoids=("n0",) if i == 6 else (),
        group="spread" if i in (7, 8) else "near" if i == 9 else "",
    )


if __name__ == "__main__":
    compile_planner()
