"""Problems and plans as documents: the pydantic models that check them at the edge and that the JSON Schema is made from."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import AllowInfNan, AwareDatetime, BaseModel, ConfigDict, Field, Strict

from foreshard.model import MoveKind, NodeState

Real = Annotated[float, Strict(), AllowInfNan(False)]
Positive = Annotated[Real, Field(gt=0)]
NotNegative = Annotated[Real, Field(ge=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
Count = Annotated[int, Strict(), Field(ge=0)]
AtLeastOne = Annotated[int, Strict(), Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReplicaDocument(Document):
    """One shard on one node; `covers_from` null is a full replica, a day makes it a hot one."""

    shard_id: Count
    node_id: Name
    weight: Positive = 1.0
    covers_from: date | None = None


class LayoutDocument(Document):
    """Shard → replicas under one epoch; at most one replica of a shard on a node."""

    epoch: Count
    replicas: list[ReplicaDocument]


class NodeDocument(Document):
    """Capacity in requests per second weighted by the mean cost of the operation."""

    node_id: Name
    capacity: Positive
    state: NodeState = NodeState.ACTIVE
    url: str = ""
    zone: str = ""


class ShardDocument(Document):
    """Predicted load of a shard: one value per step, and per step one value per common factor. Sizes in bytes."""

    shard_id: Count
    mean: list[NotNegative]
    spread_own: list[NotNegative]
    spread_common: list[list[Real]] = []
    bytes_full: Count = 0
    bytes_hot: Count = 0
    recent_share: Fraction = 0.0


class PolicyDocument(Document):
    """What a pool's owner decides. Fractions are of 1."""

    min_full_replicas: AtLeastOne = 2
    max_replicas: AtLeastOne = 4
    target_utilisation: Positive = 0.8
    bounded_load: Annotated[Real, Field(ge=1)] = 1.15
    hot_share: Positive = 0.15
    cold_factor: Fraction = 0.6
    risk_z: NotNegative = 1.645
    max_moves: Count = 1_000
    max_move_bytes: Count = 1 << 40
    auto_approve_moves: Count = 16
    auto_approve_bytes: Count = 1 << 30
    hot_replica_days: Count = 7


class ProblemDocument(Document):
    """All that a plan depends on. `steps` are the starts of the horizon's intervals, ISO 8601 with an offset."""

    format: Literal[1] = 1
    pool_id: Name
    layout: LayoutDocument
    nodes: list[NodeDocument]
    shards: list[ShardDocument]
    policy: PolicyDocument = PolicyDocument()
    steps: list[AwareDatetime]
    covers_from: date


class MoveDocument(Document):
    """One step of a plan; `source` is empty for replicate and widen, `target` for drop."""

    kind: MoveKind
    shard_id: Count
    source: str
    target: str
    covers_from: date | None
    bytes: Count
    reason: str


class MetricsDocument(Document):
    """Peaks are the highest predicted utilisation (load quantile / capacity) of any node at any step."""

    peak_before: NotNegative
    peak_after: NotNegative
    peak_lower_bound: NotNegative
    bytes_moved: Count
    bytes_lower_bound: Count
    moves: Count
    ended_by: str
    overloaded_nodes: list[str] = []


class PlanDocument(Document):
    format: Literal[1] = 1
    plan_id: Name
    pool_id: Name
    base_epoch: Count
    input_digest: str
    moves: list[MoveDocument]
    layout: LayoutDocument
    metrics: MetricsDocument
    deviations: list[str] = []
    summary: str = ""
