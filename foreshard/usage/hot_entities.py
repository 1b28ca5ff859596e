"""Entities that deserve a shard of their own: they make up most of their slot's load, and much of what a node may carry.

Then moving the slot moves the trouble with it, and further replicas of the slot copy what nobody asks for. This is
what was, shown to people; the planner isolates entities by what is forecast, with the bounds of its policy.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from foreshard.settings import HotEntitySettings, Settings


@dataclass(frozen=True, slots=True)
class LoadRow:
    """A row of query_load: cost-weighted requests of one interval; an empty entity is the rest of the slot."""

    slot: int
    entity_id: str
    interval_start: datetime
    load: float


@dataclass(frozen=True, slots=True)
class HotEntity:
    """`load`: its p95 over the window, weighted requests per second; `slot_share` of its slot's load then, `node_share` of what
    a mean node may carry; `hours` in which it was as hot. `shard_id` is its own shard if it has one already."""

    entity_id: str
    slot: int
    load: float
    slot_share: float
    node_share: float
    hours: float
    shard_id: int | None
    reason: str


def hot_entities(settings: Settings, upto: datetime, isolated: Mapping[str, int]) -> list[HotEntity]:
    """The hot entities of the window that ends at `upto`, read from query_load; the hottest first, empty without a table.

    `isolated`: entity → its own shard. Those among them that are not in the result have cooled down.
    """
    first = upto - timedelta(hours=settings.hot_entities.window_hours)
    rows = _rows(settings, first, upto)
    if not settings.nodes:
        return []
    mean_capacity = sum(node.capacity for node in settings.nodes) / len(settings.nodes)
    bearable = mean_capacity * settings.policy.target_utilisation
    return find_hot(rows, settings.hot_entities, settings.forecast.grain_minutes, bearable, isolated)


def find_hot(
    rows: Iterable[LoadRow],
    rules: HotEntitySettings,
    grain_minutes: int,
    node_load: float,
    isolated: Mapping[str, int],
) -> list[HotEntity]:
    """The hot entities among these rows, all of one window; the hottest first.

    `node_load`: what a mean node may carry, weighted requests per second. An interval without a row of the entity counts as
    no load: there it was not among its slot's heavy hitters. O(rows).
    """
    of_slot: dict[tuple[int, datetime], float] = defaultdict(float)
    of_entity: dict[tuple[int, str], dict[datetime, float]] = defaultdict(dict)
    for row in rows:
        rate = row.load / (grain_minutes * 60)
        of_slot[row.slot, row.interval_start] += rate
        if row.entity_id:
            of_entity[row.slot, row.entity_id][row.interval_start] = rate
    intervals = rules.window_hours * 60 // grain_minutes
    found = []
    for (slot, entity), rates in of_entity.items():
        shares = {at: rate / of_slot[slot, at] for at, rate in rates.items() if of_slot[slot, at] > 0}
        hot = _judged(entity, slot, rates, shares, intervals, rules, grain_minutes, node_load, isolated.get(entity))
        if hot is not None:
            found.append(hot)
    return sorted(found, key=lambda hot: (-hot.load, hot.entity_id))


def _judged(
    entity: str,
    slot: int,
    rates: Mapping[datetime, float],
    shares: Mapping[datetime, float],
    intervals: int,
    rules: HotEntitySettings,
    grain_minutes: int,
    node_load: float,
    shard_id: int | None,
) -> HotEntity | None:
    factor = rules.keep_factor if shard_id is not None else 1.0
    least_load, least_share = factor * rules.node_share * node_load, factor * rules.slot_share
    load = _p95([*rates.values()], intervals)
    # Its share of the slot is judged where it matters: in the intervals in which it is that busy.
    busy = [at for at in shares if rates[at] >= least_load]
    hot = [at for at in busy if shares[at] >= least_share]
    needed = math.ceil(rules.hours * 60 / grain_minutes)
    if load < least_load or len(hot) < needed or 2 * len(hot) < len(busy):
        return None
    slot_share = sum(rates[at] for at in hot) / sum(rates[at] / shares[at] for at in hot)
    hours = len(hot) * grain_minutes / 60
    reason = (
        f"it makes up {slot_share:.0%} of slot {slot}'s load and {load / node_load:.0%} of what a mean node may carry, "
        f"for {hours:g} of the last {rules.window_hours} hours"
    )
    if shard_id is not None:
        reason += f"; it has shard {shard_id} of its own and is not down to {rules.keep_factor:.0%} of the bounds"
    return HotEntity(entity, slot, load, slot_share, load / node_load, hours, shard_id, reason)


def _p95(rates: list[float], intervals: int) -> float:
    """The load that at most one interval in twenty exceeds; intervals without a value are 0."""
    ordered = sorted(rates, reverse=True)
    above = intervals // 20
    return ordered[above] if above < len(ordered) else 0.0


def _rows(settings: Settings, first: datetime, upto: datetime) -> list[LoadRow]:
    try:
        table = DeltaTable(settings.table("query_load"))
    except TableNotFoundError:
        return []
    days = [(first + timedelta(days=d)).date().isoformat() for d in range((upto.date() - first.date()).days + 1)]
    read = table.to_pyarrow_table(
        partitions=[("day", "in", days)],
        columns=["slot", "entity_id", "interval_start", "load"],
        filters=[("interval_start", ">=", first), ("interval_start", "<", upto)],
    )
    columns = (read.column(name).to_pylist() for name in ("slot", "entity_id", "interval_start", "load"))
    return [LoadRow(slot, entity, _utc(at), float(load)) for slot, entity, at, load in zip(*columns, strict=True)]


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
