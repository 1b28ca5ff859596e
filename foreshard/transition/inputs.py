"""What a plan is made from, read without Spark: the current layout, the nodes, the newest forecasts and the sizes of shards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from foreshard.errors import ForeshardError
from foreshard.hashing import entity_slot
from foreshard.lake import log
from foreshard.model import HeavyEntity, Layout, Node, PlacementProblem, ShardLoad
from foreshard.routing import store as routing_store
from foreshard.routing.pool import read_nodes, read_pool
from foreshard.routing.predicted import PredictedLoads
from foreshard.settings import Settings
from foreshard.transition import entity_shards
from foreshard.transition.entity_history import entity_shares, recent_shares_of
from foreshard.transition.entity_loads import as_isolated, forecast_apart, least_peak, part_of, weighed_up

Load = TypeVar("Load", ShardLoad, HeavyEntity)


@dataclass(frozen=True)
class ShardSize:
    """Bytes of a shard's rows in usage_hourly: all of them, and those from a hot replica's first day on."""

    full: int
    hot: int


@dataclass(frozen=True)
class Forecasts:
    """The newest forecast of the pool: one ShardLoad per shard (sizes still zero) over `steps`, and z for sums.

    `isolated`: entity → its own shard, of those that were isolated when it was made.
    """

    origin: datetime
    input_version: int
    z: float
    steps: tuple[datetime, ...]
    shards: tuple[ShardLoad, ...]
    isolated: Mapping[str, int] = field(default_factory=dict)


def placement_problem(settings: Settings, url: str, forecasts: Forecasts) -> PlacementProblem:
    """The problem as of now; raises ForeshardError if the pool is not initialised.

    Entities that may deserve a shard of their own get its number reserved, for good.
    """
    pool = read_pool(url, settings.pool_id)
    snapshot = routing_store.current(url, settings.pool_id)
    if snapshot is None:
        raise ForeshardError(f"pool {settings.pool_id} has no published epoch; run `foreshard init`")
    covers_from = hot_since(forecasts.origin, pool.policy.hot_replica_days)
    isolated = dict(snapshot.isolated)
    nodes = _corrected(settings, read_nodes(url, settings.pool_id))
    least = least_peak(pool.policy, nodes)
    busy = {s.shard_id for s in forecasts.shards if s.shard_id < settings.slots and max(s.mean, default=0.0) >= least}
    entities = _entities(settings, forecasts, isolated, busy)
    shards = as_isolated(forecasts.shards, entities, forecasts.isolated, isolated)
    others = (e for e in entities.values() if e.entity_id not in isolated)
    candidates = weighed_up(others, shards, least, pool.policy.isolate_slot_share)
    numbers = entity_shards.reserve(url, settings.pool_id, isolated, [e.entity_id for e in candidates])
    sizes = shard_sizes(settings, covers_from, {**numbers, **isolated})
    own = [replace(_sized(entities[e], sizes, s), shard_id=s) for e, s in sorted(isolated.items())]
    new = [replace(_sized(e, sizes, numbers[e.entity_id]), reserved=numbers[e.entity_id]) for e in candidates]
    return PlacementProblem(
        pool_id=settings.pool_id,
        layout=Layout(snapshot.epoch, snapshot.replicas),
        nodes=nodes,
        shards=tuple(_sized(s, sizes, s.shard_id) for s in shards),
        policy=replace(pool.policy, risk_z=forecasts.z),
        steps=forecasts.steps,
        covers_from=covers_from,
        heavy=(*own, *new),
    )


def _sized(load: Load, sizes: Mapping[int, ShardSize], shard_id: int) -> Load:
    size = sizes.get(shard_id, ShardSize(0, 0))
    return replace(load, bytes_full=size.full, bytes_hot=size.hot)


def predicted_loads(settings: Settings, forecasts: Forecasts, isolated: Mapping[str, int]) -> PredictedLoads:
    """Each shard's mean at each step, as gateways weigh by it, once these entities (entity → shard) are isolated."""
    entities = _entities(settings, forecasts, isolated, ())
    shards = as_isolated(forecasts.shards, entities, forecasts.isolated, isolated)
    return PredictedLoads.of_series([s.shard_id for s in shards], forecasts.steps, [s.mean for s in shards])


def _entities(
    settings: Settings, forecasts: Forecasts, isolated: Mapping[str, int], busy: Collection[int]
) -> dict[str, HeavyEntity]:
    """The loads of these isolated entities, of those with a forecast of their own, and of the busy slots' heavy hitters."""
    loads = {s.shard_id: s for s in forecasts.shards}
    apart = {e for e, shard in forecasts.isolated.items() if shard in loads}
    named = {e: entity_slot(e, settings.slot_bits) for e in {*isolated, *forecasts.isolated}}
    zeros = (0.0,) * len(forecasts.steps)
    found = {e: HeavyEntity(e, slot, zeros, zeros) for e, slot in named.items()}
    found |= {e: forecast_apart(e, named[e], loads[forecasts.isolated[e]]) for e in apart}
    slots = {*busy, *(slot for e, slot in named.items() if e not in apart)}
    shares = entity_shares(settings, forecasts.origin, slots & set(loads), apart)
    seen = [s for s in shares if s.slot in busy or s.entity_id in named]
    recent = recent_shares_of(settings, forecasts.origin, [s.entity_id for s in seen])
    for share in seen:
        part = part_of(loads[share.slot], share, forecasts.steps)
        found[share.entity_id] = replace(part, recent_share=recent.get(share.entity_id, part.recent_share))
    return found


