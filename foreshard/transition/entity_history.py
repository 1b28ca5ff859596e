"""What entities brought of their slots' load, and how recent the data is that they ask for, read from Delta without Spark."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import duckdb

from foreshard.lake import log
from foreshard.settings import Settings
from foreshard.transition.entity_loads import EntityShare, shares

# Whole weeks, so that each day of the week counts alike; and long enough that an entity which is hot for an hour is not
# isolated for it, and joined again by a forecast that thinks little of that hour.
_WINDOW = timedelta(days=7)


def entity_shares(settings: Settings, upto: datetime, slots: Collection[int], apart: Collection[str]) -> list[EntityShare]:
    """The heavy hitters of these slots with their shares in the week before `upto`; none without a table.

    `apart`: entities with a forecast of their own, which are no part of their slots'.
    """
    table = log.opened(settings.table("query_load"))
    if table is None or not slots:
        return []
    first = upto - _WINDOW
    days = [(first + timedelta(days=d)).date().isoformat() for d in range((upto.date() - first.date()).days + 1)]
    database = duckdb.connect()
    database.register("loads", table.to_pyarrow_dataset(partitions=[("day", "in", days)]))
    # Hours by arithmetic: duckdb's own functions take the machine's time zone.
    rows = database.execute(
        "SELECT slot, entity_id, CAST(epoch(interval_start) AS BIGINT) // 3600 % 24 AS hour, sum(load) FROM loads "
        "WHERE list_contains($slots, slot) AND epoch(interval_start) >= $first AND epoch(interval_start) < $upto "
        "GROUP BY ALL ORDER BY ALL",
        {"slots": sorted(slots), "first": first.timestamp(), "upto": upto.timestamp()},
    ).fetchall()
    return shares(((slot, entity, int(hour), float(load)) for slot, entity, hour, load in rows), apart)


def recent_shares_of(settings: Settings, origin: datetime, entities: Collection[str]) -> dict[str, float]:
    """Entity → the part of its queries that a hot replica can answer, the least of all intervals; none without a table."""
    table = log.opened(settings.table("query_pattern"))
    if table is None or not entities:
        return {}
    database = duckdb.connect()
    database.register("patterns", table.to_pyarrow_dataset(partitions=[("origin_day", "=", origin.date().isoformat())]))
    found = database.execute(
        "WITH parts AS (SELECT entity_id, sum(probability) FILTER (WHERE time_interval = 'recent') AS recent, "
        "sum(probability) AS whole FROM patterns WHERE origin = $origin AND list_contains($entities, entity_id) "
        "GROUP BY entity_id, interval_start) "
        "SELECT entity_id, min(coalesce(recent, 0) / whole) FROM parts WHERE whole > 0 GROUP BY entity_id",
        {"origin": origin, "entities": sorted(entities)},
    ).fetchall()
    return {entity: min(float(share), 1.0) for entity, share in found}
