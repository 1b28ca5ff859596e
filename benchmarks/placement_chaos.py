"""A thousand rounds of chaos: one key with half of the load, loads that drift, nodes that join, drain and die."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt

from benchmarks.placement_chaos_bound import least_movement
from benchmarks.placement_figures import Clock, Figure
from foreshard.model import Layout, Node, NodeState, PlacementProblem, Policy, ShardLoad
from foreshard.placement import initial_layout, solve

Floats = npt.NDArray[np.float64]

ROUNDS, SEED, SHARDS = 1_000, 1, 300
KEY_SHARE, DRIFT, CHANGE, RETURN = 0.5, 0.01, 0.1, 0.1
FEWEST, MOST, CAPACITY = 6, 8, 100.0
TOTAL = 400.0
POLICY = Policy(
    min_full_replicas=1,
    max_replicas=MOST,
    bounded_load=1.01,
    floor_load=0.99,
    settle=0.0,
    risk_z=0.0,
    max_moves=1 << 62,
    max_move_bytes=1 << 62,
)
STEP = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass
class Chaos:
    """The pool as it changes. Shard 0 is the key; the others' loads follow rank^−0.8 at first and then walk at random."""

    source: np.random.Generator
    nodes: list[Node] = field(default_factory=lambda: [Node(f"node-{i:03d}", CAPACITY) for i in range(7)])
    named: int = 7

    def __post_init__(self) -> None:
        self.size = np.round(self.source.lognormal(0.0, 1.0, SHARDS + 1) * 1e9).astype(np.int64)
        self.rest = np.arange(1, SHARDS + 1) ** -0.8
        self.key = KEY_SHARE

    def drift(self) -> None:
        """Every load by a lognormal step of 1 %. The key's share is drawn back towards a half, and the total stays."""
        self.rest = self.rest * np.exp(DRIFT * self.source.standard_normal(SHARDS))
        self.key = KEY_SHARE * (self.key / KEY_SHARE) ** (1 - RETURN) * math.exp(DRIFT * self.source.standard_normal())

    @property
    def loads(self) -> Floats:
        return TOTAL * np.concatenate([[self.key], (1 - self.key) * self.rest / self.rest.sum()])

    def change_nodes(self) -> str:
        """With a chance of one in ten a node joins, drains or dies; returns which, or nothing."""
        self.nodes = [replace(n, state=NodeState.ACTIVE) for n in self.nodes if n.accepts_shards]
        if self.source.random() >= CHANGE:
            return ""
        count = len(self.nodes)
        if count == FEWEST or (count < MOST and self.source.random() < 0.5):
            self.nodes.append(Node(f"node-{self.named:03d}", CAPACITY, NodeState.JOINING))
            self.named += 1
            return "joined"
        state = NodeState.DEAD if self.source.random() < 0.5 else NodeState.DRAINING
        at = int(self.source.integers(count))
        self.nodes[at] = replace(self.nodes[at], state=state)
        return state.value


def figures() -> list[Figure]:
    """Each round: a node may come or go, the plan is made from the loads as they are, then these drift and are measured.

    One full replica of each shard at least, the key as many as there are nodes; the plan may go 1 % above the mean.
    """
    found = _run("one replica", POLICY)
    return found + _run("two replicas", replace(POLICY, min_full_replicas=2))


