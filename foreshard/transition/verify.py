"""Comparing copies with their source, segment by segment, at one version: counts, sums and an order-independent checksum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from foreshard.errors import ForeshardError
from foreshard.lake import log
from foreshard.lake.kept_versions import VersionGone
from foreshard.settings import Settings
from foreshard.transition.comparison import COLUMNS, Comparison, Coverage, RowDifference
from foreshard.transition.reading import ERRORS, altered_files, unreadable_files

FilesOf = Callable[..., Iterable[tuple[int, str]]]
_EPOCH = date(1970, 1, 1)
# Segments whose rows are looked at one by one; of more the counts say enough.
_LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A segment whose copy differs from its source; either count is 0 where that side has no such segment.

    `differing`: up to three of the rows that only one side has. `file`: a file of the copy that cannot be read; then nothing is
    known of the rest, and `day` is None.
    """

    node_id: str
    shard_id: int
    day: date | None
    source_rows: int = 0
    copied_rows: int = 0
    differing: tuple[RowDifference, ...] = ()
    file: str = ""

    def __str__(self) -> str:
        where = f"shard {self.shard_id} on {self.node_id}"
        if self.file:
            return f"{where}: {self.file} is damaged or missing and cannot be read"
        other = ", with other content" if self.source_rows == self.copied_rows else ""
        rows = "; ".join(map(str, self.differing))
        return f"{where}, day {self.day}: {self.source_rows} rows at the source, {self.copied_rows} in the copy{other}" + (
            f" ({rows})" if rows else ""
        )


@dataclass(frozen=True)
class Verification:
    """The outcome: copied rows per (node, shard), and the segments that differ."""

    rows: Mapping[tuple[str, int], int]
    mismatches: tuple[Mismatch, ...]


def verify(settings: Settings, coverage: Coverage, version: int, isolated: Mapping[str, int]) -> Verification:
    """Compares the copies (node → shard → first covered day) with the source at `version`.

    The serving tables must have applied exactly that version; the caller holds their leases. Rows that a copy has from before
    its first day are a mismatch, unless it is just being made wider. Raises ForeshardError if a file of the source cannot be
    read, VersionGone if its log no longer has the version.
    """
    source = _source(settings, version)
    readable = {node_id: dict(shards) for node_id, shards in coverage.items()}
    without = _damaged(settings, readable, altered_files)
    damaged = list(without)
    while True:
        for one in without:
            # The rest is compared without it.
            del readable[one.node_id][one.shard_id]
        try:
            found = _compared(settings, source, readable, isolated)
            break
        except ERRORS as error:
            without = _damaged(settings, readable, partial(unreadable_files, columns=(*COLUMNS, "shard_id")))
            if not without:
                raise _unread(source, str(error)) from None
            damaged += without
    wrong = sorted([*damaged, *found.mismatches], key=lambda m: (m.node_id, m.shard_id, m.day or date.min))
    rows = {(node, shard): 0 for node, shards in coverage.items() for shard in shards}
    return Verification(rows | dict(found.rows), tuple(wrong))


def _source(settings: Settings, version: int) -> DeltaTable:
    try:
        return DeltaTable(settings.table("usage_hourly"), version=version)
    except DeltaError:
        raise VersionGone("usage_hourly", version) from None


def _compared(settings: Settings, source: DeltaTable, coverage: Coverage, isolated: Mapping[str, int]) -> Verification:
    if not any(coverage.values()):
        return Verification({}, ())
    with Comparison(settings, source, coverage, isolated) as both:
        wrong = [
            Mismatch(found.node_id, found.shard_id, _day(found.day), found.source_rows, found.copied_rows)
            for found in both.differing()
        ]
        return Verification(both.copied_rows(), tuple(_with_rows(both, wrong)))


def _with_rows(both: Comparison, wrong: Sequence[Mismatch]) -> list[Mismatch]:
    """The mismatches, the first of them with some of the rows that differ."""
    looked_at = [(m.node_id, m.shard_id, m.day) for m in wrong[:_LOOKED_AT] if m.day]
    found = both.differing_rows(looked_at) if looked_at else {}
    return [replace(m, differing=found.get((m.node_id, m.shard_id, m.day), ())) if m.day else m for m in wrong]


def _damaged(settings: Settings, coverage: Coverage, files_of: FilesOf) -> list[Mismatch]:
    """The copies with a file that `files_of` (table, shards) finds at fault."""
    found = []
    for node_id, shards in coverage.items():
        table = log.opened(settings.table(f"serving/{node_id}"))
        if table is not None and shards:
            found += [Mismatch(node_id, int(shard), None, file=file) for shard, file in files_of(table, partitions=shards)]
    return found


def _unread(source: DeltaTable, said: str) -> ForeshardError:
    """What is to be said when all copies can be read: a file of the source cannot, or none was to blame."""
    days = {file.partition for file in log.Snapshot(str(source.table_uri), source).all_files()}
    for _, file in unreadable_files(source, COLUMNS, days):
        return ForeshardError(f"{file} of usage_hourly is damaged or missing and cannot be read; restore it first")
    return ForeshardError(f"copies could not be compared with usage_hourly: {said.splitlines()[0]}; verify them again")


def _day(number: int | None) -> date | None:
    """Damage can make days that Python has no dates for; the nearest that it has stands for them."""
    if number is None:
        return None
    return _EPOCH + timedelta(days=min(max(number, (date.min - _EPOCH).days), (date.max - _EPOCH).days))
