"""Which versions are still needed, and why: read from pins and from what tables say, without Spark."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from foreshard.lake import maintenance
from foreshard.lake.maintenance import Partition
from foreshard.routing import pool
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.holdings import Holding, to_metadata
from foreshard.upkeep.needs import needs


def commit(settings: Settings, name: str, said: dict[str, Any]) -> str:
    """Appends one row and says this; returns the table's id."""
    properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(said)} if said else None)
    write_deltalake(settings.table(name), pa.table({"day": ["d"]}), mode="append", commit_properties=properties)
    return str(DeltaTable(settings.table(name)).metadata().id)


def oldest(settings: Settings, name: str, files_only: bool = True) -> tuple[int, str] | None:
    found = needs(settings, settings.postgres_url, name)
    assert found is not None
    need = found.oldest(files_only)
    return (need.version, need.why) if need else None


def test_a_table_that_nobody_follows_needs_only_what_its_commits_say(lake: Settings) -> None:
    assert needs(lake, lake.postgres_url, "query_load") is None
    commit(lake, "query_load", {"complete_to": "2013-11-28T00:00:00+00:00"})
    for _ in range(3):
        commit(lake, "query_load", {})
    assert oldest(lake, "query_load") is None
    assert oldest(lake, "query_load", files_only=False) == (0, "it says complete_to")


def test_the_oldest_of_pins_and_copies_is_what_the_source_needs(lake: Settings) -> None:
    pool.register(lake.postgres_url, lake)
    for _ in range(8):
        source = commit(lake, "usage_hourly", {})
    assert oldest(lake, "usage_hourly") is None
    commit(lake, "serving/a", to_metadata({0: Holding(6), 3: Holding(5)}, 6, source))
    commit(lake, "serving/a", {})
    assert oldest(lake, "usage_hourly") == (5, "the copies on a follow from it")
    commit(lake, "serving/b", to_metadata({0: Holding(1)}, 6, "a table that was made anew"))
    assert oldest(lake, "usage_hourly") == (5, "the copies on a follow from it")
    store.pin_version(lake.postgres_url, lake.pool_id, "usage_hourly", 2, "a plan")
    store.pin_version(lake.postgres_url, lake.pool_id, "usage_hourly", 4, "another")
    assert oldest(lake, "usage_hourly") == (2, "it is pinned")
    store.unpin(lake.postgres_url, lake.pool_id, "usage_hourly", "a plan")
    assert oldest(lake, "usage_hourly") == (4, "it is pinned")


def test_a_record_table_is_needed_from_the_version_its_slowest_product_applied(lake: Settings) -> None:
    for _ in range(5):
        records = commit(lake, "query_record", {})
    commit(lake, "query_load", {"record_version": 4, "record_table": records})
    assert oldest(lake, "query_record") is None
    commit(lake, "query_pattern_observed", {"record_version": 2, "record_table": records})
    assert oldest(lake, "query_record") == (2, "query_pattern_observed follows from it")


def test_the_age_of_a_need_counts_from_its_commit_and_is_unknown_once_the_log_lost_it(lake: Settings) -> None:
    for _ in range(3):
        commit(lake, "query_load", {})
    store.pin_version(lake.postgres_url, lake.pool_id, "query_load", 1, "a plan")
    found = needs(lake, lake.postgres_url, "query_load")
    assert found is not None
    need, later = found.oldest(files_only=True), datetime.now(UTC) + timedelta(hours=50)
    age = found.age_hours(need, later)
    assert age is not None
    assert 50 <= age < 51
    assert found.age_hours(None, later) == 0
    found.committed.pop(1)
    assert found.age_hours(need, later) is None


def test_a_retention_is_doubled_until_it_is_twice_the_need() -> None:
    assert [maintenance.covering(168, age) for age in (0, 84, 85, 168, 400)] == [168, 168, 336, 336, 1344]


def test_days_with_many_small_files_are_compacted_newest_first_within_the_budget() -> None:
    found = [Partition(f"d{n}", 9, small, 100) for n, small in enumerate([9, 9, 2, 9, 9])]
    assert maintenance.worth_compacting(found, 4, 1000) == ["d4", "d3", "d1", "d0"]
    assert maintenance.worth_compacting(found, 4, 250) == ["d4", "d3"]
    assert maintenance.worth_compacting(found, 4, 1) == ["d4"]
    assert maintenance.worth_compacting(found, 9, 1000) == []