def _corrected(settings: Settings, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """The nodes with what was learnt of them: one that comes out busier than predicted counts as that much smaller."""
    table = _open(settings, "node_correction")
    if table is None:
        return nodes
    newest: dict[str, tuple[datetime, float]] = {}
    for row in table.to_pyarrow_table(columns=["node_id", "origin", "correction"]).to_pylist():
        newest[row["node_id"]] = max(newest.get(row["node_id"], (row["origin"], 1.0)), (row["origin"], row["correction"]))
    return tuple(replace(n, capacity=n.capacity / newest[n.node_id][1]) if n.node_id in newest else n for n in nodes)


def hot_since(origin: datetime, days: int) -> date:
    """The first day of a hot replica made at `origin` (UTC): a query for the last `days` days, asked then or later, reaches no
    further back. That is so many whole days and the one that has begun."""
    return (origin - timedelta(days=days)).date()


def newest_forecasts(settings: Settings) -> Forecasts:
    """The forecast of the newest origin; raises ForeshardError if there is none."""
    table = _open(settings, "load_forecast")
    said = log.newest_commit(table, "input_version") if table else {}
    if table is None or not said:
        raise ForeshardError("there is no load_forecast to plan from; run the forecast_load job first")
    origin = datetime.fromisoformat(said["origin"])
    rows = table.to_pyarrow_table(
        partitions=[("origin_day", "=", origin.date().isoformat())],
        columns=["shard_id", "interval_start", "origin", "mean", "spread_own", "spread_common"],
    ).to_pylist()
    recent = _recent_shares(settings, origin)
    by_shard: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if _utc(row["origin"]) == origin:
            by_shard.setdefault(row["shard_id"], []).append(row)
    steps = sorted({_utc(row["interval_start"]) for own in by_shard.values() for row in own})
    shards = []
    for shard_id, own in sorted(by_shard.items()):
        ordered = sorted(own, key=lambda row: _utc(row["interval_start"]))
        shards.append(
            ShardLoad(
                shard_id=shard_id,
                mean=tuple(row["mean"] for row in ordered),
                spread_own=tuple(row["spread_own"] for row in ordered),
                spread_common=tuple(tuple(row["spread_common"]) for row in ordered),
                recent_share=recent.get(shard_id, 0.0),
            )
        )
    isolated = {entity: int(shard) for entity, shard in said.get("isolated", [])}
    return Forecasts(origin, int(said["input_version"]), float(said["z"]), tuple(steps), tuple(shards), isolated)


def _recent_shares(settings: Settings, origin: datetime) -> dict[int, float]:
    table = _open(settings, "query_pattern")
    if table is None:
        return {}
    database = duckdb.connect()
    database.register("patterns", table.to_pyarrow_dataset(partitions=[("origin_day", "=", origin.date().isoformat())]))
    # The least of all intervals: full replicas must be able to answer what hot ones cannot whenever that is most.
    relation = database.execute(
        "WITH shares AS (SELECT shard_id, sum(probability) FILTER (WHERE time_interval = 'recent') AS share "
        "FROM patterns WHERE origin = $origin GROUP BY shard_id, interval_start) "
        "SELECT shard_id, min(coalesce(share, 0)) FROM shares GROUP BY shard_id",
        {"origin": origin},
    )
    return {int(shard): min(float(share), 1.0) for shard, share in relation.fetchall()}


def shard_sizes(settings: Settings, covers_from: date, isolated: Mapping[str, int]) -> dict[int, ShardSize]:
    """Bytes per shard, from row counts and the table's mean bytes a row; an isolated entity counts in its slot as well."""
    table = _open(settings, "usage_hourly")
    if table is None:
        return {}
    files = table.get_add_actions(flatten=True)
    columns = {name: files.column(name) for name in ("size_bytes", "num_records")}
    records = sum(n or 0 for n in columns["num_records"].to_pylist())
    per_row = sum(columns["size_bytes"].to_pylist()) / records if records else 0.0
    database = duckdb.connect()
    database.register("usage", table.to_pyarrow_dataset())
    counted = database.execute(
        "SELECT slot, CASE WHEN list_contains($names, entity_id) THEN entity_id ELSE '' END AS own, count(*), "
        "count(*) FILTER (WHERE day >= $first) FROM usage GROUP BY ALL ORDER BY ALL",
        {"names": list(isolated), "first": covers_from},
    ).fetchall()
    rows: dict[int, tuple[int, int]] = {}
    for slot, entity, whole, hot in counted:
        for shard in {slot, isolated.get(entity, slot)}:
            before = rows.get(shard, (0, 0))
            rows[shard] = (before[0] + whole, before[1] + hot)
    return {shard: ShardSize(round(whole * per_row), round(hot * per_row)) for shard, (whole, hot) in rows.items()}


def _open(settings: Settings, name: str) -> DeltaTable | None:
    try:
        return DeltaTable(settings.table(name))
    except TableNotFoundError:
        return None


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
