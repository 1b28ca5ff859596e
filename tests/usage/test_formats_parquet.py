"""Parquet: columns in bulk where the types go together, value by value where one changed."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.settings import Settings, parse
from foreshard.usage.formats import parquet
from foreshard.usage.formats.mapping import Mapping, resolve
from foreshard.usage.records import QUERIES, USAGE, RecordKind

AT = datetime(2013, 11, 28, 5, 10, tzinfo=UTC)


def mapping(kind: RecordKind = USAGE, **declared: Any) -> Mapping:
    return resolve(kind, parse({"input": {kind.name: declared}}, "test") if declared else Settings())


def read(table: pa.Table, of: Mapping | None = None) -> list[dict[str, Any]]:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    of = of or mapping()
    batches = list(parquet.read(pa.BufferReader(sink.getvalue()), of))
    assert all(batch.schema == parquet.schema(of) for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


def column(name: str, values: pa.Array, kind: RecordKind = USAGE) -> list[tuple[Any, str | None]]:
    return [(row[name], row["problem"]) for row in read(pa.table({name: values}), mapping(kind))]


def test_rows_are_counted_over_batches_and_missing_columns_are_null() -> None:
    table = pa.table({"entity_id": [f"e{i}" for i in range(150_000)], "other": range(150_000)})
    found = read(table)
    assert [row["file_row"] for row in found] == list(range(1, 150_001))
    assert found[149_999] == dict.fromkeys(found[0]) | {"file_row": 150_000, "entity_id": "e149999"}


TIMES = [
    pa.array([AT, None], pa.timestamp("ns", "UTC")),
    pa.array([AT, None], pa.timestamp("s", "America/New_York")),
    pa.array([AT.replace(tzinfo=None), None], pa.timestamp("ms")),
    pa.array(["2013-11-28T05:10:00Z", None]),
    pa.array(["2013-11-28 05:10:00", None]),
    pa.array(["2013-11-28T07:10:00+02:00", None], pa.large_string()),
]


@pytest.mark.parametrize("values", TIMES, ids=lambda v: str(v.type))
def test_times_are_taken_in_any_unit_and_as_text(values: pa.Array) -> None:
    assert column("event_time", values) == [(AT, None), (None, None)]


def test_a_date_is_its_first_instant() -> None:
    assert column("event_time", pa.array([date(2013, 11, 28)])) == [(datetime(2013, 11, 28, tzinfo=UTC), None)]


NUMBERS = [
    pa.array([5, None], pa.int8()),
    pa.array([5.0, None]),
    pa.array([Decimal("5.0000000004"), None], pa.decimal128(38, 10)),
    pa.array([5, None], pa.uint64()),
    pa.array([5.0, None], pa.float32()),
    pa.array([5, None], pa.int64()).dictionary_encode(),
]


@pytest.mark.parametrize("values", NUMBERS, ids=lambda v: str(v.type))
def test_numbers_are_taken_in_any_width(values: pa.Array) -> None:
    assert column("quantity", values) == [(Decimal("5.000000"), None), (None, None)]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("quantity", ["5", "many", "0.1", None], [Decimal(5), "quantity is not a number: many", Decimal("0.1"), None]),
        ("quantity", ["", "1"], [None, Decimal(1)]),
        ("quantity", [True], ["quantity is not a number: true"]),
        ("quantity", [1e30, 2.5], ["quantity is not a number: 1e+30", Decimal("2.5")]),
        ("quantity", [float("nan"), 2.5], ["quantity is not a number: NaN", Decimal("2.5")]),
        ("revision", [1.5, 2.0], ["revision is not a whole number: 1.5", 2]),
        ("revision", [1 << 40, 3], ["revision is not a whole number: 1099511627776", 3]),
        ("event_time", [1385612400], ["event_time is not a time (ISO 8601): 1385612400"]),
        (
            "event_time",
            ["2013-11-28T05:10:00Z", "2013-11-28T06:10:00+01:00", "2013-11-28T05:10:00", "05:10"],
            [AT, AT, AT, "event_time is not a time (ISO 8601): 05:10"],
        ),
        ("entity_id", [7], ["7"]),
        ("entity_id", [1.5, None], ["entity_id is not a text: 1.5", None]),
        ("entity_id", [["a"]], ['entity_id is not a text: ["a"]']),
        ("entity_id", [b"caf\xc3\xa9"], ["café"]),
    ],
)  # fmt: skip
def test_a_changed_type_is_refused_row_by_row(name: str, values: list[Any], expected: list[Any]) -> None:
    found = column(name, pa.array(values))
    assert [problem if problem else value for value, problem in found] == expected
    assert all(value is None for value, problem in found if problem)


def test_a_row_with_a_problem_is_told_as_json_and_the_first_problem_is_given() -> None:
    at = AT.astimezone(timezone(timedelta(0)))
    rows = read(pa.table({"entity_id": ["a", "b"], "quantity": ["x", "1"], "event_time": [at, at], "revision": ["y", "1"]}))
    assert json.loads(rows[0]["raw"]) == {
        "entity_id": "a",
        "event_time": "2013-11-28T05:10:00+00:00",
        "quantity": "x",
        "revision": "y",
    }
    assert rows[0]["problem"] == "revision is not a whole number: y"
    assert (rows[1]["raw"], rows[1]["problem"], rows[1]["revision"]) == (None, None, 1)


def test_columns_and_constants_are_as_declared() -> None:
    declared = mapping(columns={"entity_id": "the customer.id"}, constants={"service_id": "billing", "quantity": 2})
    (row,) = read(pa.table({"the customer.id": ["a"], "x": [1]}), declared)
    assert (row["entity_id"], row["service_id"], row["quantity"]) == ("a", "billing", Decimal(2))
    (row,) = read(pa.table({"entity_id": ["own"], "service_id": ["s"]}), declared)
    assert (row["entity_id"], row["service_id"]) == ("own", "s")


CANDIDATES = [{"node_id": "a", "score": 0.5}, {"node_id": "b", "score": None}]


@pytest.mark.parametrize("values", [pa.array([CANDIDATES, []]), pa.array([json.dumps(CANDIDATES), "[]"])], ids=["list", "text"])
def test_candidates_are_lists_or_json(values: pa.Array) -> None:
    assert column("candidates", values, QUERIES) == [(CANDIDATES, None), ([], None)]


def test_what_is_no_list_of_candidates_is_refused() -> None:
    expected = [(None, "candidates is not a list of candidates: none"), ([], None)]
    assert column("candidates", pa.array(["none", "[]"]), QUERIES) == expected


@given(st.lists(st.decimals(-(10**11), 10**11, allow_nan=False, places=6), max_size=20))
def test_decimals_are_not_changed_in_bulk_nor_one_by_one(values: list[Decimal]) -> None:
    assert column("quantity", pa.array(values, pa.decimal128(30, 6))) == [(value, None) for value in values]
    assert column("quantity", pa.array([str(value) for value in values], pa.string())) == [(value, None) for value in values]


def test_what_is_no_parquet_file_is_an_error() -> None:
    with pytest.raises(pa.ArrowInvalid):
        list(parquet.read(pa.BufferReader(b"PAR1 no footer"), mapping()))
