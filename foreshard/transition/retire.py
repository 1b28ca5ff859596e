"""Retiring copies: a whole partition of a serving table goes, which changes metadata only and needs no Spark session."""

from __future__ import annotations

from collections.abc import Iterable

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import TableNotFoundError

from foreshard.lake import log
from foreshard.settings import Settings
from foreshard.transition.holdings import KEY, SOURCE_TABLE, Holding, from_metadata, to_metadata, without


def holdings_of(settings: Settings, node_id: str) -> dict[int, Holding]:
    """What the node's serving table holds, read without Spark; empty if there is no table."""
    return from_metadata(log.newest_commit(settings.table(f"serving/{node_id}"), KEY))


def drop_shards(settings: Settings, node_id: str, shard_ids: Iterable[int]) -> None:
    """Removes the shards' rows and holdings from the node's table in one commit; the node refuses them from then on.

    The caller holds the table's lease. Shards that the table does not hold are passed over.
    """
    try:
        table = DeltaTable(settings.table(f"serving/{node_id}"))
    except TableNotFoundError:
        return
    said = log.newest_commit(table, KEY)
    before = from_metadata(said)
    gone = sorted(set(shard_ids) & set(before))
    if not gone:
        return
    after = without(before, gone)
    version = max((h.applied_version for h in before.values()), default=0)
    commit = log.packed(to_metadata(after, version, said.get(SOURCE_TABLE, "")))
    properties = CommitProperties(custom_metadata={"userMetadata": commit})
    table.delete(f"shard_id IN ({', '.join(map(str, gone))})", commit_properties=properties)
