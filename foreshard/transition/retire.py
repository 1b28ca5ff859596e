"""Retiring copies from serving tables, which needs no Spark session.

A whole partition goes by a change of metadata only; the older days of a shard by rewriting its files. The caller holds the
lease of the node's table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import TableNotFoundError

from foreshard.lake import log
from foreshard.settings import Settings
from foreshard.transition.holdings import KEY, Contents, Holding, contents, reaches_beyond


def holdings_of(settings: Settings, node_id: str) -> dict[int, Holding]:
    """What the node's serving table holds, read without Spark; empty if there is no table."""
    return dict(contents(log.newest_commit(settings.table(f"serving/{node_id}"), KEY)).holdings)


def unfinished_copies(settings: Settings, node_id: str) -> dict[int, str]:
    """Shard → transaction of the copies that the node's table has in part: begun and not whole, or whole and not joined yet."""
    said = contents(log.newest_commit(settings.table(f"serving/{node_id}"), KEY))
    return {s: copy.transaction for s, copy in said.copies.items() if not copy.is_whole or s in said.widened}


def drop_shards(settings: Settings, node_id: str, shard_ids: Iterable[int]) -> None:
    """Removes the shards' rows and holdings from the node's table in one commit; the node refuses them from then on.

    A copy that is not whole goes too. Shards of which the table has nothing are passed over.
    """
    table = _opened(settings, node_id)
    if table is None:
        return
    before = contents(log.newest_commit(table, KEY))
    gone = sorted(set(shard_ids) & (set(before.holdings) | set(before.copies)))
    if gone:
        table.delete(_among(gone), commit_properties=_saying(before.without(gone)))


def narrow_shards(settings: Settings, node_id: str, first_days: Mapping[int, date]) -> None:
    """Removes the days of before `first_days` (shard → day) and says so in the same commit: each shard is a hot replica again.

    A copy that was being made of them ends. Shards of which the table has nothing from before that day are passed over.
    """
    table = _opened(settings, node_id)
    if table is None:
        return
    before = contents(log.newest_commit(table, KEY))
    narrowed = {s: day for s, day in first_days.items() if _has_older(before, s, day)}
    if not narrowed:
        return
    holdings = {
        shard: replace(h, covers_from=narrowed[shard]) if reaches_beyond(h.covers_from, narrowed.get(shard)) else h
        for shard, h in before.holdings.items()
    }
    copies = {shard: copy for shard, copy in before.copies.items() if shard not in narrowed}
    older = " OR ".join(f"(shard_id = {shard} AND day < '{day}')" for shard, day in sorted(narrowed.items()))
    table.delete(older, commit_properties=_saying(replace(before, holdings=holdings, copies=copies)))


def compact(settings: Settings, node_id: str) -> int:
    """Brings the files of each shard together, in one commit that says what the last one said; returns how many files went.

    A node reads the shards of which it did so anew.
    """
    table = _opened(settings, node_id)
    if table is None:
        return 0
    said = contents(log.newest_commit(table, KEY))
    done = table.optimize.compact(commit_properties=_saying(said))
    return int(done["numFilesRemoved"])


def _opened(settings: Settings, node_id: str) -> DeltaTable | None:
    try:
        return DeltaTable(settings.table(f"serving/{node_id}"))
    except TableNotFoundError:
        return None


def _has_older(said: Contents, shard: int, day: date) -> bool:
    held, copy = said.holdings.get(shard), said.copies.get(shard)
    return (held is not None and reaches_beyond(held.covers_from, day)) or (
        copy is not None and reaches_beyond(copy.covers_from, day)
    )


def _among(shards: Iterable[int]) -> str:
    return f"shard_id IN ({', '.join(map(str, shards))})"


def _saying(said: Contents) -> CommitProperties:
    version = max((h.applied_version for h in said.holdings.values()), default=0)
    return CommitProperties(custom_metadata={"userMetadata": log.packed(said.metadata(version))})
