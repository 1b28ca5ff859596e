"""One moment of a transition as the controller sees it: all that a decision depends on, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from foreshard.model import MoveKind, NodeState
from foreshard.transition.machine import MoveState
from foreshard.transition_settings import TransitionSettings

COPIED_KINDS = frozenset({MoveKind.MOVE, MoveKind.REPLICATE, MoveKind.WIDEN})
RETIRED_KINDS = frozenset({MoveKind.MOVE, MoveKind.DROP})


@dataclass(frozen=True, slots=True)
class MoveView:
    """A move and how far it has come. `since`: when it came into its state. `step`: of the cut-over, as published last.

    `source_version`: what was copied, or is being copied, None before.
    """

    position: int
    kind: MoveKind
    shard_id: int
    source: str
    target: str
    covers_from: date | None
    bytes: int
    wave: int
    state: MoveState
    since: datetime
    paused_from: MoveState | None = None
    attempts: int = 0
    step: int = 0
    detail: str = ""  # why it failed or waits, as last recorded
    source_version: int | None = None

    @property
    def copies(self) -> bool:
        return self.kind in COPIED_KINDS

    @property
    def retires(self) -> bool:
        return self.kind in RETIRED_KINDS


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, with the shards it serves and the version of each (`applied`).

    `silent_seconds` since its last heartbeat; None if no node of the pool ever sent one.
    """

    node_id: str
    state: NodeState
    silent_seconds: float | None = None
    applied: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CopyView:
    """A replica's copy: the source version it has applied, and the version at which it was verified, and when."""

    applied_version: int | None = None
    verified_version: int | None = None
    verified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ShadowFigures:
    """What gateways saw of one new replica since its shadowing began. Latencies in milliseconds, 0 without queries."""

    compared: int = 0
    mismatched: int = 0
    failed: int = 0
    skipped: int = 0
    old_p95_ms: float = 0.0
    new_p95_ms: float = 0.0
    example: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node said to a move."""

    accepted: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """`lagging`: live gateways that have not acknowledged the current epoch. `gateways`: how many are live.

    `answers`: (position, "source" or "target") → what that node said. `shadows`: (shard, node) → figures. `source_version`:
    the newest of usage_hourly. `last_epoch`: what the plan published last, else the epoch it was made from.
    """

    plan_id: str
    plan_state: str
    base_epoch: int
    last_epoch: int
    current_epoch: int
    now: datetime
    moves: tuple[MoveView, ...]
    nodes: Mapping[str, NodeView]
    copies: Mapping[tuple[int, str], CopyView]
    source_version: int
    gateways: int
    lagging: tuple[str, ...]
    answers: Mapping[tuple[int, str], Answer]
    shadows: Mapping[tuple[int, str], ShadowFigures]
    settings: TransitionSettings
    rollback_reason: str = ""
