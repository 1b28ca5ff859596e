"""What of a copy is still to be done, and what a serving table says once a chunk more is in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from foreshard.transition.chunks import Span
from foreshard.transition.holdings import UNKNOWN_VERSION, Contents, Holding, Progress, reaches_beyond


@dataclass(frozen=True, slots=True)
class CopyJob:
    """What one move brings: a shard from the day `covers_from` on, None for all of it.

    `transaction` names the copy ('<plan_id>/<position>'): who copies under the same name goes on with it, under another anew.
    """

    position: int
    shard_id: int
    covers_from: date | None
    transaction: str


@dataclass(frozen=True, slots=True)
class Left:
    """What of a job is still to be copied, after what is `copied` of it.

    `replaces`: all that the table has of the shard goes with the first chunk. `widens`: the first day that a hot replica has of
    it. `narrow_to`: another copy brought rows of before this day to a hot replica; they must go first.
    """

    span: Span
    copied: Progress | None = None
    replaces: bool = False
    widens: date | None = None
    narrow_to: date | None = None


def left_of(said: Contents, job: CopyJob, version: int) -> Left | None:
    """What is left of a copy from the source's `version` to a table that says this of itself; None if it is done."""
    shard = job.shard_id
    copy, held = said.copies.get(shard), said.holdings.get(shard)
    if copy and (copy.transaction, copy.version, copy.covers_from) == (job.transaction, version, job.covers_from):
        if not copy.is_whole:
            return Left(Span(shard, job.covers_from, copy.copied_from), copy, widens=copy.widens)
        if held:
            return None
    hot_from = copy.widens if copy and copy.widens else held.covers_from if held else None
    if held and held.applied_version != UNKNOWN_VERSION and hot_from and reaches_beyond(job.covers_from, hot_from):
        return Left(
            Span(shard, job.covers_from, hot_from), widens=hot_from, narrow_to=hot_from if copy and copy.widens else None
        )
    return Left(Span(shard, job.covers_from, None), replaces=True)


def with_chunk(
    said: Contents,
    jobs: Mapping[int, CopyJob],
    version: int,
    done: Sequence[tuple[Left, Span]],
    written: Mapping[int, tuple[int, int]],
) -> Contents:
    """What the table says once these spans of what was left are in it; `written`: shard → rows and bytes of the chunk.

    Words about copies that are whole go once none of the jobs is about them.
    """
    holdings = dict(said.holdings)
    copies = {s: c for s, c in said.copies.items() if not c.is_whole or s in jobs or s in said.widened}
    for left, span in done:
        job = jobs[span.shard_id]
        rows, size = written.get(job.shard_id, (0, 0))
        if left.copied:
            rows, size = rows + left.copied.rows, size + left.copied.bytes
        first = job.covers_from if span.is_last else span.first
        progress = Progress(job.transaction, version, job.covers_from, first, span.is_last, rows, size, left.widens)
        copies[job.shard_id] = progress
        held = None if left.replaces else holdings.get(job.shard_id)
        if held is None:
            holdings.pop(job.shard_id, None)
        # A hot replica at another version stays as it is until it is next brought up to the source.
        if span.is_last and (held is None or held.applied_version == version):
            holdings[job.shard_id] = Holding(version, job.covers_from)
    return replace(said, holdings=holdings, copies=copies)
