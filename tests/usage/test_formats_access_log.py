"""Web access logs: each line one record, its entity cut out as declared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foreshard.settings import parse
from foreshard.usage.formats import access_log
from foreshard.usage.formats.mapping import resolve
from foreshard.usage.records import QUERIES, USAGE, RecordKind

COMMON = '10.0.0.7 - frank [28/Nov/2013:05:10:00 -0700] "GET /v1/flights/UA1545?day=1 HTTP/1.1" 200 2326'
COMBINED = COMMON + ' "http://example.org/start" "Mozilla/5.0 (X11; \\"odd\\")"'


def read(data: str | bytes, kind: RecordKind = USAGE, size: int = 1 << 20, **log: Any) -> list[dict[str, Any]]:
    constants = {"service_id": "web"} if not log.get("virtual_host") else {}
    if kind is QUERIES:
        constants = constants | {"node_id": "a", "latency_ms": 1.5, "epoch": 0}
    mapping = resolve(kind, parse({"input": {kind.name: {"constants": constants, "access_log": log}}}, "test"))
    content = data if isinstance(data, bytes) else data.encode()
    batches = access_log.read((content[i : i + size] for i in range(0, len(content), size)), mapping)
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("line", [COMMON, COMBINED, COMBINED + " 0.012 upstream=b"])
def test_a_line_is_a_usage_record(line: str) -> None:
    (row,) = read(line)
    assert (row["file_row"], row["raw"], row["problem"]) == (1, line, None)
    assert json.loads(row["text"]) == {
        "entity_id": "/v1/flights/UA1545",
        "service_id": "web",
        "operation_id": "GET",
        "event_time": "2013-11-28T05:10:00-07:00",
        "quantity": 1,
    }


@pytest.mark.parametrize(
    ("log", "entity"),
    [
        ({"entity": "host"}, "10.0.0.7"),
        ({"entity_pattern": r"^/v1/flights/([^/?]+)"}, "UA1545"),
        ({"entity_pattern": r"[?&]day=(\d+)"}, "1"),
        ({"entity_pattern": r"^/(?:v1|v2)/[(\(]*([a-z]+)"}, "flights"),
        ({"entity_pattern": r"^/v2/(.*)"}, None),
        ({"entity": "host", "entity_pattern": r"(\d+)$"}, "7"),
    ],
)
def test_the_entity_is_cut_out_as_declared(log: dict[str, Any], entity: str | None) -> None:
    (row,) = read(COMMON, **log)
    assert json.loads(row["text"])["entity_id"] == entity


def test_the_virtual_host_is_service_or_entity() -> None:
    (row,) = read("shop.example.org:443 " + COMBINED, virtual_host=True)
    assert json.loads(row["text"])["service_id"] == "shop.example.org"
    (row,) = read("shop.example.org " + COMBINED, virtual_host=True, entity="virtual_host")
    assert json.loads(row["text"])["entity_id"] == "shop.example.org"


def test_bytes_are_counted_and_a_dash_is_none() -> None:
    found = read(f"{COMMON}\n{COMMON.replace('2326', '-')}", quantity="bytes")
    assert [json.loads(row["text"])["quantity"] for row in found] == [2326, 0]


def test_a_line_is_a_query_record_with_constants_for_what_a_log_does_not_say() -> None:
    (row,) = read(COMBINED, QUERIES)
    time = "2013-11-28T05:10:00-07:00"
    assert json.loads(row["text"]) == {
        "entity_id": "/v1/flights/UA1545",
        "service_id": "web",
        "operation_id": "GET",
        "range_start": time,
        "range_end": time,
        "event_time": time,
        "node_id": "a",
        "epoch": 0,
        "latency_ms": 1.5,
        "bytes": 2326,
        "status": 200,
    }


@pytest.mark.parametrize("size", [1 << 20, 50])
def test_malformed_lines_are_refused_alone(size: int) -> None:
    lines = [
        COMMON,
        "",
        "no log line",
        COMMON.replace("GET ", "\\x16\\x03 ").replace(" HTTP/1.1", ""),
        COMMON.replace('"GET /v1/flights/UA1545?day=1 HTTP/1.1"', '"-"'),
        COMMON.replace("2326", "many"),
        COMMON.replace("Nov", "Nev"),
        COMMON.replace("frank", "frank smith"),
        COMMON.replace("UA1545", 'a\\"b'),
    ]
    data = "\n".join(lines).encode() + b"\n" + COMMON.encode().replace(b"UA1545", b"caf\xe9")
    malformed = "malformed access log line"
    assert {row["file_row"]: row["problem"] for row in read(data, size=size)} == {
        1: None,
        3: malformed,
        4: malformed,
        5: malformed,
        6: malformed,
        7: "event_time is not a time (ISO 8601): 2013-Nev-28T05:10:00-07:00",
        8: None,
        9: None,
        10: "not UTF-8",
    }
    assert [row["raw"] for row in read(data, size=size)][:8] == [line for line in lines if line]
