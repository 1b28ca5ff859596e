"""Problems and sound plans made by hand, for the verifier's tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

from clusters import HOT_FROM, START, steps

from foreshard.model import (
    Conflict,
    Goal,
    HeavyEntity,
    Isolation,
    Layout,
    Move,
    MoveKind,
    Node,
    NodeCount,
    NodeState,
    PlacementProblem,
    Plan,
    PlanMetrics,
    Policy,
    Replica,
    Resource,
    ShardGroup,
    ShardLoad,
)
from foreshard.placement import codec


def shard(shard_id: int, load: float = 1.0, size: int = 1_000, horizon: int = 4, **fields: object) -> ShardLoad:
    return ShardLoad(shard_id, (load,) * horizon, (0.0,) * horizon, (), size, size // 10, **fields)  # type: ignore[arg-type]


def layout(epoch: int, *places: tuple[int, str]) -> Layout:
    """Full replicas with equal weights."""
    count = {s: sum(other == s for other, _ in places) for s, _ in places}
    return Layout(epoch, tuple(Replica(s, n, 1.0 / count[s]) for s, n in places))


def move(
    kind: MoveKind,
    shard_id: int,
    source: str,
    target: str,
    goal: Goal,
    size: int,
    wave: int = 0,
    covers_from: date | None = None,
) -> Move:
    return Move(kind, shard_id, source, target, covers_from, size, "because", goal, 1.0, wave)


def plan_of(problem: PlacementProblem, moves: tuple[Move, ...], **fields: object) -> Plan:
    """The plan of these moves with the layout that they lead to, equal weights, and metrics without peaks."""
    held = {(r.shard_id, r.node_id): r.covers_from for r in problem.layout.replicas}
    for m in moves:
        if m.kind is not MoveKind.DROP:
            held[m.shard_id, m.target] = m.covers_from
    for m in moves:
        if m.kind in (MoveKind.MOVE, MoveKind.DROP):
            held.pop((m.shard_id, m.source), None)
    count = {s: sum(other == s for other, _ in held) for s, _ in held}
    replicas = tuple(Replica(s, n, 1.0 / count[s], day) for (s, n), day in held.items())
    volume, waves = sum(m.bytes for m in moves), len({m.wave for m in moves})
    digest = codec.input_digest(problem)
    plan = Plan(
        plan_id=codec.plan_id_of(digest, moves),
        pool_id=problem.pool_id,
        base_epoch=problem.layout.epoch,
        input_digest=digest,
        moves=moves,
        layout=Layout(problem.layout.epoch + 1, replicas),
        metrics=PlanMetrics(0.0, 0.0, 0.0, volume, 0, len(moves), "converged", waves=waves),
    )
    return replace(plan, **fields)  # type: ignore[arg-type]


def everything() -> tuple[PlacementProblem, Plan]:
    """A plan that repairs, drains, fills, isolates and consolidates, under every kind of constraint."""
    places = [(0, "n0"), (0, "n1"), (1, "n0"), (1, "n4"), (2, "n1"), (2, "n5"), (3, "n0"), (3, "n1"), (4, "n2"), (4, "n4")]
    places += [(5, "n0"), (5, "n1"), (6, "n0"), (6, "n1"), (7, "n1"), (7, "n2"), (8, "n0"), (8, "n1"), (100, "n1")]
    at_hand = layout(7, *places)
    at_hand = replace(at_hand, replicas=(*at_hand.replicas, Replica(8, "n2", 0.2, HOT_FROM)))
    storage = {"storage": 20.0}
    problem = PlacementProblem(
        pool_id="p",
        layout=at_hand,
        nodes=(
            Node("n0", 100.0, zone="a", neighbourhood="x", limits=storage),
            Node("n1", 100.0, zone="b", neighbourhood="x", limits=storage),
            Node("n2", 100.0, zone="c", neighbourhood="y", limits=storage),
            Node("n3", 100.0, NodeState.JOINING, zone="a", neighbourhood="y", limits=storage),
            Node("n4", 100.0, NodeState.DRAINING, zone="b", neighbourhood="y", limits=storage),
            Node("n5", 100.0, NodeState.DEAD, zone="c", neighbourhood="y", limits=storage),
        ),
        shards=(
            shard(0, needs={"storage": 1.0}, pins=("n0",), avoids=("n2",)),
            shard(1, needs={"storage": 4.0}),
            shard(2, needs={"storage": 4.0}),
            shard(3, group="g"),
            shard(4, group="g"),
            shard(5, together="t"),
            shard(6, together="t"),
            shard(7, group="h"),
            shard(8),
            shard(100, parent=0),
        ),
        policy=Policy(max_moves=20, max_move_bytes=20_000, max_nodes=10),
        steps=steps(4),
        covers_from=HOT_FROM,
        groups=(ShardGroup("g", distinct_nodes=True, min_zones=3), ShardGroup("h", near=("g",))),
        resources=(Resource("storage"),),
        heavy=(
            HeavyEntity("e0", 0, (1.0,) * 4, (0.0,) * 4, (), 1_000, 100, shard_id=100),
            HeavyEntity("e1", 1, (0.5,) * 4, (0.0,) * 4, (), 500, 50),
        ),
    )
    moves = (
        move(MoveKind.REPLICATE, 2, "", "n2", Goal.REPAIR, 1_000),
        move(MoveKind.DROP, 2, "n5", "", Goal.REPAIR, 0),
        move(MoveKind.MOVE, 1, "n4", "n2", Goal.DRAIN, 1_000),
        move(MoveKind.MOVE, 4, "n4", "n3", Goal.DRAIN, 1_000),
        replace(move(MoveKind.MOVE, 7, "n1", "n3", Goal.FILL, 1_000, 1), start_by=START + timedelta(hours=2)),
        move(MoveKind.REPLICATE, 101, "", "n2", Goal.REPLICATE, 0, 1),
        move(MoveKind.DROP, 8, "n2", "", Goal.CONSOLIDATE, 0, 1),
    )
    plan = plan_of(
        problem,
        moves,
        isolations=(Isolation("e1", 1, 101, "it is half of its slot"),),
        node_counts=(NodeCount(START + timedelta(hours=1), 4, START, "the load falls"),),
        conflicts=(Conflict(("shard 9 needs 3 zones", "there are 2 zones"), "add a zone"),),
    )
    return problem, plan


def three_nodes() -> tuple[PlacementProblem, Plan]:
    """Two nodes above their ceiling of 46 and one that joins, under a plan that fills it."""
    nodes = (Node("a", 100.0), Node("b", 100.0), Node("c", 100.0, NodeState.JOINING))
    shards = tuple(shard(i, load, horizon=1) for i, load in enumerate((30.0, 30.0, 10.0, 50.0)))
    at_hand = layout(1, (0, "a"), (1, "a"), (2, "a"), (3, "b"))
    problem = PlacementProblem("p", at_hand, nodes, shards, Policy(min_full_replicas=1), steps(1), HOT_FROM)
    moves = (move(MoveKind.MOVE, 1, "a", "c", Goal.FILL, 1_000),)
    metrics = PlanMetrics(0.7, 0.5, 0.4, 1_000, 500, 1, "converged", peak_gap=0.25, bytes_gap=1.0, waves=1)
    return problem, plan_of(problem, moves, metrics=metrics)


def settled() -> tuple[PlacementProblem, Plan]:
    """Two nodes in balance, under a plan that does nothing."""
    shards = tuple(shard(i, load, horizon=1, move_cost=1.5) for i, load in enumerate((30.0, 30.0, 10.0, 10.0)))
    at_hand = layout(1, (0, "a"), (1, "b"), (2, "a"), (3, "b"))
    nodes = (Node("a", 100.0), Node("b", 100.0))
    problem = PlacementProblem("p", at_hand, nodes, shards, Policy(min_full_replicas=1), steps(1), HOT_FROM)
    return problem, plan_of(problem, (), metrics=PlanMetrics(0.4, 0.4, 0.4, 0, 0, 0, "converged"))
