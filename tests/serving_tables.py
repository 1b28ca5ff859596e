"""Sources and serving tables for tests, written straight to Delta, and what they hold shard by shard."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from tables import records

from foreshard.hashing import entity_slot
from foreshard.lake import delta, log
from foreshard.lake.tables import USAGE_HOURLY
from foreshard.settings import Settings

Segment = list[tuple[Any, ...]]


def write_source(spark: Any, settings: Settings, rows: Iterable[tuple[str, datetime, int]]) -> int:
    """Replaces usage_hourly's days of these (entity, hour, quantity) by them in one commit; returns the new version."""
    path = USAGE_HOURLY.ensure(spark, settings)
    made = [
        (entity, "s", "o", hour, entity_slot(entity, settings.slot_bits), quantity, 1, hour.date())
        for entity, hour, quantity in rows
    ]
    names = "entity_id string, service_id string, operation_id string, hour timestamp"
    types = f"{names}, slot int, quantity int, events bigint, day date"
    frame = spark.createDataFrame(made, types).selectExpr(
        *[f"cast({f.name} AS {f.dataType.simpleString()}) AS {f.name}" for f in USAGE_HOURLY.schema.fields]
    )
    days = delta.days_condition([row[-1] for row in made])
    delta.replace_where(frame.coalesce(1), path, days, {"test": 1})
    return log.latest_version(path)


def source_shard(settings: Settings, shard: int, covers_from: date | None = None) -> Segment:
    """What a copy of the shard must hold."""
    found = [r for r in records(settings, "usage_hourly") if r["slot"] == shard]
    return _plain(r for r in found if covers_from is None or r["day"] >= covers_from)


def copied_shards(settings: Settings, node_id: str) -> dict[int, Segment]:
    """Shard → the rows that the node's table has of it."""
    found = records(settings, f"serving/{node_id}")
    return {shard: _plain(r for r in found if r["shard_id"] == shard) for shard in {r["shard_id"] for r in found}}


def _plain(rows: Iterable[dict[str, Any]]) -> Segment:
    return sorted((r["entity_id"], r["hour"].replace(tzinfo=UTC), r["quantity"], r["events"], r["day"]) for r in rows)
