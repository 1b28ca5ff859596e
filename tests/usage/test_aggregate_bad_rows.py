"""Bad rows land in quarantine with file, row and reason, and the rest goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from landing_rows import land, query, usage
from tables import records

from foreshard.hashing import entity_slot
from foreshard.settings import Settings
from foreshard.usage.aggregate import AggregateResult, aggregate

pytestmark = pytest.mark.spark

HOUR = datetime(2013, 11, 28, 5, tzinfo=UTC)
AT = HOUR + timedelta(minutes=10)
UNUSUAL = ["plain", "ü€漢字", "🛫", "e\u0301", "a b\tc", "'\"\\", "{3F25-04E0}", "[x", "0", " spaced ", "x" * 300, "\u202e"]


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


# (line, the reason it is refused with); None is accepted, "" is not counted at all.
USAGE_LINES: list[tuple[dict[str, Any] | str | bytes, str | None]] = [
    *[(usage(entity, AT), None) for entity in UNUSUAL],
    ('{"entity_id": "e", "serv', "malformed JSON"),
    ("not json", "malformed JSON"),
    ("", ""),
    (json.dumps(usage("one", AT)) + json.dumps(usage("two", AT)), "malformed JSON"),
    (json.dumps(usage("trailing", AT)) + " x", "malformed JSON"),
    ("[" + json.dumps(usage("listed", AT)) + "]", "malformed JSON"),
    ("[" * 5_000, "malformed JSON"),
    ("null", "malformed JSON"),
    ("{}", "missing entity_id"),
    ("   ", ""),
    (without(usage("e", AT), "quantity"), "missing quantity"),
    (without(usage("e", AT), "event_time"), "missing event_time"),
    (usage("", AT), "missing entity_id"),
    (usage("e", AT) | {"service_id": None}, "missing service_id"),
    (usage("e", AT, "many"), "quantity is not a number: many"),
    (usage("e", AT, True), "quantity is not a number: true"),
    (usage("e", AT, "5"), 'quantity is not a number: "5"'),
    (usage("e", AT, "1,000"), 'quantity is not a number: "1,000"'),
    (usage("e", AT, {"amount": 5}), "quantity is not a number"),
    (usage("e", AT, float("nan")), 'quantity is not a number: "NaN"'),
    (usage("e", AT, 1e30), "quantity is not a number: 1.0E30"),
    (usage("e", AT, -1), "negative quantity: -1.000000"),
    (usage("e", AT, revision=1.5), "revision is not a whole number: 1.5"),
    (usage("e", AT, revision=-1), "negative revision: -1"),
    (usage("e", AT, revision=1 << 40), f"revision is not a whole number: {1 << 40}"),
    (usage("e", AT) | {"event_time": "yesterday"}, "event_time is not a time (ISO 8601): yesterday"),
    (usage("e", AT) | {"event_time": 1385612400}, "event_time is not a time (ISO 8601): 1385612400"),
    (usage("e", AT) | {"event_time": "05:10"}, "event_time is not a time (ISO 8601): 05:10"),
    (usage("e", AT) | {"event_time": "2013-11-28T05:10:00 hours"}, "event_time is not a time (ISO 8601)"),
    (usage("e", AT) | {"event_time": "2013-13-28T05:10:00Z"}, "event_time is not a time (ISO 8601)"),
    (json.dumps(usage("one", AT)) + "," + json.dumps(usage("two", AT)), "malformed JSON"),
    (json.dumps(usage("cut", AT))[:-1] + ",", "malformed JSON"),
    (usage("e", AT) | {"entity_id": {"a": 1}}, 'entity_id is not a text: {"a": 1}'),
    (usage("e", HOUR + timedelta(hours=2)), None),  # one hour after the end of the landing hour is still tolerated
    (usage("e", HOUR + timedelta(hours=2, seconds=1)), "event_time in the future: 2013-11-28 07:00:01"),
    (usage("e", datetime(9999, 1, 1, tzinfo=UTC)), "event_time in the future: 9999-01-01 00:00:00"),
    (usage("e", HOUR + timedelta(hours=1, days=-7)), None),
    (usage("e", HOUR + timedelta(hours=1, days=-7, seconds=-1)), "too late: event_time 2013-11-21 05:59:59"),
    (b'{"entity_id": "caf\xe9", "service_id": "s"}', "not UTF-8"),
    (json.dumps(usage("crlf", AT)) + "\r", None),
    (usage("a brace } { inside", AT), None),
    (usage("unknown fields are passed over", AT, extra={"x": [{"y": 1}]}), None),
]
QUERY_LINES: list[tuple[dict[str, Any] | str | bytes, str | None]] = [
    (query("ü€漢字", AT), None),
    (query("no candidates", AT, candidates=[]), None),
    (query("e", AT, latency_ms=float("nan")), "latency_ms is not a number"),
    (query("e", AT, latency_ms=float("inf")), "latency_ms is not a number"),
    (query("e", AT, latency_ms=-1.0), "negative latency_ms: -1.0"),
    (query("e", AT, latency_ms="12.5"), 'latency_ms is not a number: "12.5"'),
    (query("e", AT, status="ok"), "status is not a whole number: ok"),
    (query("e", AT, bytes=1.5), "bytes is not a whole number: 1.5"),
    (query("e", AT, candidates="none"), "candidates is not a list of candidates: none"),
    (without(query("e", AT), "epoch"), "missing epoch"),
    (query("e", AT, predicted_load=float("-inf")), "predicted_load is not a number"),
]


@pytest.fixture(scope="module")
def result(spark: Any, module_lake: Settings) -> AggregateResult:
    land(module_lake, "usage_record", HOUR, "of [x]*, 100%.jsonl", [line for line, _ in USAGE_LINES])
    land(module_lake, "usage_record", HOUR, "empty.jsonl", [])
    land(module_lake, "usage_record", HOUR, "empty too.csv", [])
    land(module_lake, "usage_record", HOUR, "utf-16.jsonl", [json.dumps(usage("wide", AT)).encode("utf-16")])
    land(module_lake, "usage_record", HOUR, ".partial.jsonl", ["still being written"])
    land(module_lake, "usage_record", HOUR, "readme.txt", ["no landing file"])
    land(module_lake, "query_record", HOUR, "q.jsonl", [line for line, _ in QUERY_LINES])
    return aggregate(spark, module_lake, HOUR, HOUR + timedelta(hours=1))


def refused(settings: Settings, table: str, file: str) -> dict[int, tuple[str, str]]:
    found = [r for r in records(settings, "quarantine") if r["table_name"] == table and r["file_name"].endswith(f"/{file}")]
    return {r["file_row"]: (r["reason"], r["raw"]) for r in found}


@pytest.mark.parametrize(
    ("table", "file", "lines"),
    [("usage_record", "of [x]*, 100%.jsonl", USAGE_LINES), ("query_record", "q.jsonl", QUERY_LINES)],
)
def test_each_bad_row_is_quarantined_as_it_was_with_its_row_and_reason(
    result: AggregateResult, module_lake: Settings, table: str, file: str, lines: list[tuple[Any, str | None]]
) -> None:
    found = refused(module_lake, table, file)
    expected = {number: (line, reason) for number, (line, reason) in enumerate(lines, start=1) if reason}
    assert set(found) == set(expected)
    for number, (line, reason) in expected.items():
        assert found[number][0].startswith(reason), f"row {number}"
        if isinstance(line, dict):
            assert found[number][1] == json.dumps(line)


def test_the_good_rows_beside_them_are_accepted(result: AggregateResult, module_lake: Settings) -> None:
    for table, lines in (("usage_record", USAGE_LINES), ("query_record", QUERY_LINES)):
        wanted = sorted(line["entity_id"] if isinstance(line, dict) else "crlf" for line, reason in lines if reason is None)
        assert sorted(r["entity_id"] for r in records(module_lake, table)) == wanted


def test_a_file_without_rows_or_of_another_encoding_is_named(result: AggregateResult, module_lake: Settings) -> None:
    assert refused(module_lake, "usage_record", "empty.jsonl") == {0: ("empty file", "")}
    assert refused(module_lake, "usage_record", "empty too.csv") == {0: ("empty file", "")}
    assert [reason for reason, _ in refused(module_lake, "usage_record", "utf-16.jsonl").values()] == ["not UTF-8"]
    seen = {r["file_name"].split("/")[1] for r in records(module_lake, "quarantine")}
    assert seen == {"of [x]*, 100%.jsonl", "empty.jsonl", "empty too.csv", "utf-16.jsonl", "q.jsonl"}


def test_every_row_read_is_accounted_for(result: AggregateResult, module_lake: Settings) -> None:
    lines = {"usage_record": USAGE_LINES, "query_record": QUERY_LINES}
    for table, count in result.counts.items():
        assert count.read == count.accepted + count.duplicates + count.quarantined
        assert count.accepted == sum(reason is None for _, reason in lines[table])
        assert count.duplicates == 0
    assert result.counts["usage_record"].quarantined == sum(bool(reason) for _, reason in USAGE_LINES) + 3


def test_the_slot_of_unusual_names_is_that_of_the_library(result: AggregateResult, module_lake: Settings) -> None:
    for table in ("usage_record", "usage_hourly", "query_record"):
        for row in records(module_lake, table):
            assert row["slot"] == entity_slot(row["entity_id"], module_lake.slot_bits), row["entity_id"]
