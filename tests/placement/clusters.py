"""Random clusters and small ones by hand, for the placement tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st

from foreshard.model import (
    Balance,
    HeavyEntity,
    Layout,
    Node,
    NodeState,
    PlacementProblem,
    Policy,
    Replica,
    Resource,
    ShardGroup,
    ShardLoad,
)
from foreshard.placement import initial_layout

T = TypeVar("T")

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


class Source(Protocol):
    """Where a random problem's choices come from: hypothesis, which makes them small when a test fails, or a seed."""

    def integer(self, low: int, high: int) -> int: ...

    def pick(self, options: Sequence[T]) -> T: ...


class _Drawn:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def pick(self, options: Sequence[T]) -> T:
        return self.draw(st.sampled_from(options))


class _Seeded:
    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self.generator.integers(low, high + 1))

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.generator.integers(len(options)))]


@st.composite
def rich_clusters(draw: st.DrawFn) -> PlacementProblem:
    """Small problems with everything switched on, each part more often absent the smaller hypothesis makes them."""
    return random_cluster(_Drawn(draw))


def random_problem(seed: int) -> PlacementProblem:
    """As `rich_clusters`, from a seed: thousands take seconds."""
    return random_cluster(_Seeded(seed))


def random_cluster(source: Source) -> PlacementProblem:
    """Any valid problem of up to 8 nodes and 12 shards, down to one node, no step, no shard, no load, no byte."""
    horizon = source.integer(0, 4)
    resources = _resources(source)
    pool = _pool(source, resources)
    names = [n.node_id for n in pool]
    groups = _groups(source)
    shards = _shards(source, horizon, names, groups, resources)
    policy = _policy(source)
    layout = _layout(source, shards, pool, policy)
    return PlacementProblem(
        pool_id="p",
        layout=layout,
        nodes=pool,
        shards=shards,
        policy=policy,
        steps=steps(horizon),
        covers_from=HOT_FROM,
        groups=groups,
        resources=resources,
        balances=_balances(source, resources, pool),
        heavy=_heavy(source, shards, horizon),
        pair_cost=_pair_cost(source, len(pool)),
    )


def _resources(source: Source) -> tuple[Resource, ...]:
    names = ("cpu", "storage")[: source.pick((0, 0, 1, 2))]
    return tuple(Resource(name, source.pick((True, False)), source.pick((0.0, 0.0, 1.0))) for name in names)


def _pool(source: Source, resources: Sequence[Resource]) -> tuple[Node, ...]:
    states = source.pick(
        (
            *[(NodeState.ACTIVE,)] * 4,
            *[(*[NodeState.ACTIVE] * 4, NodeState.JOINING)] * 4,
            *[(*[NodeState.ACTIVE] * 5, NodeState.JOINING, NodeState.DRAINING, NodeState.DEAD)] * 8,
            (NodeState.DRAINING,),
        )
    )
    everywhere = source.pick((True, False))
    pool = [
        Node(
            f"n{i}",
            source.pick((10.0, 10.0, 25.0, 40.0, 1.0)),
            source.pick(states),
            zone=source.pick(("a", "b", "c", "")),
            neighbourhood=source.pick(("", "x", "y")),
            limits={
                r.name: source.pick((100.0, 40.0, 20.0, 10.0, 0.0)) for r in resources if everywhere or source.integer(0, 3)
            },
            targets={
                name: source.pick((0.5, 0.7, 0.9))
                for name in ("load", *(r.name for r in resources))
                if not source.integer(0, 3)
            },
        )
        for i in range(source.integer(1, 8))
    ]
    if all(n.state is NodeState.DEAD for n in pool):
        pool.append(Node("spare", 10.0))
    return tuple(pool)


def _groups(source: Source) -> tuple[ShardGroup, ...]:
    count = source.pick((0, 0, 1, 2))
    return tuple(
        ShardGroup(
            f"g{i}",
            distinct_nodes=source.pick((False, True)),
            min_zones=source.pick((1, 1, 2, 3, 5)),
            near=(f"g{1 - i}",) if count == 2 and not source.integer(0, 2) else (),
        )
        for i in range(count)
    )


def _row(source: Source, horizon: int, options: Sequence[float] = (0.0, 0.1, 1.0, 2.5, 7.0)) -> tuple[float, ...]:
    return tuple(source.pick(options) for _ in range(horizon))


