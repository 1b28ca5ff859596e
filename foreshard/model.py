"""The words of the domain as frozen dataclasses: what every step of the loop takes and gives.

Units: load and capacity are requests per second weighted by the mean cost of the operation; sizes are bytes.
Times are timezone-aware UTC. Nothing here imports Spark, Airflow or a database driver.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """What holds shards and does the work; in a pipeline pool, a pipeline.

    `capacity` is of load. `limits`: what it has of each further resource, which is never exceeded; `targets`: the share of a
    resource (`load` for the load) up to which it is meant to be used, 1 or the policy's where none is given.
    """

    node_id: str
    capacity: float
    state: NodeState = NodeState.ACTIVE
    url: str = ""
    zone: str = ""
    neighbourhood: str = ""  # nodes near enough to each other for shards that must be near others
    limits: Mapping[str, float] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)

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
    `needs`: what a full replica takes of each further resource on its node. `min_replicas`, `max_replicas`: allowed number, the
    policy's where None. `pins`: nodes that must hold it; `avoids`: nodes that must not. `group`: a `ShardGroup`; `together`:
    shards that name the same label share their nodes. `parent`: the slot of an isolated entity, whose replicas hold its rows.
    """

    shard_id: int
    mean: tuple[float, ...]
    spread_own: tuple[float, ...]
    spread_common: tuple[tuple[float, ...], ...] = ()
    bytes_full: int = 0
    bytes_hot: int = 0
    recent_share: float = 0.0
    needs: Mapping[str, float] = field(default_factory=dict)
    min_replicas: int | None = None
    max_replicas: int | None = None
    pins: tuple[str, ...] = ()
    avoids: tuple[str, ...] = ()
    group: str = ""
    together: str = ""
    move_cost: float = 0.0
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class ShardGroup:
    """Shards with a constraint in common: on distinct nodes, over so many zones, near another group.

    `near`: in each neighbourhood where this group has a replica each of these has one too.
    """

    group_id: str
    distinct_nodes: bool = False
    min_zones: int = 1
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource beside load. `transient`: what leaves a node takes it there until it is retired.

    `soft_cost`: of each unit used above a node's target for it.
    """

    name: str
    transient: bool = True
    soft_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Balance:
    """Per node, `cost` × max(0, `target` × free of `first` − free of `second`): room for one is of no use without the other."""

    first: str
    second: str
    target: float
    cost: float


@dataclass(frozen=True, slots=True)
class HeavyEntity:
    """An entity that may deserve a shard of its own. Load as in ShardLoad, and part of its slot's while it is not isolated."""

    entity_id: str
    slot: int
    mean: tuple[float, ...]
    spread_own: tuple[float, ...]
    spread_common: tuple[tuple[float, ...], ...] = ()
    bytes_full: int = 0
    bytes_hot: int = 0
    recent_share: float = 0.0
    shard_id: int | None = None  # its own shard, if it is isolated already
    reserved: int | None = None  # the number that its own shard will get; the next free one where None


@dataclass(frozen=True, slots=True)
class Isolation:
    """An entity that gets a shard of its own by a plan, or loses it (`ends`)."""

    entity_id: str
    slot: int
    shard_id: int
    reason: str
    ends: bool = False


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
    # A node that joins, or holds nothing, is filled up to this factor of its fair share of the load.
    floor_load: float = 0.85
    # A node above its bound is brought this share below it, so that noise does not bring it back at once.
    settle: float = 0.02
    # An entity whose predicted peak exceeds this share of the mean node capacity, and that share of its slot, is isolated.
    isolate_share: float = 0.3
    isolate_slot_share: float = 0.5
    # Copies that one node sends and receives at a time.
    max_moves_in_flight: int = 16
    max_bytes_in_flight: int = 1 << 38
    # How long things take, and what a node can still do meanwhile.
    copy_bytes_per_second: float = 50e6
    verify_seconds: float = 60.0
    margin_seconds: float = 600.0
    node_start_seconds: float = 120.0
    capacity_while_moving: float = 0.9
    # Costs in one currency: of a node for an hour, of one unit of load above the target for an hour, of a gigabyte moved.
    node_hour_cost: float = 1.0
    overload_cost: float = 1.0
    gigabyte_cost: float = 0.01
    group_move_cost: float = 0.0  # of each shard moved in the group in which most are
    min_nodes: int = 1
    max_nodes: int = 1_000_000


class MoveKind(StrEnum):
    MOVE = "move"  # copy to target, then retire from source
    REPLICATE = "replicate"  # copy to target
    WIDEN = "widen"  # a hot replica on target becomes full
    DROP = "drop"  # retire from source


class Goal(StrEnum):
    """What a move serves, in the order in which moves are carried out."""

    REPAIR = "repair"  # full replicas lost, or a hard constraint broken
    DRAIN = "drain"  # a node that is to be emptied
    REPLICATE = "replicate"  # more replicas for a hot shard
    FILL = "fill"  # a node that joined takes its share
    BALANCE = "balance"  # a node above its bound
    COST = "cost"  # soft limits and balances between resources
    CONSOLIDATE = "consolidate"  # replicas that a cold shard no longer needs


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a plan. `source` is empty for replicate and widen, `target` is empty for drop.

    `goal`: what it serves. `gain`: by how much, in the goal's own unit (load taken off an overloaded node, replicas gained).
    `wave`: moves of one wave are copied side by side, switched by one publication and then retired; the next wave begins after
    that. `start_by`: when it must begin for the load that it is made for, None if nothing presses.
    """

    kind: MoveKind
    shard_id: int
    source: str
    target: str
    covers_from: date | None
    bytes: int
    reason: str
    goal: Goal = Goal.BALANCE
    gain: float = 0.0
    wave: int = 0
    start_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class PlacementProblem:
    """All that a plan depends on. `steps` are the starts of the horizon's intervals.

    `pair_cost`: cost of moving a shard between two nodes, rows and columns in the order of `nodes`; empty if there is none.
    """

    pool_id: str
    layout: Layout
    nodes: tuple[Node, ...]
    shards: tuple[ShardLoad, ...]
    policy: Policy
    steps: tuple[datetime, ...]
    covers_from: date  # where a hot replica made by this plan begins
    groups: tuple[ShardGroup, ...] = ()
    resources: tuple[Resource, ...] = ()
    balances: tuple[Balance, ...] = ()
    heavy: tuple[HeavyEntity, ...] = ()
    pair_cost: tuple[tuple[float, ...], ...] = ()


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
    # Highest load over the mean of the accepting nodes, less 1, at the worst step.
    imbalance_before: float = 0.0
    imbalance_after: float = 0.0
    # (attained − lower bound) / lower bound; 0 where the bound is 0.
    peak_gap: float = 0.0
    bytes_gap: float = 0.0
    cost: float = 0.0  # soft limits, balances, overload and moves, where the problem gives them costs
    waves: int = 0


@dataclass(frozen=True, slots=True)
class NodeCount:
    """How many nodes there should be from a step on, and when changing to it must begin."""

    step: datetime
    nodes: int
    start_by: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Demands that cannot all be met, none of them dispensable, and what would make them possible."""

    demands: tuple[str, ...]
    remedy: str


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
    isolations: tuple[Isolation, ...] = ()
    node_counts: tuple[NodeCount, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadForecast:
    """One shard's load over one interval, weighted requests per second, as stored in `load_forecast`."""

    shard_id: int
    interval_start: datetime
    mean: float
    q95: float
    spread_own: float
    spread_common: tuple[float, ...]
