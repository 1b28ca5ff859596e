"""Lines and values that Spark's reader would take for others are told from those it reads as they are."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.settings import Settings
from foreshard.usage.formats.mapping import resolve
from foreshard.usage.records import QUERIES, USAGE
from foreshard.usage.strictness import doubtful, plain_lines, problem

FIELDS = resolve(QUERIES, Settings()).fields
PATTERN = plain_lines(FIELDS)
NAMES = {field.name for field in FIELDS}
texts = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner))
declared = st.fixed_dictionaries(
    {"entity_id": texts, "epoch": st.integers(), "latency_ms": st.floats(allow_nan=False, allow_infinity=False)},
    optional={
        "reason": texts | st.none(),
        "event_time": st.datetimes().map(lambda moment: moment.isoformat()),
        "candidates": st.lists(st.fixed_dictionaries({"node_id": texts, "score": st.floats(0, 1)}), max_size=3),
    },
)


def is_doubtful(line: str) -> bool:
    return bool(doubtful(pa.array([line.encode("utf-8", "surrogatepass")], pa.binary()), PATTERN))


def refused(line: str) -> str | None:
    """As a reader asks: only lines in doubt are looked at."""
    return problem(line, FIELDS) if is_doubtful(line) else None


@given(st.dictionaries(texts, values, max_size=5), declared, st.booleans())
def test_one_object_a_line_passes_whatever_else_it_holds(extra: dict[str, object], row: dict[str, object], ascii: bool) -> None:
    assert refused(json.dumps(extra | row, ensure_ascii=ascii)) is None


@given(st.dictionaries(texts.filter(lambda name: name not in NAMES), scalars, max_size=5), declared, st.sampled_from([" ", ""]))
def test_lines_without_other_nested_fields_need_no_closer_look(
    extra: dict[str, object], row: dict[str, object], space: str
) -> None:
    escaped = any("\\" in json.dumps(name) or "\\" in json.dumps(name, ensure_ascii=False) for name in extra)
    line = json.dumps(extra | row, ensure_ascii=False, separators=("," + space, ":" + space))
    assert is_doubtful(line) <= escaped


@given(st.dictionaries(texts, values, max_size=3), declared, st.sampled_from(["", " ", "\t", ",", ", ", "]", "x"]))
def test_what_follows_the_object_is_refused(one: dict[str, object], two: dict[str, object], between: str) -> None:
    assert refused(json.dumps(one) + between + json.dumps(two)) == "malformed JSON"
    assert refused(json.dumps(two) + (between.strip() or "}")) == "malformed JSON"


@given(declared, st.sampled_from(["entity_id", "reason", "latency_ms", "epoch", "event_time"]), values)
def test_no_line_without_doubt_has_a_value_that_the_reader_mistakes(row: dict[str, object], name: str, value: object) -> None:
    line = json.dumps(row | {name: value})
    if not is_doubtful(line):
        assert problem(line, FIELDS) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"entity_id": {"a": 1}}', 'entity_id is not a text: {"a": 1}'),
        ('{"reason" : ["x"]}', 'reason is not a text: ["x"]'),
        ('{"latency_ms": "5"}', 'latency_ms is not a number: "5"'),
        ('{"latency_ms": "many"}', "latency_ms is not a number: many"),
        ('{"epoch": "1"}', 'epoch is not a whole number: "1"'),
        ('{"event_time": 1385612400}', "event_time is not a time (ISO 8601): 1385612400"),
        ('{"event_time": true}', "event_time is not a time (ISO 8601): true"),
        ('{"event_time": "05:10"}', "event_time is not a time (ISO 8601): 05:10"),
        ('{"event_time": "2013"}', "event_time is not a time (ISO 8601): 2013"),
        ('{"event_\\u0074ime": "05:10"}', "event_time is not a time (ISO 8601): 05:10"),
        ('{"event_time": "2013-11-28T05:10:00Z"}', None),
        ('{"event_time": "2013-11-28"}', None),
        ('{"event_time": ""}', None),
        ('{"latency_ms": null}', None),
        ('{"candidates": [{"node_id": "a", "score": 1}], "node_id": "a"}', None),
        ("[" * 5_000, "malformed JSON"),
    ],
)
def test_a_value_of_another_type_is_told_by_name(line: str, reason: str | None) -> None:
    assert refused(line) == reason


def test_a_quoted_quantity_is_refused_among_many_good_lines() -> None:
    fields = resolve(USAGE, Settings()).fields
    good = (
        '{"entity_id": "e", "service_id": "s", "operation_id": "o", "event_time": "2013-11-28T05:10:00+00:00", "quantity": 5}'
    )
    lines = [good.encode()] * 1000
    lines[777] = good.replace("5}", '"5"}').encode()
    assert doubtful(pa.array(lines, pa.binary()), plain_lines(fields)) == [777]
