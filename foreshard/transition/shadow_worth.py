"""What the plans that shadow mode kept back would have been worth: the load that came, under their layout and the one at hand.

A plan counts from its first step until the next recorded plan's, or until another epoch, so that no hour counts twice; as if
its copies had been in place by then. Loads are those of slots: an isolated entity's counts with its slot, and what no replica
could have answered counts on no node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import duckdb
import numpy as np

from foreshard.lake import log
from foreshard.model import Layout, PlacementProblem, Plan
from foreshard.placement import codec
from foreshard.placement.loads import node_load
from foreshard.routing import database
from foreshard.settings import Settings
from foreshard.transition.plan_problem import unpacked
from foreshard.transition.shadow_mode import ACTOR
from foreshard.usage.watermark import watermark

NEWEST = 20
Loads = Mapping[tuple[int, int], float]  # (slot, second since 1970) → weighted requests of the interval


@dataclass(frozen=True, slots=True)
class PlanWorth:
    """One plan that was kept back, over `hours` of its steps that came.

    `state`: replaced if the next plan began before a step of this one. `load`: weighted requests that came; `above_…`: of
    these, beyond nodes' capacity under the layout at hand and under the plan's; `peak_…`: the highest load / capacity of a node
    at any step. `copies`, `copied_bytes`: beyond what the recorded plan before it would have brought already.
    """

    plan_id: str
    made_at: datetime
    state: Literal["measured", "not yet", "replaced"]
    moves: int
    bytes: int
    copies: int
    copied_bytes: int
    hours: float = 0.0
    load: float = 0.0
    above_at_hand: float = 0.0
    above_planned: float = 0.0
    peak_at_hand: float = 0.0
    peak_planned: float = 0.0


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A plan kept back; it would have held from `steps`' first until `until`, where that is known."""

    made_at: datetime
    plan: Plan
    problem: PlacementProblem
    until: datetime | None


def shadow_worth(settings: Settings, url: str, newest: int = NEWEST) -> tuple[PlanWorth, ...]:
    """The `newest` plans that shadow mode kept back, the last made first; time O(plans × replicas × steps).

    Raises ForeshardError if a plan or its problem cannot be read.
    """
    plans = _read(settings, url, newest)
    grain = timedelta(minutes=settings.forecast.grain_minutes)
    complete_to = watermark(settings, "query_load").hour
    came = [[s for s in _steps(p) if complete_to is not None and s + grain <= complete_to] for p in plans]
    loads = _loads_that_came(settings, [s for steps in came for s in steps])
    found = []
    before: _Recorded | None = None
    for recorded, steps in zip(plans, came, strict=True):
        plan = recorded.plan
        follows = before is not None and before.plan.base_epoch == plan.base_epoch
        held = before.plan.layout if before is not None and follows else recorded.problem.layout
        copies, volume = _copies(held, recorded)
        state: Literal["not yet", "replaced"] = "not yet" if _steps(recorded) else "replaced"
        worth = PlanWorth(plan.plan_id, recorded.made_at, state, plan.metrics.moves, plan.metrics.bytes_moved, copies, volume)
        found.append(_measured(worth, recorded, steps, loads, grain) if steps else worth)
        before = recorded
    return tuple(reversed(found))


def _read(settings: Settings, url: str, newest: int) -> list[_Recorded]:
    """In the order in which they were made."""
    parameters = {"pool_id": settings.pool_id, "actor": ACTOR, "newest": newest}
    found: list[_Recorded] = []
    next_start: datetime | None = None
    for row in database.query(url, "list_shadow_plans", parameters):
        problem = unpacked(bytes(row["problem"]), row["plan_id"])
        ends = [moment for moment in (row["layout_until"], next_start) if moment is not None]
        found.append(_Recorded(row["created_at"], codec.plan_from_document(row["document"]), problem, min(ends, default=None)))
        next_start = min([*problem.steps[:1], *([next_start] if next_start else [])], default=next_start)
    return found[::-1]


