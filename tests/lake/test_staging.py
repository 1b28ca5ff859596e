"""Staged files: unseen before their commit, gone if none was tried, and kept when nobody can say whether it took place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from foreshard.errors import ForeshardError
from foreshard.lake import log
from foreshard.lake.staging import staged
from foreshard.lake.tables import QUERY_PATTERN_OBSERVED
from foreshard.settings import Settings

pytestmark = pytest.mark.spark

DAY = datetime(2013, 11, 28, tzinfo=UTC).date()


@pytest.fixture
def frame(spark: Any) -> Any:
    row = (3, "e", "s", "o", "recent", 7, DAY)
    return spark.createDataFrame([row, (*row[:-1], None)], QUERY_PATTERN_OBSERVED.schema)


def staged_folders(path: str) -> list[Path]:
    return sorted(Path(path).glob("staged-*"))


def test_rows_are_seen_from_their_commit_on_and_those_apart_never(spark: Any, lake: Settings, frame: Any) -> None:
    path = QUERY_PATTERN_OBSERVED.ensure(spark, lake)
    with staged(frame, path, QUERY_PATTERN_OBSERVED) as files:
        assert files.rows == 1
        assert files.read_apart(spark).count() == 1
        assert DeltaTable(path).to_pyarrow_table().num_rows == 0
        files.commit(log.snapshot(path), {"said": 1})
    assert [row["requests"] for row in DeltaTable(path).to_pyarrow_table().to_pylist()] == [7]
    assert log.newest_commit(path, "said") == {"said": 1}
    assert [child.name for child in staged_folders(path)[0].iterdir()] == [f"day={DAY}"]


def refuse(frame: Any, path: str) -> None:
    with staged(frame, path, QUERY_PATTERN_OBSERVED):
        assert staged_folders(path)
        raise ForeshardError("checked and found wanting")


def test_what_no_commit_was_tried_for_goes(spark: Any, lake: Settings, frame: Any) -> None:
    path = QUERY_PATTERN_OBSERVED.ensure(spark, lake)
    with pytest.raises(ForeshardError, match="wanting"):
        refuse(frame, path)
    assert not staged_folders(path)


def test_a_commit_after_anothers_is_refused_and_its_files_stay_for_the_vacuum(spark: Any, lake: Settings, frame: Any) -> None:
    path = QUERY_PATTERN_OBSERVED.ensure(spark, lake)
    before, beside = log.snapshot(path), log.snapshot(path)
    with staged(frame, path, QUERY_PATTERN_OBSERVED) as first:
        first.commit(before, {})
    assert before.newest().version == 1
    assert [*before.files([DAY])] == []
    with pytest.raises(ForeshardError, match="another writer"), staged(frame, path, QUERY_PATTERN_OBSERVED) as second:
        second.commit(beside, {})
    assert DeltaTable(path).to_pyarrow_table().num_rows == 1
    assert len(staged_folders(path)) == 2
