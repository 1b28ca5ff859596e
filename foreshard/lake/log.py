"""What a Delta table's log says, read and written without a Spark job: versions, what commits said, files, atomic commits."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction, CommitProperties, PostCommitHookProperties, RemoveAction, Transaction

from foreshard.errors import ForeshardError
from foreshard.lake.filesystem import locate

# Commits that move rows between files or clean up: they leave the rows as they were.
_WITHOUT_CHANGE = {"CREATE TABLE", "OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "ADD COLUMNS", "FSCK"}
# The log is read in steps, because what is looked for is almost always in the last commits, and mostly in the very last.
_NEAR = 10
_STEPS = (100, None)
# A checkpoint stands for all commits before it: each so many versions, and after a commit of so many files.
CHECKPOINT_INTERVAL = 10
_MANY_FILES = 50

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFile:
    """A file of a table: its path below the table's folder, its partition (a day or a shard), bytes, rows, and the bounds of
    its columns where known."""

    path: str
    partition: Any
    size: int
    rows: int
    lowest: Mapping[str, Any]
    highest: Mapping[str, Any]

    def may_hold_hours(self, column: str, hours: Collection[datetime]) -> bool:
        """Whether rows of these whole hours may be in it; without bounds they may."""
        lowest, highest = self.lowest.get(column), self.highest.get(column)
        if lowest is None or highest is None:
            return True
        first = lowest.replace(minute=0, second=0, microsecond=0)
        return any(first <= hour <= highest for hour in hours)

    def may_exceed(self, column: str, value: Any) -> bool:
        """Whether rows with column > value may be in it; without bounds it may."""
        highest = self.highest.get(column)
        return highest is None or highest > value


def opened(path: str) -> DeltaTable | None:
    """The table at its newest version; None if there is none."""
    try:
        return DeltaTable(path)
    except TableNotFoundError:
        return None


def latest_version(path: str) -> int:
    """The newest version of a table, or −1 if there is no table."""
    table = opened(path)
    return -1 if table is None else int(table.version())


def table_id(path: str) -> str:
    """What tells a table from one made anew in its place, whose versions begin again; empty if there is no table."""
    table = opened(path)
    return "" if table is None else str(table.metadata().id)


def newest_commit(table: DeltaTable | str, key: str) -> dict[str, Any]:
    """What the newest commit that names `key`, up to the table's loaded version, says of it; empty if none does.

    Commits by others, such as OPTIMIZE, say nothing. Spark's `userMetadata` and delta-rs's custom metadata of that name
    appear alike.
    """
    found = opened(table) if isinstance(table, str) else table
    if found is None:
        return {}
    version = int(found.version())
    # The last commits' own files: what somebody commits meanwhile cannot be taken for them, and mostly one is enough.
    for number in range(version, max(version - _NEAR, -1), -1):
        said = _commit_said(str(found.table_uri), number)
        if said is None:
            break
        if key in said:
            return said
    else:
        if version < _NEAR:
            return {}  # that was the whole log
    return _older_commit(str(found.table_uri), version, key)


def _commit_said(uri: str, version: int) -> dict[str, Any] | None:
    """What one commit says, from its own file; None if that is not there or cannot be read."""
    system, root = locate(unquote(uri))
    try:
        with system.open_input_stream(f"{root.rstrip('/')}/_delta_log/{version:020d}.json") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return None
    actions = (json.loads(line) for line in lines if b'"commitInfo"' in line)
    return parse(next((action["commitInfo"].get("userMetadata") for action in actions if "commitInfo" in action), None))


def _older_commit(uri: str, version: int, key: str) -> dict[str, Any]:
    """As `newest_commit`, from the history as delta-rs tells it.

    It numbers the newest commits down from the loaded version, so the table is loaded anew, and what came since is passed over.
    """
    now = DeltaTable(uri)
    for limit in _STEPS:
        for commit in now.history(None if limit is None else limit + now.version() - version):
            said = parse(commit.get("userMetadata")) if commit.get("version", 0) <= version else {}
            if key in said:
                return said
    return {}


def parse(text: str | None) -> dict[str, Any]:
    """The JSON object that a foreshard commit carries; empty for commits made by others."""
    try:
        said = json.loads(text) if text else {}
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def packed(metadata: Mapping[str, Any]) -> str:
    """The object as commits carry it."""
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"))


class Snapshot:
    """One version of a table. Its log is read once: a table opened anew reads the list of all its files, which grows."""

    def __init__(self, path: str, table: DeltaTable) -> None:
        self.path, self.version = path, int(table.version())
        metadata = table.metadata()
        # What tells a table from one made anew in its place, whose versions begin again.
        self.id = str(metadata.id)
        self.partition = tuple(metadata.partition_columns)
        # The rows are just those of the files, as they are in them: no deletion vectors, no renamed columns.
        self.is_plain = int(table.protocol().min_reader_version) == 1
        self._table = table

    @cached_property
    def _files(self) -> pa.Table:
        return pa.table(self.table().get_add_actions(flatten=True))

    def table(self) -> DeltaTable:
        """The table, loaded at this version."""
        if self._table.version() != self.version:
            # A later snapshot has taken it along.
            self._table = DeltaTable(self.path, version=self.version)
        return self._table

    def newest(self) -> Snapshot:
        """The table as it is now; of the log, what came since this version is read."""
        table = self.table()
        table.update_incremental()
        return Snapshot(self.path, table)

    def files(self, partitions: Iterable[Any]) -> Iterator[DataFile]:
        """The files of these partitions, of a table partitioned by one column."""
        column = f"partition.{self.partition[0]}"
        # Before anything is made of them one by one: a table has many times the files that a run looks at.
        wanted = pc.is_in(self._files[column], pa.array(set(partitions), self._files[column].type))
        yield from self._as_files(self._files.filter(wanted), column)

    def all_files(self) -> Iterator[DataFile]:
        """All files, of a table partitioned by one column."""
        yield from self._as_files(self._files, f"partition.{self.partition[0]}")

    @staticmethod
    def _as_files(found: pa.Table, column: str) -> Iterator[DataFile]:
        for row in found.to_pylist():
            bounds = ({k.split(".", 1)[1]: v for k, v in row.items() if k.startswith(side)} for side in ("min.", "max."))
            yield DataFile(row["path"], row[column], row["size_bytes"], row["num_records"] or 0, *bounds)

    def changes_said(self, after: int, key: str) -> list[dict[str, Any]] | None:
        """What the commits since version `after` say that changed rows; None if one does not name `key` or is gone."""
        # delta-rs numbers the newest commits down from the loaded version, wrongly if it is not the newest.
        now = self.newest()
        found = now.table().history(max(now.version - after, 1))
        commits = [commit for commit in found if after < commit.get("version", -1) <= self.version]
        if len(commits) != self.version - after:
            return None
        said = [parse(c.get("userMetadata")) for c in commits if c.get("operation") not in _WITHOUT_CHANGE]
        return said if all(key in one for one in said) else None


def snapshot(path: str) -> Snapshot:
    """The table as it is now. Raises TableNotFoundError if there is none."""
    return Snapshot(path, DeltaTable(path))


def commit_files(
    before: Snapshot,
    added: Iterable[AddAction],
    removed: Iterable[RemoveAction],
    metadata: Mapping[str, Any],
    transactions: Mapping[str, int] | None = None,
) -> None:
    """Makes files that lie in the table's folder part of it, and others no longer, as the next version.

    `transactions`: Delta's txnAppId → txnVersion. Raises ForeshardError if anyone committed after `before`: what was worked out
    from it no longer holds.
    """
    try:
        _commit(before.table(), [*added, *removed], metadata, 0, transactions)
    except CommitFailedError:
        raise ForeshardError(
            f"{before.path}: another writer committed after version {before.version}, so nothing was committed; run again"
        ) from None


def say(path: str, metadata: Mapping[str, Any]) -> None:
    """Commits words alone, for `newest_commit` to find; the rows stay as they are, whoever commits beside."""
    _commit(DeltaTable(path), [], metadata, retries=15)


def _commit(
    table: DeltaTable,
    actions: list[AddAction | RemoveAction],
    metadata: Mapping[str, Any],
    retries: int,
    transactions: Mapping[str, int] | None = None,
) -> None:
    done = [Transaction(name, number) for name, number in (transactions or {}).items()]
    table.create_write_transaction(
        actions,
        "append",
        table.schema(),
        list(table.metadata().partition_columns),
        commit_properties=CommitProperties({"userMetadata": packed(metadata)}, retries, done),
        # What of the log is no longer needed is for maintenance to say, which knows the pins. A checkpoint that failed here
        # would make the commit look failed, which it is not.
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
    )
    _checkpoint(table, len(actions) > _MANY_FILES)


def _checkpoint(table: DeltaTable, is_large: bool) -> None:
    """Spares the next readers the commits up to here. The table is as good without: what fails is said and passed over."""
    try:
        # The commit has left the loaded table where it was.
        table.update_incremental()
        if is_large or table.version() % CHECKPOINT_INTERVAL == 0:
            table.create_checkpoint()
    except Exception as error:
        _logger.warning("%s: no checkpoint was written after version %s: %s", table.table_uri, table.version(), error)
