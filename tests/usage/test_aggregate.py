"""A row counts once whatever is landed, retried, revised, late or deleted: one lake, step by step."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from landing_rows import land, query, usage
from tables import records, rows, version

from foreshard.hashing import entity_slot
from foreshard.settings import Settings
from foreshard.usage.aggregate import AggregateResult, aggregate
from foreshard.usage.watermark import watermark

pytestmark = pytest.mark.spark

DAY = datetime(2013, 11, 28, tzinfo=UTC)
PRODUCTS = ("usage_hourly", "query_load", "query_pattern_observed")
# What tells one run from another and not one row from another.
RUN = ("landed_at", "file_name", "file_checksum", "file_row")


def at(hour: int, minute: int = 0) -> datetime:
    return DAY + timedelta(hours=hour, minutes=minute)


def take_in(spark: Any, settings: Settings, first: int, last: int) -> AggregateResult:
    """Aggregates the landing hours from `first` up to and with `last`."""
    return aggregate(spark, settings, at(first), at(last + 1))


def hourly(settings: Settings) -> dict[tuple[str, int], tuple[Decimal, int]]:
    """(entity, hour of the day) → quantity and events."""
    found = records(settings, "usage_hourly")
    assert len({(r["entity_id"], r["hour"]) for r in found}) == len(found)
    return {(r["entity_id"], r["hour"].hour): (r["quantity"], r["events"]) for r in found}


def products(settings: Settings) -> list[list[tuple[Any, ...]]]:
    return [rows(settings, name) for name in PRODUCTS]


@pytest.fixture(scope="module")
def landed(module_lake: Settings) -> Settings:
    """Two landing hours: a file that landed twice, a repetition in a later one, rows that no id names."""
    first = [
        usage("a", at(5, 1), 2.5, record_id="r1"),
        usage("a", at(5, 59), 1, record_id="r2"),
        usage("b", at(5, 30), 4),
        usage("b", at(5, 30), 4),
        usage("c", at(5), 1, record_id=""),
        usage("c", at(5), 1, record_id=""),
        usage("late revision", at(5), 10, record_id="r9", revision=1),
        "{broken",
    ]
    land(module_lake, "usage_record", at(5), "one.jsonl", first)
    land(module_lake, "usage_record", at(5), "one again.jsonl", first)
    land(module_lake, "usage_record", at(6), "two.jsonl", [usage("a", at(6), 3, record_id="r3"), first[0]])
    queries = [query(f"e{n % 7}", at(5, n), record_id=f"q{n}", latency_ms=float(n)) for n in range(40)]
    slow = [query("e1", at(6, 1), status=503), query("e1", at(6, 1), range_start=at(-24 * 30).isoformat())]
    land(module_lake, "query_record", at(5), "q.jsonl", queries)
    land(module_lake, "query_record", at(6), "q.jsonl", [*slow, queries[0]])
    return module_lake


def test_rows_count_once_and_add_up(spark: Any, landed: Settings) -> None:
    result = take_in(spark, landed, 5, 6)
    assert hourly(landed) == {
        ("a", 5): (Decimal("3.5"), 2),
        ("a", 6): (Decimal(3), 1),
        ("b", 5): (Decimal(8), 2),
        ("c", 5): (Decimal(2), 2),
        ("late revision", 5): (Decimal(10), 1),
    }
    usage_count, query_count = result.counts["usage_record"], result.counts["query_record"]
    assert (usage_count.read, usage_count.accepted, usage_count.duplicates, usage_count.quarantined) == (18, 8, 8, 2)
    assert (query_count.read, query_count.accepted, query_count.duplicates) == (43, 42, 1)
    assert len(records(landed, "quarantine")) == 1, "the same file twice is quarantined once"
    load = records(landed, "query_load")
    assert sum(r["requests"] for r in load) == 42
    assert sum(r["load"] for r in load) == 42
    assert sum(r["bytes"] for r in load) == 4200
    assert sum(r["errors"] for r in load) == 1
    assert sum(bucket["requests"] for r in load for bucket in r["latency_histogram"]) == 42
    heavy = Counter((r["slot"], r["interval_start"]) for r in load if r["entity_id"])
    assert max(heavy.values()) <= landed.heavy_hitters
    assert all(r["slot"] == entity_slot(r["entity_id"], 3) for r in load if r["entity_id"])
    patterns = records(landed, "query_pattern_observed")
    assert sum(r["requests"] for r in patterns) == 42
    assert {r["time_interval"]: r["requests"] for r in patterns if r["requests"] == 1}["months"] == 1
    assert sum(r["quantity"] for r in records(landed, "usage_record")) == sum(q for q, _ in hourly(landed).values())
    assert watermark(landed, "usage_hourly").hour == at(7)


def test_revisions_and_late_rows_restate_their_hours(spark: Any, landed: Settings) -> None:
    late = [
        usage("a", at(5, 2), 100),  # late
        usage("a", at(4), 7, record_id="r1", revision=1),  # supersedes, and moves to another hour
        usage("a", at(6), 9, record_id="r2", revision=2),
        usage("a", at(6), 1000, record_id="r2", revision=1),  # superseded in the same file
        usage("late revision", at(6), 1000, record_id="r9"),  # superseded before it came
    ]
    land(landed, "usage_record", at(8), "late.jsonl", late)
    result = take_in(spark, landed, 8, 8)
    assert result.counts["usage_record"].accepted == 5
    assert hourly(landed) == {
        ("a", 4): (Decimal(7), 1),
        ("a", 5): (Decimal(100), 1),
        ("a", 6): (Decimal(12), 2),
        ("b", 5): (Decimal(8), 2),
        ("c", 5): (Decimal(2), 2),
        ("late revision", 5): (Decimal(10), 1),
    }


def test_running_again_changes_nothing(spark: Any, landed: Settings) -> None:
    before, records_before = products(landed), version(landed, "usage_record")
    result = take_in(spark, landed, 5, 8)
    assert result.counts["usage_record"].accepted == 0
    assert result.counts["query_record"].accepted == 0
    assert products(landed) == before
    assert version(landed, "usage_record") == records_before
    assert len(records(landed, "quarantine")) == 1


def test_deleted_products_come_back_from_the_records(spark: Any, landed: Settings) -> None:
    before = products(landed)
    for name in PRODUCTS:
        shutil.rmtree(landed.table(name))
    take_in(spark, landed, 8, 8)
    assert products(landed) == before


def test_deleted_records_come_back_from_the_landing_files(spark: Any, landed: Settings) -> None:
    before = [rows(landed, name, *RUN) for name in ("usage_record", "query_record", "quarantine", *PRODUCTS)]
    for name in ("usage_record", "query_record", "quarantine"):
        shutil.rmtree(landed.table(name))
    take_in(spark, landed, 5, 8)
    assert [rows(landed, name, *RUN) for name in ("usage_record", "query_record", "quarantine", *PRODUCTS)] == before


def test_a_late_row_still_restates_its_hour_after_the_records_were_made_anew(spark: Any, landed: Settings) -> None:
    land(landed, "usage_record", at(9), "later.jsonl", [usage("b", at(5), 1)])
    take_in(spark, landed, 9, 9)
    assert hourly(landed)["b", 5] == (Decimal(9), 3)
