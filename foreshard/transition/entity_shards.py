"""The numbers of the shards that entities have, or would have, of their own; kept in Postgres, an entity's for good.

A number that came to mean another entity would route the queries of an older epoch to copies of the wrong rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from foreshard.routing import database
from foreshard.routing import store as routing_store


def reserve(url: str, pool_id: str, isolated: Mapping[str, int], entity_ids: Sequence[str]) -> dict[str, int]:
    """Entity → the number of its own shard, of all these entities; those that had none get the next free ones.

    `isolated`: entity → shard of the current epoch, which stay. Safe to repeat and to run twice at once.
    """
    parameters = {
        "pool_id": pool_id,
        "isolated_ids": list(isolated),
        "isolated_shards": list(isolated.values()),
        "entity_ids": list(entity_ids),
    }
    rows = database.query(url, "reserve_entity_shards", parameters)
    return {row["entity_id"]: row["shard_id"] for row in rows}


def known(url: str, pool_id: str) -> dict[str, int]:
    """Entity → the number of its own shard, of all that ever had one or may get one by a plan not yet published.

    What copies, follows or verifies copies needs all of them: copies exist before an epoch isolates the entity, and until
    every gateway has adopted one that no longer does.
    """
    isolated = routing_store.isolated_entities(url, pool_id)
    taken = set(isolated.values())
    rows = database.query(url, "read_entity_shards", {"pool_id": pool_id})
    return {row["entity_id"]: row["shard_id"] for row in rows if row["shard_id"] not in taken} | isolated