def _shards(
    source: Source, horizon: int, names: Sequence[str], groups: Sequence[ShardGroup], resources: Sequence[Resource]
) -> tuple[ShardLoad, ...]:
    shards: list[ShardLoad] = []
    constrained = source.pick((False, False, True))
    for i in range(source.integer(0, 12)):
        slots = [s.shard_id for s in shards if s.parent is None and not s.together]
        group = source.pick((*(g.group_id for g in groups), "", ""))
        shared = [g.group_id for g in groups if not g.distinct_nodes]
        label = source.pick(("", "", "", "t")) if constrained and group == (shared[0] if shared else "") else ""
        parent = source.pick(slots) if slots and not label and not source.integer(0, 9) else None
        pins = source.pick(names) if constrained and not source.integer(0, 5) else ""
        avoids = source.pick(names) if constrained and not source.integer(0, 3) else ""
        least = source.pick((None, None, None, 1, 2)) if parent is None else None
        shards.append(
            ShardLoad(
                i,
                _row(source, horizon),
                _row(source, horizon, (0.0, 0.1, 0.5, 2.0)),
                tuple((x, -0.5 * x) for x in _row(source, horizon, (0.0, 0.1, 1.0))) if source.integer(0, 1) else (),
                *source.pick(((10, 2), (1_000, 100), (0, 0), (10, 10), (1_000, 0))),
                recent_share=source.pick((0.0, 0.4, 0.8, 1.0)),
                needs={r.name: source.pick((0.0, 1.0, 5.0, 12.0)) for r in resources if source.integer(0, 2)},
                min_replicas=least,
                max_replicas=source.pick((None, None, 3, 4)),
                pins=(pins,) if pins else (),
                avoids=(avoids,) if avoids and avoids != pins else (),
                group=group,
                together=label,
                move_cost=source.pick((0.0, 0.0, 1.5)),
                parent=parent,
            )
        )
    return tuple(shards)


def _policy(source: Source) -> Policy:
    return Policy(
        min_full_replicas=source.pick((1, 2, 2, 3)),
        max_replicas=source.pick((3, 4, 5)),
        max_moves=source.pick((1_000, 1_000, 5, 1, 0)),
        max_move_bytes=source.pick((1 << 40, 1 << 40, 1_000, 0)),
        max_moves_in_flight=source.pick((16, 2, 1)),
        max_bytes_in_flight=source.pick((1 << 38, 1_000, 10)),
        group_move_cost=source.pick((0.0, 1.0)),
        risk_z=source.pick((1.645, 0.0, 3.0)),
    )


def _layout(source: Source, shards: Sequence[ShardLoad], pool: Sequence[Node], policy: Policy) -> Layout:
    """The plain hash layout with a few replicas gone and others added, or any replicas on any nodes, gone ones among them."""
    ids = [s.shard_id for s in shards]
    replicas: dict[tuple[int, str], Replica] = {}
    accepting = [n for n in pool if n.accepts_shards]
    if accepting and source.integer(0, 3):
        settled = accepting[: source.integer(1, len(accepting))]
        replicas = {(r.shard_id, r.node_id): r for r in initial_layout(ids, settled, policy).replicas}
        for place in list(replicas):
            if not source.integer(0, 15):
                del replicas[place]
        extra = source.pick((0, 0, 2, 5))
    else:
        extra = source.integer(0, 3 * len(ids))
    if extra:
        for _ in range(extra):
            shard_id = source.integer(0, len(ids))
            node_id = source.pick([*(n.node_id for n in pool), "gone"])
            day = source.pick((None, None, HOT_FROM))
            replicas[shard_id, node_id] = Replica(shard_id, node_id, source.pick((0.1, 0.5, 1.0)), day)
    return Layout(source.integer(0, 9), tuple(replicas[place] for place in sorted(replicas)))


def _balances(source: Source, resources: Sequence[Resource], pool: Sequence[Node]) -> tuple[Balance, ...]:
    if len(resources) < 2 or not all(r.name in n.limits for n in pool for r in resources) or not source.integer(0, 1):
        return ()
    return (Balance(resources[0].name, resources[1].name, source.pick((0.5, 1.0, 2.0)), source.pick((0.1, 1.0))),)


def _heavy(source: Source, shards: Sequence[ShardLoad], horizon: int) -> tuple[HeavyEntity, ...]:
    """Entities that have a shard of their own already, and for a few slots one that has none and takes half of its load."""
    heavy = [
        HeavyEntity(
            f"e{s.shard_id}", s.parent, s.mean, s.spread_own, s.spread_common, s.bytes_full, s.bytes_hot, 0.5, s.shard_id
        )
        for s in shards
        if s.parent is not None
    ]
    for s in shards:
        if s.parent is None and not source.integer(0, 9):
            half, own = tuple(x / 2 for x in s.mean), tuple(x / 2 for x in s.spread_own)
            heavy.append(
                HeavyEntity(f"e{s.shard_id}", s.shard_id, half, own, (), s.bytes_full // 2, s.bytes_hot // 2, s.recent_share)
            )
    return tuple(heavy)


def _pair_cost(source: Source, count: int) -> tuple[tuple[float, ...], ...]:
    if source.integer(0, 3):
        return ()
    return tuple(tuple(0.0 if i == j else source.pick((0.0, 1.0, 5.0)) for j in range(count)) for i in range(count))
