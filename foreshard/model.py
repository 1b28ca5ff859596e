"""The words of the domain as frozen dataclasses: what every step of the loop takes and gives.

Units: load and capacity are requests per second weighted by the mean cost of the operation; sizes are bytes.
Times are timezone-aware UTC. Nothing here imports Spark, Airflow or a database driver.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Literal

AgeClass = Literal["recent", "months", "older"]


@dataclass(frozen=True, slots=True)
class QueryPattern:
    """How likely a query of one shard asks for this: the probabilities of one shard and interval sum to 1."""

    entity_id: str
    service_id: str
    operation_id: str
    time_interval: str  # the age class of the data asked for
    probability: float


@dataclass(frozen=True, slots=True)
class PipelineState:
    """A pipeline as a gateway sees it; `current_load` and `capacity` in weighted requests per second."""

    pipeline_id: str
    current_load: float
    capacity: float
    shard_ids: tuple[int, ...]


class NodeState(StrEnum):
    ACTIVE = "active"
    JOINING = "joining"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Node:
    """What holds shards and does the work; in a pipeline pool, a pipeline."""

    node_id: str
    capacity: float
    state: NodeState = NodeState.ACTIVE
    url: str = ""
    zone: str = ""

    @property
    def accepts_shards(self) -> bool:
        return self.state in (NodeState.ACTIVE, NodeState.JOINING)

    @property
    def is_live(self) -> bool:
        return self.state is not NodeState.DEAD


@dataclass(frozen=True, slots=True)
class Replica:
    """One shard on one node. `covers_from` None is a full replica; a day makes it a hot one, which holds that day on."""

    shard_id: int
    node_id: str
    weight: float = 1.0
    covers_from: date | None = None

    @property
    def is_full(self) -> bool:
        return self.covers_from is None


@dataclass(frozen=True, slots=True)
class Layout:
    """Shard → replicas with weights, and the node set, under one epoch."""

    epoch: int
    replicas: tuple[Replica, ...]

    def of_shard(self, shard_id: int) -> tuple[Replica, ...]:
        return tuple(r for r in self.replicas if r.shard_id == shard_id)

    def of_node(self, node_id: str) -> tuple[Replica, ...]:
        return tuple(r for r in self.replicas if r.node_id == node_id)


@dataclass(frozen=True, slots=True)
class ShardLoad:
    """A shard as the planner sees it over the horizon's steps.

    `mean`, `spread_own`: one value per step. `spread_common`: per step, one value per common factor.
    `recent_share`: the part of the load that a hot replica can answer.
    """

    shard_id: int
    mean: tuple[float, ...]
    spread_own: tuple[float, ...]
    spread_common: tuple[tuple[float, ...], ...] = ()
    bytes_full: int = 0
    bytes_hot: int = 0
    recent_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What a pool's owner decides. Fractions are of 1."""

    min_full_replicas: int = 2
    max_replicas: int = 4
    target_utilisation: float = 0.8
    # A node may hold this factor times its fair share of the load before shards leave their hash preference.
    bounded_load: float = 1.15
    # A shard whose predicted peak exceeds this share of the mean node capacity gets further replicas.
    hot_share: float = 0.15
    # A replica beyond the minimum goes when the shard's peak falls below hot_share times this (hysteresis).
    cold_factor: float = 0.6
    risk_z: float = 1.645
    max_moves: int = 1_000
    max_move_bytes: int = 1 << 40
    # Plans within both of these run without a person's approval.
    auto_approve_moves: int = 16
    auto_approve_bytes: int = 1 << 30
    hot_replica_days: int = 7


class MoveKind(StrEnum):
    MOVE = "move"  # copy to target, then retire from source
    REPLICATE = "replicate"  # copy to target
    WIDEN = "widen"  # a hot replica on target becomes full
    DROP = "drop"  # retire from source


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a plan. `source` is empty for replicate and widen, `target` is empty for drop."""

    kind: MoveKind
    shard_id: int
    source: str
    target: str
    covers_from: date | None
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class PlacementProblem:
    """All that a plan depends on. `steps` are the starts of the horizon's intervals."""

    pool_id: str
    layout: Layout
    nodes: tuple[Node, ...]
    shards: tuple[ShardLoad, ...]
    policy: Policy
    steps: tuple[datetime, ...]
    covers_from: date  # where a hot replica made by this plan begins


@dataclass(frozen=True, slots=True)
class PlanMetrics:
    """Peak figures are the highest predicted utilisation (load quantile / capacity) of any node at any step."""

    peak_before: float
    peak_after: float
    peak_lower_bound: float
    bytes_moved: int
    bytes_lower_bound: int
    moves: int
    ended_by: str  # which limit ended the search
    overloaded_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered moves from one layout to the next. `plan_id` is a hash of the inputs' digest and the moves."""

    plan_id: str
    pool_id: str
    base_epoch: int
    input_digest: str
    moves: tuple[Move, ...]
    layout: Layout
    metrics: PlanMetrics
    deviations: tuple[str, ...] = field(default=())
    summary: str = ""


@dataclass(frozen=True, slots=True)
class LoadForecast:
    """One shard's load over one interval, weighted requests per second, as stored in `load_forecast`."""

    shard_id: int
    interval_start: datetime
    mean: float
    q95: float
    spread_own: float
    spread_common: tuple[float, ...]
