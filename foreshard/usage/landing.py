"""Landing files: which there are, and their rows with file, row and checksum.

A file is `<root>/<table>/<YYYY-MM-DDTHH>/<name>`; the folder is the UTC hour in which it landed. Names that begin with `.`
or `_` are still being written and are not seen, nor are names without one of the known suffixes. A file is the unit of
work: Spark is handed its name, and the task that has it streams it through `usage.formats` in blocks of some MB.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs as fs
from pyspark.sql import DataFrame, SparkSession

from foreshard.errors import ForeshardError
from foreshard.lake.filesystem import locate
from foreshard.settings import Settings
from foreshard.usage.formats import ignored, take_in
from foreshard.usage.formats.mapping import known_suffix, resolve

if TYPE_CHECKING:
    from foreshard.usage.records import RecordKind

FOLDER_FORMAT = "%Y-%m-%dT%H"
_FILE = "file_name string, file_checksum string, file_row bigint, landed_at timestamp, raw string, problem string"
LINE_SCHEMA = f"{_FILE}, text string"
# Up to so many hours, asking for each folder costs less than listing a year of them.
_FEW_HOURS = 1_000
_TASK_BYTES = 8 << 20  # less is not worth a task of its own
_TASKS_PER_CORE = 4  # so that files of different sizes even out
_SHUFFLE_BYTES = 64 << 20  # of text: some 300,000 rows, which a task sorts and writes within a small heap
_PACKED = 8  # about how much smaller compressed text and Parquet are
_EXAMPLES = 3


@dataclass(frozen=True)
class LandingFile:
    """A file to take in; `size` in bytes."""

    path: str
    size: int

    @property
    def name(self) -> str:
        """The path below the table's landing folder."""
        return "/".join(self.path.split("/")[-2:])


def hours(start: datetime, end: datetime) -> list[datetime]:
    """The whole UTC hours start ≤ h < end."""
    count = int((end - start) / timedelta(hours=1))
    return [start + timedelta(hours=i) for i in range(count)]


def landed_at(folder: str) -> datetime:
    """The landing time of a folder's files: the end of its hour. Raises ValueError for another kind of name."""
    return datetime.strptime(folder, FOLDER_FORMAT).replace(tzinfo=UTC) + timedelta(hours=1)


def files(spark: SparkSession, root: str, start: datetime, end: datetime) -> list[LandingFile]:
    """The files landed in start ≤ hour < end, sorted by path. A missing folder is an hour in which nothing landed.

    Costs in proportion to the hours asked for. Raises ForeshardError if the landing root itself cannot be listed.
    """
    folders = [hour.strftime(FOLDER_FORMAT) for hour in hours(start, end)]
    try:
        system, base = locate(root.rstrip("/"))
        if system.get_file_info(base).type is fs.FileType.File:
            raise NotADirectoryError("it is a file")
        if len(folders) > _FEW_HOURS:
            there = {info.base_name for info in system.get_file_info(fs.FileSelector(base, allow_not_found=True))}
            folders = [folder for folder in folders if folder in there]
        with ThreadPoolExecutor(1 if isinstance(system, fs.LocalFileSystem) else 16) as pool:
            found = list(pool.map(lambda folder: _folder(system, f"{base}/{folder}"), folders))
    except (OSError, pa.ArrowInvalid) as error:
        raise ForeshardError(f"cannot list the landing folder {root}: {error}") from None
    return sorted(
        (
            LandingFile(f"{root.rstrip('/')}/{folder}/{info.base_name}", info.size)
            for folder, infos in zip(folders, found, strict=True)
            for info in infos
        ),
        key=lambda file: file.path,
    )


