"""A world small enough to be explored whole: one plan, its copies, controllers that are killed, gateways and nodes.

What is real here is the code that decides: `decide` with its guards, `may_follow`, `layout_after` and `blend`. Everything
around them is a frozen value: what Postgres has, what the nodes' tables hold, what gateways route by. Time is an event, after
which whatever was waited for is over. Epochs have no numbers, only what is told apart: is it the current one, is it the
plan's own, has it changed since a controller read it. So the same situations meet again and the world is finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from foreshard.model import Layout, MoveKind, NodeState, Replica
from foreshard.transition.decision import SHADOW_STEP, Act
from foreshard.transition.layouts import blend, layout_after
from foreshard.transition.machine import MoveState
from foreshard.transition.picture import Answer, CopyView, MoveView, NodeView, Picture, ShadowFigures
from foreshard.transition_settings import TransitionSettings

Key = tuple[int, str]
Routed = frozenset[Key]
PARTIAL = -1  # a copy with rows missing or wrong
NOW = datetime(2026, 1, 2, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=2)

# What the world itself refuses, by SQL or in a node or a gateway; each can be taken away by its name.
WORLD_GUARDS = {
    "fence": "every write to Postgres checks that the lease is still held",
    "compare_and_set": "an epoch is published only over the one that was read",
    "legal_change": "a move changes its state only as the state machine allows, by the row as it is then",
    "only_people_resume": "a controller brings no paused move back to where it was paused",
    "verified_at_publish": "a published replica must be verified or serving",
    "full_replicas_at_publish": "a published shard has enough full replicas on live nodes",
    "acknowledged_at_retire": "a copy is given up only when all live gateways have acknowledged",
    "unrouted_at_retire": "a copy that the current epoch names is not given up",
    "goes_on_where_routed": "the move whose old copy is routed to again ends, and the copy stays",
    "ends_where_unserved": "a plan ends also where the layout to go back to has too few live replicas: the current one stays",
    "forgets_under_fence": "a replica's row is deleted in the transaction that ends its move",
    "fence_once_loaded": "who writes into a node's table checks the lease after having read the table",
    "table_unchanged": "a node's table is changed only from the version that was read",
    "node_refuses": "a node refuses the shards that it does not hold",
    "acknowledges_by_number": "an acknowledgement counts for the epoch that it names",
    "acknowledges_drained": "a gateway acknowledges when its queries by older epochs are done",
}


class Copy(NamedTuple):
    """`rows`: the version that the node's table holds whole, PARTIAL, or None. The rest is what Postgres says of it."""

    rows: int | None = None
    recorded: int | None = None
    verified: int | None = None
    fresh: bool = False
    status: str = ""  # "", copying, verified, serving, retiring


class Progress(NamedTuple):
    state: MoveState = MoveState.PLANNED
    paused_from: MoveState | None = None
    attempts: int = 0
    step: int = 0
    ripe: bool = False  # it has been in this state for long enough


class Gateway(NamedTuple):
    """`under_way`: what queries name that were routed by older epochs. `ack`: "", sent, late (of an older epoch), heard."""

    lease: str  # live, expired, or back: live again, and not acknowledged since
    routes: Routed
    is_current: bool = True
    under_way: Routed = frozenset()
    ack: str = "heard"


class Todo(NamedTuple):
    """A decision without its words."""

    act: Act
    positions: tuple[int, ...]
    wave: int
    state: MoveState | None
    step: int
    plan_state: str


class Cycle(NamedTuple):
    """A controller between reading and the last effect of what it decided. It may be stopped, or outlived, at each phase."""

    todo: Todo
    source: int  # version of the source when it was read
    seen: str = ""  # of the shadows, when it was read
    phase: int = 0
    fenced_off: bool = False
    overtaken: bool = False  # another epoch was published since the picture was read
    disturbed: bool = False  # another wrote into the tables since they were read
    keys: tuple[Key, ...] = ()  # copies that it has given up
    outcome: tuple[int | None, ...] = ()  # of a verification


class World(NamedTuple):
    """`leader` is what the controller with the lease is about, `stale` what one is that lost it and does not know."""

    moves: tuple[Progress, ...]
    copies: tuple[Copy, ...]  # in the order of Scenario.keys
    gateways: tuple[Gateway, ...]
    routed: Routed  # what the current epoch names
    nodes: tuple[str, ...] = ("up", "up")  # up, silent, lost (silent for too long), dead; in the order of Scenario.nodes
    answer: str = ""  # of the targets: "", yes, no
    loaded: Routed = frozenset()  # copies that a node says it serves
    source: int = 0
    plan_state: str = "running"
    has_published: bool = False
    is_own_epoch: bool = True  # the current epoch is what the plan published last, or was made from
    shadowing: bool = False
    seen: str = ""  # of the shadows: "", alike, different
    asked_back: str = ""  # "", asked, late: when it could not be heeded any more
    leader: Cycle | None = None
    stale: Cycle | None = None


@dataclass(frozen=True)
class Planned:
    """A move of the scenario's plan."""

    kind: MoveKind
    shard_id: int
    source: str
    target: str
    wave: int = 0


