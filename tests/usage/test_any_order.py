"""Whatever files the rows come in and however many runs take them in, the tables depend on rows and landing times alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from landing_rows import land, usage
from tables import records, rows

from foreshard.settings import Settings
from foreshard.usage.aggregate import aggregate

pytestmark = pytest.mark.spark

FIRST = datetime(2013, 11, 28, 5, tzinfo=UTC)
HOURS = 4
# What tells one run or file from another and not one row from another.
RUN = ("file_name", "file_checksum", "file_row")
Line = dict[str, Any] | str


def mixture(draw: random.Random) -> dict[int, list[Line]]:
    """Landing hour → lines: new, repeated, corrected, late, too late, and damaged ones."""
    landed: dict[int, list[Line]] = {}
    known: list[dict[str, Any]] = []
    for hour in range(HOURS):
        lines: list[Line] = []
        for number in range(draw.randint(5, 30)):
            kind = draw.choice(["new", "new", "repeated", "conflict", "corrected", "late", "too late", "damaged", "no id"])
            at = FIRST + timedelta(hours=hour, seconds=draw.randrange(3600))
            row = usage(f"e{draw.randrange(6)}", at, draw.randrange(100), record_id=f"r{hour}-{number}")
            if kind in ("repeated", "conflict", "corrected") and known:
                row = dict(draw.choice(known))
                if kind == "conflict":
                    row["quantity"] = draw.randrange(100)
                if kind == "corrected":
                    moved = datetime.fromisoformat(row["event_time"]) - timedelta(hours=draw.randrange(40))
                    row |= {"revision": draw.randrange(1, 4), "quantity": draw.randrange(100), "event_time": moved.isoformat()}
            elif kind == "late":
                row["event_time"] = (at - timedelta(hours=draw.randrange(150))).isoformat()
            elif kind == "too late":
                row["event_time"] = (at - timedelta(days=8)).isoformat()
            elif kind == "no id":
                row = usage("without id", at, number + 1000 * hour)
            if kind == "damaged":
                lines.append(draw.choice(['{"damaged', str(row), "null"]) + f" {hour} {number}")
            else:
                lines.append(row)
                known.append(row)
        landed[hour] = lines
    return landed


def take_in(spark: Any, settings: Settings, draw: random.Random, landed: dict[int, list[Line]]) -> None:
    """Lands the lines in files and runs of any size, in the order of the hours; some runs are repeated."""
    for hour, lines in landed.items():
        shuffled = draw.sample(lines, len(lines))
        cuts = sorted(draw.sample(range(len(lines) + 1), draw.randint(0, 3)))
        for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(lines)], strict=True)):
            if begin < end:
                name = f"{draw.randrange(10**6)}-{number}.jsonl"
                land(settings, "usage_record", FIRST + timedelta(hours=hour), name, shuffled[begin:end])
    borders = sorted({0, HOURS, *draw.sample(range(HOURS), draw.randint(0, HOURS - 1))})
    for begin, end in pairwise(borders):
        for _ in range(draw.choice([1, 1, 2])):
            run(spark, settings, begin, end)


def _told(row: dict[str, Any]) -> list[tuple[str, Any]]:
    """What a record says, but for the file that it came in, which also names a row without an id."""
    named = row | {"record_id": "of its file"} if ":" in row["record_id"] else row
    return sorted((key, value) for key, value in named.items() if key not in RUN)


def run(spark: Any, settings: Settings, begin: int, end: int) -> None:
    result = aggregate(spark, settings, FIRST + timedelta(hours=begin), FIRST + timedelta(hours=end))
    count = result.counts["usage_record"]
    assert count.read == count.accepted + count.duplicates + count.quarantined
    stored = records(settings, "usage_record")
    newest: dict[str, int] = {}
    for row in stored:
        newest[row["record_id"]] = max(row["revision"], newest.get(row["record_id"], 0))
    superseded = sum(row["revision"] < newest[row["record_id"]] for row in stored)
    assert sum(row["events"] for row in records(settings, "usage_hourly")) == len(stored) - superseded


@pytest.mark.parametrize("example", range(3))
def test_the_result_depends_on_the_rows_and_their_landing_times_alone(spark: Any, lake: Settings, example: int) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    draw = random.Random(seed)
    landed = mixture(draw)
    outcomes: list[Sequence[Any]] = []
    for name in ("one", "other"):
        settings = replace(lake, lake=str(lake.home / name), landing=str(lake.home / f"landing-{name}"))
        take_in(spark, settings, draw, landed)
        kept = [_told(row) for row in records(settings, "usage_record")]
        quarantine = [(row["raw"], row["reason"], row["landed_at"]) for row in records(settings, "quarantine")]
        outcomes.append((rows(settings, "usage_hourly"), sorted(kept, key=repr), sorted(quarantine)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0]
