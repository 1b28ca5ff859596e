"""Random clusters and small ones by hand, for the placement tests."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
from hypothesis import strategies as st

from foreshard.model import Layout, Node, NodeState, PlacementProblem, Policy, Replica, ShardLoad
from foreshard.placement import initial_layout

START = datetime(2013, 11, 27, tzinfo=UTC)
HOT_FROM = date(2013, 11, 20)


def steps(count: int) -> tuple[datetime, ...]:
    return tuple(START + timedelta(hours=h) for h in range(count))


def nodes(count: int, capacity: float = 100.0) -> tuple[Node, ...]:
    return tuple(Node(f"pipeline-{i:02d}", capacity) for i in range(count))


def shard(shard_id: int, *mean: float, size: int = 1_000, recent: float = 0.0) -> ShardLoad:
    return ShardLoad(shard_id, mean, tuple(0.1 * m for m in mean), (), size, size // 10, recent)


def problem(
    shards: tuple[ShardLoad, ...], pool: tuple[Node, ...], layout: Layout | None = None, policy: Policy | None = None
) -> PlacementProblem:
    """A problem whose layout is the plain hash layout unless given."""
    policy = policy or Policy()
    layout = layout or initial_layout([s.shard_id for s in shards], pool, policy)
    return PlacementProblem("usage", layout, pool, shards, policy, steps(len(shards[0].mean) if shards else 0), HOT_FROM)


def typical(seed: int, shard_count: int, node_count: int, used: float = 0.5, horizon: int = 24) -> PlacementProblem:
    """A pool in its hash layout whose shards' loads differ by a power law and follow a daily curve; `used` of its capacity."""
    generator = np.random.default_rng(seed)
    pool = tuple(Node(f"pipeline-{i:02d}", float(generator.uniform(80, 120))) for i in range(node_count))
    size = generator.permutation(1.0 / np.arange(1, shard_count + 1) ** 0.4)
    mean = size[:, None] * (1.0 + 0.5 * np.sin(np.arange(horizon) / 24 * 2 * np.pi)[None, :])
    mean *= used * sum(n.capacity for n in pool) / mean.sum(axis=0).max()
    shards = tuple(shard(i, *row.tolist(), recent=0.7) for i, row in enumerate(mean))
    return problem(shards, pool)


@st.composite
def clusters(draw: st.DrawFn) -> PlacementProblem:
    """Any cluster: nodes in every state, any layout (lost, hot, surplus, gone), loads with zeros, budgets down to nothing."""
    horizon = draw(st.integers(0, 4))
    states = st.sampled_from([NodeState.ACTIVE] * 5 + [NodeState.JOINING, NodeState.DRAINING, NodeState.DEAD])
    pool = tuple(
        Node(
            f"n{i}",
            draw(st.sampled_from([1.0, 10.0, 25.0, 40.0])),
            draw(states),
            zone=draw(st.sampled_from(["", "", "a", "b"])),
        )
        for i in range(draw(st.integers(1, 7)))
    )
    if not any(n.is_live for n in pool):
        pool = (*pool, Node("spare", 10.0))
    load = st.sampled_from([0.0, 0.1, 1.0, 2.5, 7.0])
    row = st.lists(load, min_size=horizon, max_size=horizon).map(tuple)
    shards = tuple(
        ShardLoad(
            i,
            draw(row),
            draw(row),
            tuple((x, -0.5 * x) for x in draw(row)) if draw(st.booleans()) else (),
            *draw(st.sampled_from([(0, 0), (10, 0), (10, 5), (10, 10), (1_000, 5), (1_000, 100)])),
            draw(st.sampled_from([0.0, 0.4, 0.8, 1.0])),
        )
        for i in range(draw(st.integers(0, 10)))
    )
    policy = Policy(
        min_full_replicas=draw(st.integers(1, 3)),
        max_replicas=draw(st.integers(1, 5)),
        max_moves=draw(st.sampled_from([0, 1, 5, 1_000])),
        max_move_bytes=draw(st.sampled_from([0, 1_000, 1 << 40])),
    )
    places = [(s, n) for s in range(len(shards) + 1) for n in [*(n.node_id for n in pool), "gone"]]
    held = draw(st.lists(st.sampled_from(places), unique=True, max_size=30))
    replicas = tuple(
        Replica(s, n, draw(st.sampled_from([0.1, 0.5, 1.0])), draw(st.sampled_from([None, None, HOT_FROM]))) for s, n in held
    )
    return PlacementProblem("p", Layout(draw(st.integers(0, 9)), replicas), pool, shards, policy, steps(horizon), HOT_FROM)
