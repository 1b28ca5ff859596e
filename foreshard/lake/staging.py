"""Staged files: Parquet in a folder of the table's own, which no reader sees until a commit names them.

So rows are written once, checked where they lie, and made part of the table by a commit that moves nothing. What a killed
run leaves behind is in no version of the table, and VACUUM removes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pyarrow.parquet as pq
from deltalake.transaction import AddAction, RemoveAction
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from foreshard.lake import log
from foreshard.lake.filesystem import locate
from foreshard.lake.log import DataFile, Snapshot
from foreshard.lake.tables import Table

# Where Spark puts rows whose partition value is null.
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_SHOWN = 32
_HIGHEST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True)
class StagedFile:
    """A file below the table's folder; `partition` None holds rows that are not for the table. `size` in bytes."""

    path: str
    partition: str | None
    size: int
    modified: datetime
    rows: int
    lowest: Mapping[str, Any]
    highest: Mapping[str, Any]

    def as_action(self, column: str) -> AddAction:
        stats = {"numRecords": self.rows, "minValues": _as_json(self.lowest, False), "maxValues": _as_json(self.highest, True)}
        stats["nullCount"] = dict.fromkeys(self.lowest, 0)
        modified = int(self.modified.timestamp() * 1000)
        return AddAction(
            self.path, self.size, {column: self.partition}, modified, True, json.dumps(stats, separators=(",", ":"))
        )


@dataclass
class Staged:
    """What was written: `root` is the table's folder, `folder` the staged one below it, `column` what partitions both."""

    root: str
    folder: str
    column: str
    schema: StructType
    files: tuple[StagedFile, ...]
    may_be_committed: bool = False

    @property
    def kept(self) -> list[StagedFile]:
        """The files with rows for the table."""
        return [file for file in self.files if file.partition is not None]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.kept)

    @property
    def location(self) -> str:
        """Where Spark finds the files."""
        return f"{self.root}/{self.folder}"

    def read(self, spark: SparkSession) -> DataFrame:
        """The rows for the table, from the files."""
        return spark.read.schema(self.schema).parquet(self.location).where(F.col(self.column).isNotNull())

    def read_apart(self, spark: SparkSession) -> DataFrame:
        """The rows without a partition, from their files; there must be some."""
        return spark.read.schema(self.schema).parquet(f"{self.location}/{self.column}={_NO_PARTITION}").drop(self.column)

    def commit(
        self,
        before: Snapshot,
        metadata: Mapping[str, Any],
        instead_of: Iterable[DataFile] = (),
        transactions: Mapping[str, int] | None = None,
    ) -> None:
        """Makes the rows part of the table as its next version, in place of whole files; fails if another commit came first.

        `transactions`: Delta's txnAppId → txnVersion.
        """
        # Before the try: a commit can be in the log although making it raised, and its files must then stay.
        self.may_be_committed = True
        now = int(datetime.now(UTC).timestamp() * 1000)
        removed = [RemoveAction(f.path, True, now, f.size, {self.column: str(f.partition)}) for f in instead_of]
        log.commit_files(before, [file.as_action(self.column) for file in self.kept], removed, metadata, transactions)


@contextmanager
def staged(frame: DataFrame, root: str, table: Table) -> Iterator[Staged]:
    """Writes the rows by the table's partition below its folder; at the end of the block they go, unless a commit was tried.

    Rows whose partition is null are set apart (`Staged.files` has them, `Staged.kept` not) and go in any case.
    """
    folder = f"staged-{uuid4().hex}"
    (column,) = table.partition
    written = Staged(root, folder, column, frame.schema, ())
    try:
        writer = frame.write.partitionBy(column).option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
        writer.parquet(written.location)
        written.files = tuple(_files(written, table))
        yield written
    finally:
        _remove(f"{written.location}/{column}={_NO_PARTITION}" if written.may_be_committed else written.location)


def _files(written: Staged, table: Table) -> Iterator[StagedFile]:
    system, top = locate(written.location)
    selector = fs.FileSelector(top, recursive=True, allow_not_found=True)
    for info in sorted(system.get_file_info(selector), key=lambda info: info.path):
        # What a task that was given up still writes lies deeper.
        depth = info.path.removeprefix(top).count("/")
        if info.type is not fs.FileType.File or not info.base_name.endswith(".parquet") or depth != 2:
            continue
        value = unquote(info.path.split("/")[-2].removeprefix(f"{written.column}="))
        with system.open_input_file(info.path) as handle:
            footer = pq.read_metadata(handle)
        below = f"{written.folder}/{'/'.join(info.path.split('/')[-2:])}"
        partition = None if value == _NO_PARTITION else value
        yield StagedFile(below, partition, info.size, info.mtime, footer.num_rows, *_bounds(footer, table.skipping))


def _bounds(footer: pq.FileMetaData, columns: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The lowest and highest value of each column that has no nulls, over the file's row groups."""
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    names = footer.schema.to_arrow_schema().names
    for name in columns:
        found = [footer.row_group(g).column(names.index(name)).statistics for g in range(footer.num_row_groups)]
        if found and all(s is not None and s.has_min_max and s.null_count == 0 for s in found):
            lowest[name] = min(s.min for s in found)
            highest[name] = max(s.max for s in found)
    return lowest, highest


def _as_json(bounds: Mapping[str, Any], upper: bool) -> dict[str, Any]:
    """Bounds as a Delta log writes them: times in whole milliseconds, long texts cut, both toward the outside."""
    return {name: _value(value, upper) for name, value in bounds.items()}


def _value(value: Any, upper: bool) -> Any:
    if isinstance(value, datetime):
        cut = value.astimezone(UTC).replace(microsecond=value.microsecond // 1000 * 1000)
        if upper and cut != value:
            cut += timedelta(milliseconds=1)
        return cut.strftime("%Y-%m-%dT%H:%M:%S.") + f"{cut.microsecond // 1000:03d}Z"
    if isinstance(value, str) and len(value) > _SHOWN:
        return value[:_SHOWN] + (_HIGHEST_CHARACTER if upper else "")
    return value


def _remove(location: str) -> None:
    system, path = locate(location)
    if system.get_file_info(path).type is fs.FileType.Directory:
        system.delete_dir(path)
