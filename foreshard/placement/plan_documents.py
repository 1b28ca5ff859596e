"""Plans as documents: the pydantic models that check a plan that is read back."""

from __future__ import annotations

from pydantic import Field

from foreshard.model import Goal, MoveKind
from foreshard.placement.documents import Count, Day, Document, Format, Instant, LayoutDocument, Name, NotNegative, Real


class MoveDocument(Document):
    """One step of a plan; `source` is empty for replicate and widen, `target` for drop."""

    kind: MoveKind
    shard_id: Count
    source: str
    target: str
    covers_from: Day | None
    bytes: Count
    reason: str
    goal: Goal = Goal.BALANCE
    gain: Real = 0.0
    wave: Count = 0
    start_by: Instant | None = None


class MetricsDocument(Document):
    """Peaks are the highest predicted utilisation (load quantile / capacity) of any node at any step."""

    peak_before: NotNegative
    peak_after: NotNegative
    peak_lower_bound: NotNegative
    bytes_moved: Count
    bytes_lower_bound: Count
    moves: Count
    ended_by: str
    overloaded_nodes: list[str] = Field(default_factory=list)
    imbalance_before: NotNegative = 0.0
    imbalance_after: NotNegative = 0.0
    peak_gap: NotNegative = 0.0
    bytes_gap: NotNegative = 0.0
    cost: Real = 0.0
    waves: Count = 0


class IsolationDocument(Document):
    """An entity that gets a shard of its own, or loses it (`ends`)."""

    entity_id: Name
    slot: Count
    shard_id: Count
    reason: str
    ends: bool = Field(default=False, strict=True)


class NodeCountDocument(Document):
    """How many nodes there should be from a step on, and when changing to it must begin."""

    step: Instant
    nodes: Count
    start_by: Instant | None
    reason: str


class ConflictDocument(Document):
    """Demands that cannot all be met, and what would make them possible."""

    demands: list[str]
    remedy: str


class PlanDocument(Document):
    format: Format = 1
    plan_id: Name
    pool_id: Name
    base_epoch: Count
    input_digest: str
    moves: list[MoveDocument]
    layout: LayoutDocument
    metrics: MetricsDocument
    deviations: list[str] = Field(default_factory=list)
    summary: str = ""
    isolations: list[IsolationDocument] = Field(default_factory=list)
    node_counts: list[NodeCountDocument] = Field(default_factory=list)
    conflicts: list[ConflictDocument] = Field(default_factory=list)
