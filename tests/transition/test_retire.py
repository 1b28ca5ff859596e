"""Retiring copies from a node's table: rows and holdings go together, and never over another writer's commit."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from foreshard.errors import ForeshardError
from foreshard.lake import log
from foreshard.settings import Settings
from foreshard.transition.holdings import Contents, Holding, Progress
from foreshard.transition.retire import compact, drop_shards, holdings_of, narrow_shards, stray_shards


@pytest.fixture
def held(tmp_path: Path) -> Settings:
    """Node a holds shards 1 to 3, with a row of each of two days in a file of its own."""
    settings = Settings(home=tmp_path, lake=str(tmp_path / "lake"))
    said = Contents({shard: Holding(5) for shard in (1, 2, 3)}, "source")
    for day in (date(2026, 1, 1), date(2026, 1, 2)):
        rows = pa.table({"shard_id": [1, 2, 3], "day": [day] * 3})
        words = CommitProperties(custom_metadata={"userMetadata": log.packed(said.metadata(5))})
        write_deltalake(settings.table("serving/a"), rows, mode="append", partition_by=["shard_id"], commit_properties=words)
    return settings


def shards_with_rows(settings: Settings) -> set[int]:
    return set(DeltaTable(settings.table("serving/a")).to_pyarrow_table()["shard_id"].to_pylist())


def test_rows_and_holdings_go_together_and_a_repeat_changes_nothing(held: Settings) -> None:
    drop_shards(held, "a", [1, 9])
    assert shards_with_rows(held) == set(holdings_of(held, "a")) == {2, 3}
    version = DeltaTable(held.table("serving/a")).version()
    drop_shards(held, "a", [1])
    assert DeltaTable(held.table("serving/a")).version() == version
    drop_shards(held, "nowhere", [1])  # a node without a table


def test_who_lost_the_lease_after_reading_the_table_drops_nothing(held: Settings) -> None:
    def lost() -> None:
        raise ForeshardError("the lease is lost")

    with pytest.raises(ForeshardError, match="lease is lost"):
        drop_shards(held, "a", [1], lost)
    assert shards_with_rows(held) == set(holdings_of(held, "a")) == {1, 2, 3}


def test_a_drop_over_another_writers_drop_fails_instead_of_bringing_back_the_holding_without_its_rows(held: Settings) -> None:
    with pytest.raises(ForeshardError, match="serving table of a was changed by another writer"):
        drop_shards(held, "a", [1], still_held=lambda: drop_shards(held, "a", [3]))
    assert shards_with_rows(held) == set(holdings_of(held, "a")) == {1, 2}


def test_older_days_go_and_files_are_joined_without_a_change_of_what_is_held(held: Settings) -> None:
    narrow_shards(held, "a", {2: date(2026, 1, 2)})
    assert holdings_of(held, "a") == {1: Holding(5), 2: Holding(5, date(2026, 1, 2)), 3: Holding(5)}
    before = holdings_of(held, "a")
    assert compact(held, "a") == 4
    assert holdings_of(held, "a") == before
    assert DeltaTable(held.table("serving/a")).to_pyarrow_table().num_rows == 5


def test_rows_that_no_commit_speaks_of_are_found_and_dropped(held: Settings) -> None:
    assert stray_shards(held, "a") == []
    copies = {4: Progress("copy-4", 5, None, date(2026, 1, 1), False, 1, 100)}
    said = Contents({shard: Holding(5) for shard in (1, 3)}, "source", copies)
    rows = pa.table({"shard_id": [4, 7], "day": [date(2026, 1, 1)] * 2})
    words = CommitProperties(custom_metadata={"userMetadata": log.packed(said.metadata(5))})
    write_deltalake(held.table("serving/a"), rows, mode="append", commit_properties=words)
    assert stray_shards(held, "a") == [2, 7]
    drop_shards(held, "a", stray_shards(held, "a"))
    assert (stray_shards(held, "a"), shards_with_rows(held)) == ([], {1, 3, 4})
    assert stray_shards(held, "nowhere") == []  # a node without a table