def _folder(system: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    infos = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return [i for i in infos if i.type is fs.FileType.File and i.base_name[0] not in "._" and known_suffix(i.base_name)[0]]


def lines(spark: SparkSession, landed: Sequence[LandingFile], kind: RecordKind, settings: Settings) -> DataFrame:
    """The rows of the files of text (JSON Lines, CSV, access logs) as LINE_SCHEMA.

    `raw` is the row as it was, `text` the JSON object to parse (null: raw is it), `problem` why the row cannot be read at
    all, else null. Rows count from 1: physical lines, but a CSV file's data rows. An empty file gives one row, 0.
    """
    mapping = resolve(kind, settings)
    texts = [file for file in landed if mapping.format_of(file.name) != "parquet"]
    return _read(spark, texts, partial(take_in.text_file, mapping=mapping), LINE_SCHEMA)


def typed(spark: SparkSession, landed: Sequence[LandingFile], kind: RecordKind, settings: Settings) -> DataFrame | None:
    """The rows of the Parquet files, each field in its own type; None if there are none.

    `raw` and `problem` are null but for rows with a value that its field cannot hold (null then), which `raw` has as JSON.
    """
    mapping = resolve(kind, settings)
    tables = [file for file in landed if mapping.format_of(file.name) == "parquet"]
    if not tables:
        return None
    schema = ", ".join([_FILE, *(f"`{field.name}` {field.type}" for field in kind.fields)])
    return _read(spark, tables, partial(take_in.parquet_file, mapping=mapping), schema)


def ignored_columns(landed: Sequence[LandingFile], kind: RecordKind, settings: Settings) -> dict[str, list[str]]:
    """Columns that no field wants, by name, each with a few of the files that have it; seen in the files' heads alone."""
    mapping = resolve(kind, settings)
    found: dict[str, list[str]] = {}
    with ThreadPoolExecutor(8) as pool:
        for file, names in zip(landed, pool.map(lambda f: ignored.columns(f.path, mapping), landed), strict=True):
            for name in sorted(names):
                examples = found.setdefault(name, [])
                if len(examples) < _EXAMPLES:
                    examples.append(file.name)
    return dict(sorted(found.items()))


def shuffle_partitions(landed: Sequence[LandingFile], least: int) -> int:
    """Into how many parts the rows of these files are to be shuffled, so that a part does not grow with a run's size."""
    plain = sum(file.size if _is_plain_text(file) else file.size * _PACKED for file in landed)
    return max(least, -(-plain // _SHUFFLE_BYTES))


def _is_plain_text(file: LandingFile) -> bool:
    file_format, compression = known_suffix(file.name)
    return not compression and file_format != "parquet"


ReadFile = Callable[[str, str, datetime], Iterator[pa.RecordBatch]]


def _read(spark: SparkSession, landed: Sequence[LandingFile], read: ReadFile, schema: str) -> DataFrame:
    """One task a group of files of about the same size in all; a task's one row is the group's number."""
    groups = balanced(landed, spark.sparkContext.defaultParallelism * _TASKS_PER_CORE)
    if not groups:
        return spark.createDataFrame([], schema)
    return spark.range(0, len(groups), 1, len(groups)).mapInArrow(partial(_read_groups, groups, read), schema)


def balanced(landed: Sequence[LandingFile], most: int) -> list[list[tuple[str, str, datetime]]]:
    """At most `most` groups of (path, name, landing time), the largest files first, each to the lightest group."""
    total = sum(file.size for file in landed)
    count = min(len(landed), most, max(1, total // _TASK_BYTES))
    groups: list[list[tuple[str, str, datetime]]] = [[] for _ in range(count)]
    load = [(0, index) for index in range(count)]
    for file in sorted(landed, key=lambda f: (-f.size, f.path)):
        weight, index = heapq.heappop(load)
        groups[index].append((file.path, file.name, landed_at(file.path.split("/")[-2])))
        heapq.heappush(load, (weight + file.size, index))
    return groups


def _read_groups(
    groups: list[list[tuple[str, str, datetime]]], read: ReadFile, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for number in batch.column("id").to_pylist():
            for path, name, landed in groups[number]:
                yield from read(path, name, landed)