def _run(name: str, policy: Policy) -> list[Figure]:
    chaos = Chaos(np.random.default_rng(SEED))
    layout = initial_layout(range(SHARDS + 1), chaos.nodes, policy)
    planned, imbalance, moved, bound, churned, events = [], [], 0, 0.0, 0, 0
    clock = Clock()
    for turn in range(ROUNDS + 1):
        events += bool(chaos.change_nodes()) if turn else 0
        problem = PlacementProblem("chaos", layout, tuple(chaos.nodes), _shards(chaos), policy, (STEP,), date(2026, 1, 1))
        with Clock() as once:
            plan = solve(problem)
        if turn:  # the first plan settles the hash layout
            clock.cpu, clock.wall = clock.cpu + once.cpu, clock.wall + once.wall
            planned.append(_imbalance(_on_nodes(chaos, plan.layout, chaos.loads)))
            copied = _copied(layout, plan.layout, chaos.size)
            if copied:
                moved, churned = moved + copied, churned + 1
                highest = float(_on_nodes(chaos, plan.layout, chaos.loads).max())
                bound += least_movement(chaos.loads, chaos.size, _holders(chaos, layout), highest, policy.min_full_replicas)
            chaos.drift()
            imbalance.append(_imbalance(_on_nodes(chaos, plan.layout, chaos.loads)))
        layout = plan.layout
    p50, p90, p95 = np.quantile(imbalance, [0.5, 0.9, 0.95])
    said = f"{ROUNDS:,} rounds, seed {SEED}, {events} times a node came or went; an industrial sharder's own test allows"
    return [
        Figure(f"{name}: imbalance p50", 100 * p50, "%", 1.0, beside=f"{said} 2 %"),
        Figure(f"{name}: imbalance p90", 100 * p90, "%", 2.0, beside="there 3 %"),
        Figure(f"{name}: imbalance p95", 100 * p95, "%", 3.0, beside=f"there 4 %; highest of all {100 * max(imbalance):.2f} %"),
        Figure(f"{name}: imbalance p95 by the loads planned for", 100 * float(np.quantile(planned, 0.95)), "%"),
        Figure(
            f"{name}: churn, bytes moved / bound",
            moved / bound if bound else 1.0,
            "",
            1.2,
            beside=f"moved {moved / 1e9:,.0f} GB in {churned} rounds, bound {bound / 1e9:,.0f} GB",
        ),
        Figure(f"{name}: CPU time of a plan", 1000 * clock.cpu / ROUNDS, "ms"),
    ]


def _imbalance(loads: Floats) -> float:
    return float((loads.max() - loads.mean()) / loads.mean())


def _shards(chaos: Chaos) -> tuple[ShardLoad, ...]:
    return tuple(
        ShardLoad(i, (float(load),), (0.0,), bytes_full=int(size), bytes_hot=int(size))
        for i, (load, size) in enumerate(zip(chaos.loads, chaos.size, strict=True))
    )


def _on_nodes(chaos: Chaos, layout: Layout, loads: Floats) -> Floats:
    """Load of each accepting node; raises SystemExit if the layout serves a shard from a node that is none."""
    at = {n.node_id: i for i, n in enumerate(n for n in chaos.nodes if n.accepts_shards)}
    strays = [r for r in layout.replicas if r.node_id not in at]
    weight = np.zeros(len(loads))
    for r in layout.replicas:
        weight[r.shard_id] += r.weight
    if strays or np.abs(weight - 1).max() > 1e-6:
        raise SystemExit(f"a plan left {len(strays)} replicas on nodes that leave, or a shard's weights do not sum to 1")
    total = np.zeros(len(at))
    for r in layout.replicas:
        total[at[r.node_id]] += r.weight * loads[r.shard_id]
    return total


def _copied(before: Layout, after: Layout, size: npt.NDArray[np.int64]) -> int:
    held = {(r.shard_id, r.node_id) for r in before.replicas}
    return sum(int(size[r.shard_id]) for r in after.replicas if (r.shard_id, r.node_id) not in held)


def _holders(chaos: Chaos, layout: Layout) -> npt.NDArray[np.bool_]:
    """Which accepting nodes hold which shards, shape (S, N)."""
    names: Sequence[str] = [n.node_id for n in chaos.nodes if n.accepts_shards]
    at = {name: i for i, name in enumerate(names)}
    held = np.zeros((SHARDS + 1, len(names)), dtype=np.bool_)
    for r in layout.replicas:
        if r.node_id in at:
            held[r.shard_id, at[r.node_id]] = True
    return held
