"""Serving tables written by delta-rs with the holdings of docs/architecture.md in their commits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

Row = tuple[str, datetime, str, int]  # entity, hour, quantity, events
HOUR = datetime(2013, 11, 20, 5, tzinfo=UTC)

_SCHEMA = pa.schema(
    [
        ("entity_id", pa.string()),
        ("service_id", pa.string()),
        ("operation_id", pa.string()),
        ("hour", pa.timestamp("us", "UTC")),
        ("slot", pa.int32()),
        ("quantity", pa.decimal128(28, 6)),
        ("events", pa.int64()),
        ("day", pa.date32()),
        ("shard_id", pa.int32()),
    ]
)


def commit_properties(applied: Mapping[int, int], covers_from: Mapping[int, date] | None = None) -> CommitProperties:
    """The holdings after a commit: shard → applied version, and the day from which on a hot replica covers."""
    hot = covers_from or {}
    held = {
        str(shard): {"applied_version": version, "covers_from": hot[shard].isoformat() if shard in hot else None}
        for shard, version in applied.items()
    }
    said = {"source_version": max(applied.values(), default=0), "holdings": held}
    return CommitProperties(custom_metadata={"userMetadata": json.dumps(said)})


def serving_rows(shard_id: int, rows: Sequence[Row]) -> pa.Table:
    """Rows of a serving table, all of service `s` and operation `o`."""
    return pa.Table.from_pylist(
        [
            {
                "entity_id": entity,
                "service_id": "s",
                "operation_id": "o",
                "hour": hour,
                "slot": shard_id,
                "quantity": Decimal(quantity),
                "events": events,
                "day": hour.date(),
                "shard_id": shard_id,
            }
            for entity, hour, quantity, events in rows
        ],
        schema=_SCHEMA,
    )


def put_shard(
    uri: str, shard_id: int, rows: Sequence[Row], applied: Mapping[int, int], covers_from: Mapping[int, date] | None = None
) -> None:
    """Replaces one shard of a serving table; `applied` is what the whole table holds afterwards."""
    exists = DeltaTable.is_deltatable(uri)
    write_deltalake(
        uri,
        serving_rows(shard_id, rows),
        partition_by=["shard_id"],
        mode="overwrite" if exists else "error",
        predicate=f"shard_id = {shard_id}" if exists else None,
        commit_properties=commit_properties(applied, covers_from),
    )
