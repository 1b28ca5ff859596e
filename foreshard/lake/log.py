"""What a Delta table's log says, read and written without a Spark job: versions, what commits said, files, atomic commits."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction, CommitProperties, PostCommitHookProperties, RemoveAction

from foreshard.errors import ForeshardError

# Commits that move rows between files or clean up: they leave the rows as they were.
_WITHOUT_CHANGE = {"CREATE TABLE", "OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "ADD COLUMNS", "FSCK"}
# The log is read in steps, because what is looked for is almost always in the last commits.
_STEPS = (10, 100, None)


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
    """The table at its newest version, without its list of files; None if there is none."""
    try:
        return DeltaTable(path, without_files=True)
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
    appear alike in the history.
    """
    found = opened(table) if isinstance(table, str) else table
    if found is None:
        return {}
    for limit in _STEPS:
        for commit in found.history(limit):
            said = parse(commit.get("userMetadata")) if commit.get("version", 0) <= found.version() else {}
            if key in said:
                return said
    return {}


def changes_said(path: str, after: int, upto: int, key: str) -> list[dict[str, Any]] | None:
    """What the commits after < v ≤ upto say that changed rows; None if one of them does not name `key` or is gone."""
    table = opened(path)
    if table is None:
        return None
    commits = [c for c in table.history(max(table.version() - after, 1)) if after < c.get("version", -1) <= upto]
    if len(commits) != upto - after:
        return None
    said = [parse(c.get("userMetadata")) for c in commits if c.get("operation") not in _WITHOUT_CHANGE]
    return said if all(key in one for one in said) else None


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


def files(path: str, version: int, partitions: Iterable[Any]) -> Iterator[DataFile]:
    """The files of these partitions, at one version of a table partitioned by one column."""
    table = DeltaTable(path, version=version)
    column = f"partition.{table.metadata().partition_columns[0]}"
    actions = pa.table(table.get_add_actions(flatten=True))
    # Before anything is made of them one by one: a table has many times the files that a run looks at.
    wanted = pc.is_in(actions[column], pa.array(set(partitions), actions[column].type))
    for row in actions.filter(wanted).to_pylist():
        bounds = ({k.split(".", 1)[1]: v for k, v in row.items() if k.startswith(side)} for side in ("min.", "max."))
        yield DataFile(row["path"], row[column], row["size_bytes"], row["num_records"] or 0, *bounds)


def is_plain(path: str, version: int) -> bool:
    """Whether the rows are just those of the files, as they are in them: no deletion vectors, no renamed columns."""
    return int(DeltaTable(path, version=version, without_files=True).protocol().min_reader_version) == 1


def commit_files(
    path: str, version: int, added: Iterable[AddAction], removed: Iterable[RemoveAction], metadata: Mapping[str, Any]
) -> int:
    """Makes files that lie in the table's folder part of it, and others no longer, as version + 1; returns that version.

    Raises ForeshardError if anyone committed after `version`: what was worked out from it no longer holds.
    """
    try:
        _commit(DeltaTable(path, version=version), [*added, *removed], metadata, retries=0)
    except CommitFailedError:
        raise ForeshardError(
            f"{path}: another writer committed after version {version}, so nothing was committed; run again"
        ) from None
    return version + 1


def say(path: str, metadata: Mapping[str, Any]) -> None:
    """Commits words alone, for `newest_commit` to find; the rows stay as they are, whoever commits beside."""
    _commit(DeltaTable(path), [], metadata, retries=15)


def _commit(table: DeltaTable, actions: list[AddAction | RemoveAction], metadata: Mapping[str, Any], retries: int) -> None:
    table.create_write_transaction(
        actions,
        "append",
        table.schema(),
        list(table.metadata().partition_columns),
        commit_properties=CommitProperties(custom_metadata={"userMetadata": packed(metadata)}, max_commit_retries=retries),
        # What of the log is no longer needed is for maintenance to say, which knows the pins.
        post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
    )
