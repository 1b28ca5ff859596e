"""What is read of a Delta log: snapshots that stay what they are, and checkpoints without which a commit stands as well."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.transaction import AddAction

from foreshard.lake import log

DAY = datetime(2013, 11, 28, tzinfo=UTC).date()


@pytest.fixture
def path(tmp_path: Path) -> str:
    location = str(tmp_path / "table")
    rows = pa.table({"n": pa.array([], pa.int64()), "day": pa.array([], pa.date32())})
    write_deltalake(location, rows, partition_by=["day"])
    return location


def commit(path: str, count: int) -> log.Snapshot:
    """A commit of so many files, which nobody reads; returns the version before it."""
    before = log.snapshot(path)
    stats = '{"numRecords":1}'
    added = [AddAction(f"day={DAY}/{before.version}-{n}", 1, {"day": f"{DAY}"}, 0, True, stats) for n in range(count)]
    log.commit_files(before, added, [], {"said": before.version + 1})
    return before


def checkpoints(path: str) -> list[int]:
    return sorted(int(file.name[:20]) for file in Path(path, "_delta_log").glob("*.checkpoint.parquet"))


def test_a_snapshot_stays_as_it_is_and_reads_on(path: str) -> None:
    first = commit(path, 2)
    then = first.newest()
    commit(path, 1)
    assert (first.version, then.version, then.newest().version) == (0, 1, 2)
    assert [len([*one.files([DAY])]) for one in (first, then, then.newest())] == [0, 2, 3]
    assert {one.id for one in (first, then)} == {log.table_id(path)}
    assert then.changes_said(0, "said") == [{"said": 1}]
    assert then.newest().changes_said(0, "said") == [{"said": 2}, {"said": 1}]


def test_a_commit_of_many_files_and_each_tenth_leave_a_checkpoint(path: str) -> None:
    commit(path, 100)
    assert checkpoints(path) == [1]
    for _ in range(9):
        commit(path, 1)
    assert checkpoints(path) == [1, 10]
    assert len(DeltaTable(path).file_uris()) == 109


def test_a_commit_stands_without_its_checkpoint(path: str, caplog: pytest.LogCaptureFixture) -> None:
    # A folder lies where the checkpoint's file would.
    Path(path, "_delta_log", f"{1:020d}.checkpoint.parquet", "taken").mkdir(parents=True)
    commit(path, 100)
    assert "no checkpoint was written" in caplog.text
    assert log.newest_commit(path, "said") == {"said": 1}
    assert len([*log.snapshot(path).files([DAY])]) == 100


def test_what_is_committed_after_a_table_was_loaded_is_not_taken_for_its_own(tmp_path: Path) -> None:
    location = str(tmp_path / "a table")
    write_deltalake(location, pa.table({"n": pa.array([], pa.int64()), "day": pa.array([], pa.date32())}), partition_by=["day"])
    log.say(location, {"held": 1})
    loaded = DeltaTable(location)
    for number in range(2, 5):
        log.say(location, {"held": number})
    assert log.newest_commit(loaded, "held") == {"held": 1}
    assert log.newest_commit(location, "held") == {"held": 4}
    for number in range(30):
        log.say(location, {"other": number})
    # Further back than the commits that are read one by one.
    assert log.newest_commit(location, "held") == {"held": 4}
    assert log.newest_commit(loaded, "held") == {"held": 1}
    assert log.newest_commit(location, "nobody") == {}