def _steps(recorded: _Recorded) -> list[datetime]:
    """Those in which the plan's layout would have held."""
    return [s for s in recorded.problem.steps if recorded.until is None or s < recorded.until]


def _loads_that_came(settings: Settings, steps: Sequence[datetime]) -> Loads:
    table = log.opened(settings.table("query_load"))
    if table is None or not steps:
        return {}
    first, last = min(steps).astimezone(UTC), max(steps).astimezone(UTC)
    days = [(first.date() + timedelta(days=d)).isoformat() for d in range((last.date() - first.date()).days + 1)]
    opened = duckdb.connect()
    opened.register("loads", table.to_pyarrow_dataset(partitions=[("day", "in", days)]))
    rows = opened.execute(
        "SELECT slot, CAST(epoch(interval_start) AS BIGINT) AS second, CAST(sum(load) AS DOUBLE) FROM loads "
        "WHERE epoch(interval_start) BETWEEN $first AND $last GROUP BY ALL",
        {"first": first.timestamp(), "last": last.timestamp()},
    ).fetchall()
    return {(slot, second): load for slot, second, load in rows}


def _measured(worth: PlanWorth, recorded: _Recorded, steps: Sequence[datetime], loads: Loads, grain: timedelta) -> PlanWorth:
    seconds = grain.total_seconds()
    problem = _as_it_came(recorded.problem, steps, loads, seconds)
    capacity = np.array([[n.capacity] for n in problem.nodes])
    shards = {s.shard_id for s in problem.shards}

    def under(layout: Layout) -> tuple[float, float]:
        """(weighted requests above capacity, highest utilisation)"""
        kept = replace(layout, replicas=tuple(r for r in layout.replicas if r.shard_id in shards))
        load = node_load(problem, kept)
        return float(np.maximum(load - capacity, 0.0).sum()) * seconds, float((load / capacity).max())

    above_at_hand, peak_at_hand = under(recorded.problem.layout)
    above_planned, peak_planned = under(recorded.plan.layout)
    return replace(
        worth,
        state="measured",
        hours=len(steps) * seconds / 3600,
        load=sum(sum(s.mean) for s in problem.shards) * seconds,
        above_at_hand=above_at_hand,
        above_planned=above_planned,
        peak_at_hand=peak_at_hand,
        peak_planned=peak_planned,
    )


def _as_it_came(problem: PlacementProblem, steps: Sequence[datetime], loads: Loads, seconds: float) -> PlacementProblem:
    """The problem over these steps with the slots' loads that came, which are certain. A slot without a row had no load."""
    at = [round(step.timestamp()) for step in steps]
    shards = tuple(
        replace(
            shard,
            mean=tuple(loads.get((shard.shard_id, second), 0.0) / seconds for second in at),
            spread_own=(0.0,) * len(at),
            spread_common=(),
        )
        for shard in problem.shards
        if shard.parent is None
    )
    bare = replace(problem.layout, replicas=())
    return replace(problem, layout=bare, shards=shards, steps=tuple(steps), heavy=())


def _copies(held: Layout, recorded: _Recorded) -> tuple[int, int]:
    """How many replicas the plan's layout has that `held` lacks, or has only hot, and their bytes."""
    is_full = {(r.shard_id, r.node_id): r.is_full for r in held.replicas}
    new = [
        r
        for r in recorded.plan.layout.replicas
        if (r.shard_id, r.node_id) not in is_full or (r.is_full and not is_full[r.shard_id, r.node_id])
    ]
    sizes = {e.reserved: (e.bytes_full, e.bytes_hot) for e in recorded.problem.heavy if e.reserved is not None}
    sizes |= {s.shard_id: (s.bytes_full, s.bytes_hot) for s in recorded.problem.shards}
    return len(new), sum(sizes.get(r.shard_id, (0, 0))[0 if r.is_full else 1] for r in new)
