"""A late row restates its hour: the change feed shows that hour alone, and no other day's files change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from deltalake import DeltaTable
from landing_rows import land, usage
from tables import version

from foreshard.lake import delta
from foreshard.settings import Settings
from foreshard.usage.aggregate import aggregate

pytestmark = pytest.mark.spark

DAY = datetime(2013, 11, 28, tzinfo=UTC)


def files(settings: Settings) -> dict[str, set[str]]:
    """Day → the files of usage_hourly."""
    found: dict[str, set[str]] = {}
    for row in DeltaTable(settings.table("usage_hourly")).get_add_actions(flatten=True).to_struct_array().to_pylist():
        found.setdefault(str(row["partition.day"]), set()).add(row["path"])
    return found


def test_a_restated_hour_leaves_the_other_hours_and_days_as_they_were(spark: Any, lake: Settings) -> None:
    for hour in range(20, 28):
        at = DAY + timedelta(hours=hour)
        land(lake, "usage_record", at, "on time.jsonl", [usage(f"e{n}", at, n) for n in range(10)])
    aggregate(spark, lake, DAY + timedelta(hours=20), DAY + timedelta(hours=28))
    before, last = files(lake), version(lake, "usage_hourly")

    landing = DAY + timedelta(hours=28)
    land(lake, "usage_record", landing, "late.jsonl", [usage("e3", DAY + timedelta(hours=22, minutes=7), 100)])
    aggregate(spark, lake, landing, landing + timedelta(hours=1))

    changes = delta.changed_rows(spark, lake.table("usage_hourly"), last, version(lake, "usage_hourly")).collect()
    assert {row["hour"].replace(tzinfo=UTC) for row in changes} == {DAY + timedelta(hours=22)}
    removed = {(r["entity_id"], r["quantity"]) for r in changes if r["_change_type"] == "delete"}
    added = {(r["entity_id"], r["quantity"]) for r in changes if r["_change_type"] == "insert"}
    assert {entity for entity, _ in removed} == {entity for entity, _ in added} == {f"e{n}" for n in range(10)}
    assert {(e, float(q)) for e, q in added - removed} == {("e3", 103.0)}
    after = files(lake)
    assert after["2013-11-29"] == before["2013-11-29"]
    assert after["2013-11-28"] != before["2013-11-28"]