@dataclass(frozen=True)
class Scenario:
    """A plan, and which harm may come to it: each of `harms` enables events (see world_events)."""

    name: str
    moves: tuple[Planned, ...]
    base: Routed
    harms: frozenset[str] = frozenset()
    gateways: int = 1
    min_full: int = 1
    nodes: tuple[str, ...] = ("n1", "n2")
    settings: TransitionSettings = field(
        default_factory=lambda: TransitionSettings(shadow_share=0, cut_over=(0.5, 1.0), catch_up_versions=0, attempts=2)
    )

    @property
    def final(self) -> Routed:
        routed = set(self.base)
        for wave in sorted({m.wave for m in self.moves}):
            routed -= {(m.shard_id, m.source) for m in self.moves if m.wave == wave and m.source}
            routed |= {(m.shard_id, m.target) for m in self.moves if m.wave == wave and m.target}
        return frozenset(routed)

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple(sorted(self.base | {(m.shard_id, m.target) for m in self.moves if m.target}))

    @property
    def attended(self) -> bool:
        """Whether the targets send heartbeats."""
        return "nodes" in self.harms

    def start(self) -> World:
        held = Copy(0, 0, 0, True, "serving")
        copies = tuple(held if key in self.base else Copy() for key in self.keys)
        gateways = tuple(Gateway("live", self.base) for _ in range(self.gateways))
        return World(tuple(Progress() for _ in self.moves), copies, gateways, self.base, ("up",) * len(self.nodes))

    def views(self, world: World) -> tuple[MoveView, ...]:
        return tuple(
            MoveView(
                position=position,
                kind=plan.kind,
                shard_id=plan.shard_id,
                source=plan.source,
                target=plan.target,
                covers_from=None,
                bytes=1,
                wave=plan.wave,
                state=now.state,
                since=LONG_AGO if now.ripe else NOW,
                paused_from=now.paused_from,
                attempts=now.attempts,
                step=now.step,
            )
            for position, (plan, now) in enumerate(zip(self.moves, world.moves, strict=True))
        )

    def picture(self, world: World) -> Picture:
        """What a controller reads in one go."""
        last = 2 if world.has_published else 1
        known = {k: c for k, c in zip(self.keys, world.copies, strict=True) if c.status}
        targets = {(p, m) for p, m in enumerate(self.moves) if m.target}
        agreed = {(p, "target"): Answer(world.answer == "yes", "full") for p, _ in targets} if world.answer else {}
        figures = ShadowFigures(compared=self.settings.shadow_queries, mismatched=int(world.seen == "different"))
        lagging = tuple(str(i) for i, g in enumerate(world.gateways) if g.lease != "expired" and g.ack != "heard")
        return Picture(
            plan_id="p",
            plan_state=world.plan_state,
            base_epoch=1,
            last_epoch=last,
            current_epoch=last if world.is_own_epoch else 3,
            now=NOW,
            moves=self.views(world),
            nodes={name: self._node(world, name, said) for name, said in zip(self.nodes, world.nodes, strict=True)},
            copies={
                k: CopyView(c.recorded, c.verified, None if c.verified is None else NOW if c.fresh else LONG_AGO)
                for k, c in known.items()
            },
            source_version=world.source,
            gateways=sum(g.lease != "expired" for g in world.gateways),
            lagging=lagging,
            answers=agreed,
            shadows={(m.shard_id, m.target): figures for _, m in targets} if world.seen else {},
            settings=self.settings,
            rollback_reason="asked for" if world.asked_back else "",
        )

    def _node(self, world: World, name: str, said: str) -> NodeView:
        state = NodeState.DEAD if said == "dead" else NodeState.ACTIVE
        is_target = any(m.target == name for m in self.moves)
        seconds = {"up": 0.0, "silent": 60.0, "lost": 3600.0, "dead": 3600.0}[said]
        applied = {s: world.copies[self.keys.index((s, n))].rows or 0 for s, n in world.loaded if n == name}
        return NodeView(name, state, seconds if self.attended and is_target else None, applied)

    def layout(self, world: World, wave: int, step: int) -> Routed:
        """What the epoch of a step of the wave names; at SHADOW_STEP that of before the wave."""
        ended = {m.wave for m in self.moves if m.wave < wave}
        views = self.views(world)
        base, final = _layout(self.base), _layout(self.final)
        before = layout_after(base, final, views, ended, 1)
        if step == SHADOW_STEP:
            return routed(before)
        after = layout_after(base, final, views, ended | {wave}, 1)
        return routed(blend(before, after, self.settings.cut_over[step], 1))


def _layout(keys: Routed) -> Layout:
    return Layout(1, tuple(Replica(*key) for key in sorted(keys)))


def routed(layout: Layout) -> Routed:
    return frozenset((r.shard_id, r.node_id) for r in layout.replicas)


def copy_of(scenario: Scenario, world: World, key: Key) -> Copy:
    return world.copies[scenario.keys.index(key)]


def with_copies(scenario: Scenario, world: World, changes: Mapping[Key, Copy]) -> World:
    return world._replace(copies=tuple(changes.get(k, c) for k, c in zip(scenario.keys, world.copies, strict=True)))
