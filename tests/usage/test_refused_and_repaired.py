"""A refused row never stands in the way of the row that repairs it, however the hours are cut into runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from landing_rows import land, usage
from tables import records

from foreshard.settings import Settings
from foreshard.usage.aggregate import aggregate

pytestmark = pytest.mark.spark

HOUR = datetime(2013, 11, 28, 5, tzinfo=UTC)


@pytest.mark.parametrize("cut", [[0, 3], [0, 1, 2, 3]])
def test_the_repaired_row_counts_and_every_refused_one_is_kept(spark: Any, lake: Settings, cut: list[int]) -> None:
    def landed(number: int, *rows: dict[str, Any]) -> None:
        land(lake, "usage_record", HOUR + timedelta(hours=number), "u.jsonl", rows)

    landed(0, usage("e", HOUR, -5, record_id="r1"), usage("e", HOUR, -6, record_id="r1"))
    landed(1, usage("e", HOUR, 5, record_id="r1"))
    landed(2, usage("e", HOUR, -7, record_id="r1"))
    for first, last in pairwise(cut):
        aggregate(spark, lake, HOUR + timedelta(hours=first), HOUR + timedelta(hours=last))
    assert [(r["record_id"], float(r["quantity"])) for r in records(lake, "usage_record")] == [("r1", 5.0)]
    reasons = sorted(r["reason"] for r in records(lake, "quarantine"))
    assert reasons == [f"negative quantity: -{n}.000000" for n in (5, 6, 7)]
    assert [float(r["quantity"]) for r in records(lake, "usage_hourly")] == [5.0]
