"""Retiring copies from serving tables, which needs no Spark session.

A whole partition goes by a change of metadata only; the older days of a shard by rewriting its files. The caller holds the
lease of the node's table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from foreshard.errors import ForeshardError
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


def stray_shards(settings: Settings, node_id: str) -> list[int]:
    """The shards of which the node's table has rows, though it neither holds them nor says that they are being copied."""
    table = _opened(settings, node_id)
    if table is None:
        return []
    said = contents(log.newest_commit(table, KEY))
    return sorted(_with_files(table) - set(said.holdings) - set(said.copies))


def drop_shards(
    settings: Settings, node_id: str, shard_ids: Iterable[int], still_held: Callable[[], None] = lambda: None
) -> None:
    """Removes the shards' rows and holdings from the node's table in one commit; the node refuses them from then on.

    A copy that is not whole goes too. Shards of which the table has nothing are passed over. `still_held` is called once the
    table was read, and raises if the caller's lease is lost: who took it over commits after that, and this commit then fails.
    Raises ForeshardError if another writer commits meanwhile.
    """
    table = _opened(settings, node_id)
    if table is None:
        return
    before = contents(log.newest_commit(table, KEY))
    gone = sorted(set(shard_ids) & (set(before.holdings) | set(before.copies) | _with_files(table)))
    if gone:
        still_held()
        with _as_next_version(node_id):
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
    with _as_next_version(node_id):
        table.delete(older, commit_properties=_saying(replace(before, holdings=holdings, copies=copies)))


def compact(settings: Settings, node_id: str) -> int:
    """Brings the files of each shard together, in one commit that says what the last one said; returns how many files went.

    A node reads the shards of which it did so anew.
    """
    table = _opened(settings, node_id)
    if table is None:
        return 0
    said = contents(log.newest_commit(table, KEY))
    with _as_next_version(node_id):
        done = table.optimize.compact(commit_properties=_saying(said))
    return int(done["numFilesRemoved"])


def _opened(settings: Settings, node_id: str) -> DeltaTable | None:
    try:
        return DeltaTable(settings.table(f"serving/{node_id}"))
    except TableNotFoundError:
        return None


def _with_files(table: DeltaTable) -> set[int]:
    return {int(shard) for shard in table.get_add_actions(flatten=True)["partition.shard_id"].to_pylist()}


def _has_older(said: Contents, shard: int, day: date) -> bool:
    held, copy = said.holdings.get(shard), said.copies.get(shard)
    return (held is not None and reaches_beyond(held.covers_from, day)) or (
        copy is not None and reaches_beyond(copy.covers_from, day)
    )


def _among(shards: Iterable[int]) -> str:
    return f"shard_id IN ({', '.join(map(str, shards))})"


def _saying(said: Contents) -> CommitProperties:
    """Of the version that was read only: tried again upon another writer's, it would take back what that says of its shards."""
    version = max((h.applied_version for h in said.holdings.values()), default=0)
    metadata = {"userMetadata": log.packed(said.metadata(version))}
    return CommitProperties(custom_metadata=metadata, max_commit_retries=0)


@contextmanager
def _as_next_version(node_id: str) -> Iterator[None]:
    try:
        yield
    except CommitFailedError:
        raise ForeshardError(
            f"the serving table of {node_id} was changed by another writer meanwhile, so nothing was committed; run again"
        ) from None
