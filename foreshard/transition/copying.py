"""Copying what moves bring to a node, in chunks that a throttle allows, going on after a kill where the last commit says.

The rows are staged where no reader sees them; only the commit of a chunk takes the table's turn. What the chunk changes was
worked out before, and holds only if the table still says the same of its shards when the commit is made: of two that copy the
same shard one finds that the other has gone on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cached_property
from typing import Any

from pyspark.sql import SparkSession

from foreshard.errors import ForeshardError
from foreshard.lake import log
from foreshard.lake.kept_versions import while_kept
from foreshard.lake.log import Snapshot
from foreshard.lake.staging import Staged, staged
from foreshard.lake.tables import serving
from foreshard.settings import Settings
from foreshard.transition.chunks import Sizes, Span, next_chunk
from foreshard.transition.copy import contents_of, of_source, packed_by_shard, source_rows
from foreshard.transition.copy_state import CopyJob, Left, left_of, with_chunk
from foreshard.transition.holdings import KEY, Contents, contents
from foreshard.transition.retire import narrow_shards
from foreshard.transition.segments import segment_bytes

# A throttled chunk takes so long, so that a kill, a pause and another rate cost no more than that.
_CHUNK_SECONDS = 10.0
Turn = Callable[[], AbstractContextManager[Any]]


class Stopped(ForeshardError):
    """The copy was told to stop; a later call goes on after the last chunk that was committed."""


def copy_moves(
    spark: SparkSession,
    settings: Settings,
    node_id: str,
    jobs: Sequence[CopyJob],
    version: int,
    isolated: Mapping[str, int],
    *,
    allowed: Callable[[int], bool] = lambda _: True,
    on_chunk: Callable[[Mapping[int, int]], bool] = lambda _: True,
    rate: Callable[[], float | None] = lambda: None,
    turn: Turn = nullcontext,
) -> dict[int, int]:
    """Copies these shards to the node from the source's `version`; returns the rows by position, with those of calls before.

    `rate`: bytes per second, asked before each chunk. Without one, all is one commit; with one, chunks of about ten seconds of
    whole segments, the newest days of each shard first. `allowed` is told the bytes of the next chunk (0 without a rate) and
    returns once they may be copied, or False to stop. `on_chunk` is told the bytes written so far by position after every
    commit, and returns False to stop. `turn` is entered for each commit: the lease of the node's table.

    A shard becomes a holding of the node with its last chunk. A node that has newer days of it as a hot replica goes on serving
    them and is brought only what it lacks; if the two are of different versions by then, `follow` joins them. From another
    version, or of a source made anew, the copy begins anew. Raises Stopped, VersionGone if the source no longer has the
    version, and ForeshardError for a shard that is named twice.
    """
    by_shard = {job.shard_id: job for job in jobs}
    if len(by_shard) < len(jobs):
        shard, _ = Counter(job.shard_id for job in jobs).most_common(1)[0]
        raise ForeshardError(f"shard {shard} is to be copied to {node_id} by two moves at once; plan one of them only")
    copies = _Copies(spark, settings, node_id, by_shard, version, isolated, turn)
    owed = 0  # bytes by which the chunks so far came to more than was reserved for them
    while left := copies.left():
        bytes_per_second = rate()
        spans = [one.span for one in left]
        chunk = next_chunk(spans, copies.sizes, bytes_per_second * _CHUNK_SECONDS) if bytes_per_second else spans
        reserved = max(sum(span.bytes for span in chunk) + owed, 0)
        if not allowed(reserved):
            raise Stopped(f"the copy to {node_id} was stopped before its next chunk; what was copied stays")
        written = copies.write(list(zip(left, chunk, strict=False)))
        if written is None:
            continue
        owed = owed + written - reserved if bytes_per_second else 0
        goes_on = on_chunk({job.position: copies.bytes_of(job) for job in jobs})
        if not goes_on and copies.left():
            raise Stopped(f"the copy to {node_id} was stopped after a chunk; what was copied stays")
    return {job.position: copies.rows_of(job) for job in jobs}


class _Copies:
    """The copies of some jobs (by shard) to one node, from one version of the source."""

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        node_id: str,
        jobs: Mapping[int, CopyJob],
        version: int,
        isolated: Mapping[str, int],
        turn: Turn,
    ) -> None:
        self._spark, self._settings, self._node_id, self._turn = spark, settings, node_id, turn
        self._jobs, self._version, self._isolated = jobs, version, isolated
        self._source_table = log.table_id(settings.table("usage_hourly"))
        self._table = serving(node_id)
        self._said = Contents()

    @cached_property
    def sizes(self) -> Sizes:
        coverage = {shard: job.covers_from for shard, job in self._jobs.items()}
        with while_kept("usage_hourly", self._version):
            return segment_bytes(self._spark, self._settings, self._version, coverage, self._isolated)

    def left(self) -> list[Left]:
        """What is left to copy, in the order of the jobs, as the table says now; leftovers beside hot replicas are removed."""
        self._said = of_source(contents_of(self._settings, self._node_id), self._source_table)
        found = self._left_in(self._said)
        narrow = {left.span.shard_id: left.narrow_to for left in found.values() if left.narrow_to}
        if not narrow:
            return list(found.values())
        with self._turn():
            narrow_shards(self._settings, self._node_id, narrow)
        return self.left()

    def _left_in(self, said: Contents) -> dict[int, Left]:
        found = {shard: left_of(said, job, self._version) for shard, job in self._jobs.items()}
        return {shard: left for shard, left in found.items() if left}

    def rows_of(self, job: CopyJob) -> int:
        """Rows copied of this job, as of the last look."""
        return self._said.copies[job.shard_id].rows

    def bytes_of(self, job: CopyJob) -> int:
        """Bytes copied of this job so far, as of the last look or chunk."""
        copy = self._said.copies.get(job.shard_id)
        return copy.bytes if copy and copy.transaction == job.transaction else 0

    def write(self, chunk: Sequence[tuple[Left, Span]]) -> int | None:
        """Copies these spans; returns the bytes written, or None, with nothing done, if the table says otherwise by now."""
        coverage = {span.shard_id: span.first for _, span in chunk}
        until = {span.shard_id: span.end for _, span in chunk if span.end}
        path = self._table.ensure(self._spark, self._settings)
        with ExitStack() as block:
            with while_kept("usage_hourly", self._version):
                rows = source_rows(self._spark, self._settings, self._version, coverage, self._isolated, until)
                files = block.enter_context(staged(packed_by_shard(rows, self._settings), path, self._table))
            block.enter_context(self._turn())
            now = self._table.newest(self._spark, self._settings)
            said = of_source(contents(log.newest_commit(now.table(), KEY)), self._source_table)
            left = self._left_in(said)
            if any(left.get(span.shard_id) != planned for planned, span in chunk):
                return None
            written = _written(files)
            self._said = with_chunk(said, self._jobs, self._version, chunk, written)
            replaced = [span.shard_id for left, span in chunk if left.replaces]
            transactions = self._transactions(now, [span.shard_id for _, span in chunk])
            files.commit(now, self._said.metadata(self._version), now.files(replaced), transactions)
            return sum(size for _, size in written.values())

    def _transactions(self, now: Snapshot, shards: Sequence[int]) -> dict[str, int]:
        """Delta's own record of the chunks: each copy's are numbered from 1."""
        names = [self._jobs[shard].transaction for shard in shards]
        return {name: (now.table().transaction_version(name) or 0) + 1 for name in names}


def _written(files: Staged) -> dict[int, tuple[int, int]]:
    """Shard → rows and bytes."""
    found: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for file in files.kept:
        rows, size = found[int(str(file.partition))]
        found[int(str(file.partition))] = rows + file.rows, size + file.size
    return dict(found)
