"""Placement problems as documents: the pydantic models that check them at the edge and that the JSON Schema is made from.

What one field alone cannot tell, such as a name that must be known elsewhere, is checked in references.py.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AllowInfNan, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from foreshard.model import NodeState

# Figures beyond these lose digits in sums of squares, and integers beyond 2^53 lose them in JSON itself.
LARGEST = 1e15
SMALLEST = 1e-9
LARGEST_COUNT = 1 << 53


def _text_like(pattern: str, example: str) -> BeforeValidator:
    """Refuses what pydantic would take for a time in seconds: numbers, and texts that hold one."""

    def check(value: object) -> object:
        if not isinstance(value, str) or not re.match(pattern, value, re.ASCII):
            raise ValueError(f"write it as {example}")
        return value

    return BeforeValidator(check)


def _within_centuries(instant: datetime) -> datetime:
    if not 1970 <= instant.year < 2200:
        raise ValueError("the year must be from 1970 to 2199")
    return instant


def _not_tiny(value: float) -> float:
    if value < SMALLEST:
        raise ValueError(f"must be at least {SMALLEST:g}")
    return value


def _no_boolean(value: object) -> object:
    if isinstance(value, bool | float):
        raise ValueError("must be the integer 1")
    return value


Real = Annotated[float, Strict(), AllowInfNan(False), Field(ge=-LARGEST, le=LARGEST)]
Positive = Annotated[float, Strict(), AllowInfNan(False), Field(gt=0, le=LARGEST), AfterValidator(_not_tiny)]
NotNegative = Annotated[float, Strict(), AllowInfNan(False), Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Strict(), AllowInfNan(False), Field(ge=0, le=1)]
Seconds = Annotated[float, Strict(), AllowInfNan(False), Field(ge=0, le=1e9)]
Count = Annotated[int, Strict(), Field(ge=0, le=LARGEST_COUNT)]
AtLeastOne = Annotated[int, Strict(), Field(ge=1, le=LARGEST_COUNT)]
Name = Annotated[str, Field(min_length=1)]
Day = Annotated[date, AfterValidator(_within_centuries), _text_like(r"\d{4}-\d\d-\d\d$", "2013-11-20")]
Instant = Annotated[AwareDatetime, AfterValidator(_within_centuries), _text_like(r"\d{4}-\d\d-\d\dT", "2013-11-27T00:00:00Z")]
Format = Annotated[Literal[1], BeforeValidator(_no_boolean)]


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReplicaDocument(Document):
    """One shard on one node; `covers_from` null is a full replica, a day makes it a hot one."""

    shard_id: Count
    node_id: Name
    weight: Positive = 1.0
    covers_from: Day | None = None


class LayoutDocument(Document):
    """Shard → replicas under one epoch; at most one replica of a shard on a node. Nodes that it names may be gone."""

    epoch: Count
    replicas: list[ReplicaDocument]


class NodeDocument(Document):
    """Capacity in requests per second weighted by the mean cost of the operation.

    `limits`: what it has of each of the problem's resources, without limit where none is given. `targets`: the share of a
    resource, or of `load`, up to which it is meant to be used.
    """

    node_id: Name
    capacity: Positive
    state: NodeState = NodeState.ACTIVE
    url: str = ""
    zone: str = ""
    neighbourhood: str = ""
    limits: dict[str, NotNegative] = {}
    targets: dict[str, Positive] = {}


class SegmentDocument(Document):
    """The rows of one slot on one day."""

    day: Day
    bytes: Count


class LoadDocument(Document):
    """Predicted load: one value per step, and per step one value per common factor. Sizes in bytes.

    A `bytes_hot` above `bytes_full` counts as `bytes_full`. Instead of both, `segments` gives bytes per day: hot are those from
    the problem's `covers_from` on.
    """

    mean: list[NotNegative]
    spread_own: list[NotNegative]
    spread_common: list[list[Real]] = []
    bytes_full: Count = 0
    bytes_hot: Count = 0
    segments: list[SegmentDocument] | None = None
    recent_share: Fraction = 0.0


class ShardDocument(LoadDocument):
    """A shard. `needs`: what a full replica takes of each resource. `parent`: the slot of an isolated entity.

    `min_replicas`, `max_replicas`: the policy's where null. `together`: shards with the same label share their nodes.
    """

    shard_id: Count
    needs: dict[str, NotNegative] = {}
    min_replicas: AtLeastOne | None = None
    max_replicas: AtLeastOne | None = None
    pins: list[Name] = []
    avoids: list[Name] = []
    group: str = ""
    together: str = ""
    move_cost: NotNegative = 0.0
    parent: Count | None = None


class HeavyDocument(LoadDocument):
    """An entity that may deserve a shard of its own; its load is part of its slot's unless `shard_id` names its own shard.

    `reserved`: the number that its own shard will get; the next free one where null.
    """

    entity_id: Name
    slot: Count
    shard_id: Count | None = None
    reserved: Count | None = None


class GroupDocument(Document):
    """Shards with a constraint in common. `near`: groups with a replica in each neighbourhood where this one has one."""

    group_id: Name
    distinct_nodes: bool = Field(default=False, strict=True)
    min_zones: AtLeastOne = 1
    near: list[Name] = []


class ResourceDocument(Document):
    """A resource beside load. `transient`: what leaves a node takes it there until it is retired."""

    name: Name
    transient: bool = Field(default=True, strict=True)
    soft_cost: NotNegative = 0.0


class BalanceDocument(Document):
    """Per node, `cost` × max(0, `target` × free of `first` − free of `second`); every node gives limits for both."""

    first: Name
    second: Name
    target: NotNegative
    cost: NotNegative


class PolicyDocument(Document):
    """What a pool's owner decides. Fractions are of 1. Where `max_replicas` is below `min_full_replicas`, the latter counts."""

    min_full_replicas: AtLeastOne = 2
    max_replicas: AtLeastOne = 4
    target_utilisation: Positive = 0.8
    bounded_load: Annotated[Real, Field(ge=1)] = 1.15
    hot_share: Positive = 0.15
    cold_factor: Fraction = 0.6
    risk_z: Annotated[NotNegative, Field(le=100)] = 1.645
    max_moves: Count = 1_000
    max_move_bytes: Count = 1 << 40
    auto_approve_moves: Count = 16
    auto_approve_bytes: Count = 1 << 30
    hot_replica_days: Count = 7
    floor_load: Fraction = 0.85
    settle: Annotated[Fraction, Field(lt=1)] = 0.02
    isolate_share: Positive = 0.3
    isolate_slot_share: Fraction = 0.5
    max_moves_in_flight: AtLeastOne = 16
    max_bytes_in_flight: AtLeastOne = 1 << 38
    copy_bytes_per_second: Annotated[Real, Field(ge=1)] = 50e6
    verify_seconds: Seconds = 60.0
    margin_seconds: Seconds = 600.0
    node_start_seconds: Seconds = 120.0
    capacity_while_moving: Annotated[Positive, Field(le=1)] = 0.9
    node_hour_cost: NotNegative = 1.0
    overload_cost: NotNegative = 1.0
    gigabyte_cost: NotNegative = 0.01
    group_move_cost: NotNegative = 0.0
    min_nodes: AtLeastOne = 1
    max_nodes: AtLeastOne = 1_000_000


class ProblemDocument(Document):
    """All that a plan depends on. `steps` are the starts of the horizon's intervals, ascending, ISO 8601 with an offset.

    `pair_cost`: cost of moving a shard between two nodes, rows and columns in the order of `nodes`; empty if there is none.
    """

    format: Format = 1
    pool_id: Name
    layout: LayoutDocument
    nodes: list[NodeDocument]
    shards: list[ShardDocument]
    policy: PolicyDocument = PolicyDocument()
    steps: list[Instant]
    covers_from: Day
    groups: list[GroupDocument] = []
    resources: list[ResourceDocument] = []
    balances: list[BalanceDocument] = []
    heavy: list[HeavyDocument] = []
    pair_cost: list[list[NotNegative]] = []


def path_of(location: tuple[Any, ...]) -> str:
    """A JSON path such as `$.nodes[0].limits.cpu`; names that are no plain words stand in brackets and quotes."""
    parts = ["$"]
    for part in location:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        else:
            parts.append(f".{part}" if re.fullmatch(r"\w+", str(part)) else f"[{str(part)[:60]!a}]")
    return "".join(parts)
