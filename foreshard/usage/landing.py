"""Landing files: which there are, and their lines with file, row and checksum.

A file is `<root>/<table>/<YYYY-MM-DDTHH>/<name>.jsonl`; the folder is the UTC hour in which it landed. Names that begin
with `.` or `_` are still being written and are not seen.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession

from foreshard.errors import ForeshardError
from foreshard.usage import strictness

FOLDER_FORMAT = "%Y-%m-%dT%H"
LINE_SCHEMA = "file_name string, file_checksum string, file_row bigint, landed_at timestamp, raw string, problem string"
_BATCH = 50_000
_PATTERN = re.compile(r"[\[\]{}*?\\]")


@dataclass(frozen=True)
class LandingFile:
    """A file to take in; `size` in bytes."""

    path: str
    size: int

    @property
    def name(self) -> str:
        """The path below the table's landing folder."""
        return _name(self.path)


def _name(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def hours(start: datetime, end: datetime) -> list[datetime]:
    """The whole UTC hours start ≤ h < end."""
    count = int((end - start) / timedelta(hours=1))
    return [start + timedelta(hours=i) for i in range(count)]


def landed_at(folder: str) -> datetime:
    """The landing time of a folder's files: the end of its hour. Raises ValueError for another kind of name."""
    return datetime.strptime(folder, FOLDER_FORMAT).replace(tzinfo=UTC) + timedelta(hours=1)


def files(spark: SparkSession, root: str, start: datetime, end: datetime) -> list[LandingFile]:
    """The files landed in start ≤ hour < end, sorted by path. A missing folder is an hour in which nothing landed.

    Raises ForeshardError if the landing root itself cannot be listed.
    """
    jvm = spark.sparkContext._jvm
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    top = jvm.org.apache.hadoop.fs.Path(root)
    wanted = {hour.strftime(FOLDER_FORMAT) for hour in hours(start, end)}
    try:
        system = top.getFileSystem(configuration)
        if not system.exists(top):
            return []
        folders = [s.getPath() for s in system.listStatus(top) if s.isDirectory() and s.getPath().getName() in wanted]
        found = [(s.getPath(), s.getLen()) for folder in folders for s in system.listStatus(folder) if s.isFile()]
    except Py4JJavaError as error:
        raise ForeshardError(f"cannot list the landing folder {root}: {error.java_exception.getMessage()}") from None
    whole = [(str(p), size) for p, size in found if p.getName().endswith(".jsonl") and p.getName()[0] not in "._"]
    return [LandingFile(path, size) for path, size in sorted(whole)]


def lines(spark: SparkSession, landed: list[LandingFile]) -> DataFrame:
    """Every line of the files as LINE_SCHEMA; `problem` says why a line cannot be read at all, else it is null.

    Rows count from 1. An empty file gives one line, row 0. Blank lines are skipped but counted. `file_name` is the path
    below the table's landing folder.
    """
    reader = spark.read.format("binaryFile").option("__globPaths__", "false")
    # The reader passes over files without a byte, so that they are told here.
    empty = [
        (f.name, hashlib.sha256(b"").hexdigest(), 0, landed_at(f.path.split("/")[-2]), "", "empty file")
        for f in landed
        if not f.size
    ]
    told = spark.createDataFrame(empty, LINE_SCHEMA)
    paths = [f.path for f in landed if f.size]
    if not paths:
        return told
    # Beside a path that looks like a pattern, Spark lists the others twice: such a one is read alone.
    alike = [path for path in paths if not _PATTERN.search(path)]
    reads = [reader.load(group) for group in [alike, *([path] for path in paths if _PATTERN.search(path))] if group]
    content = reduce(DataFrame.unionByName, reads).select("path", "content")
    read = content.mapInArrow(_split, LINE_SCHEMA)
    return read.unionByName(told) if empty else read


def _split(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for path, content in zip(batch.column("path").to_pylist(), batch.column("content"), strict=True):
            yield from _lines_of_file(path, content.as_py())


def _lines_of_file(path: str, content: bytes) -> Iterator[pa.RecordBatch]:
    name = _name(path)
    landed = landed_at(path.split("/")[-2])
    checksum = hashlib.sha256(content).hexdigest()
    rows: list[tuple[int, str, str | None]] = []
    if not content.strip():
        rows.append((0, "", "empty file"))
        content = b""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            rows.append((number, *_decoded(line)))
        if len(rows) >= _BATCH:
            yield _as_batch(name, checksum, landed, rows)
            rows = []
    if rows:
        yield _as_batch(name, checksum, landed, rows)


def _decoded(line: bytes) -> tuple[str, str | None]:
    try:
        return line.decode("utf-8"), strictness.problem(line)
    except UnicodeDecodeError:
        return line.decode("utf-8", "backslashreplace"), "not UTF-8"


def _as_batch(name: str, checksum: str, landed: datetime, rows: list[tuple[int, str, str | None]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "file_name": pa.array([name] * len(rows), pa.string()),
            "file_checksum": pa.array([checksum] * len(rows), pa.string()),
            "file_row": pa.array([r[0] for r in rows], pa.int64()),
            "landed_at": pa.array([landed] * len(rows), pa.timestamp("us", tz="UTC")),
            "raw": pa.array([r[1] for r in rows], pa.string()),
            "problem": pa.array([r[2] for r in rows], pa.string()),
        }
    )
