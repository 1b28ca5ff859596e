"""JSON Lines: rows as they were, problems beside them, and names mapped without touching values."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from foreshard.settings import Settings, parse
from foreshard.usage.formats import jsonl
from foreshard.usage.formats.mapping import Mapping, resolve
from foreshard.usage.records import QUERIES, USAGE

PLAIN = resolve(USAGE, Settings())
GOOD = '{"entity_id": "e", "service_id": "s", "operation_id": "o", "event_time": "2013-11-28T05:10:00Z", "quantity": 5}'


def mapped(**declared: Any) -> Mapping:
    return resolve(USAGE, parse({"input": {"usage_record": declared}}, "test"))


def read(data: bytes, mapping: Mapping = PLAIN, size: int = 1 << 20) -> list[tuple[int, str, str | None, str | None]]:
    batches = jsonl.read((data[i : i + size] for i in range(0, len(data), size)), mapping)
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]  # type: ignore[misc]


def test_rows_are_physical_lines_and_blank_ones_are_counted_only() -> None:
    data = f"\n{GOOD}\r\n   \nnot json\n\n{GOOD}".encode()
    assert read(data) == [(2, f"{GOOD}\r", None, None), (4, "not json", "malformed JSON", None), (6, GOOD, None, None)]


@given(
    st.lists(st.sampled_from([GOOD, "", " ", "x", '{"quantity": "5"}', '{"a": {}}', "\u20ac", '{"e": "\u20ac"}'])),
    st.integers(1, 99),
)
def test_the_blocks_of_a_file_do_not_matter(lines: list[str], size: int) -> None:
    data = "\n".join(lines).encode()
    assert read(data, size=size) == read(data)
    assert [(row, raw) for row, raw, _, _ in read(data)] == [(n, x) for n, x in enumerate(lines, 1) if x.strip()]


def test_a_line_that_is_not_utf_8_does_not_change_its_neighbours() -> None:
    data = f"{GOOD}\n".encode() + b'{"entity_id": "caf\xe9"}\n' + f'{GOOD}\n{{"quantity": "5"}}'.encode()
    assert [(row, problem) for row, _, problem, _ in read(data)] == [
        (1, None),
        (2, "not UTF-8"),
        (3, None),
        (4, 'quantity is not a number: "5"'),
    ]
    assert read(data)[1][1] == '{"entity_id": "caf\\xe9"}'


def test_a_mapped_line_has_the_fields_names_and_its_own_values() -> None:
    mapping = mapped(columns={"entity_id": "customer"}, constants={"service_id": "billing", "quantity": 1})
    line = '{"customer": "caf\\u00e9 \\"x\\"", "when": 1, "event_time": "2013-11-28", "quantity": 12345678901.100000}'
    nested = line[:-1] + ', "more": {"customer": "no"}}'
    own = '{"entity_id": "as it is", "service_id": "s"}'
    found = read("\n".join([line, nested, own, "{", '{"customer": 1}{', '{"quantity": "5"}']).encode(), mapping)
    texts = [_given(text) for _, _, _, text in found]
    wanted = {"entity_id": 'café "x"', "event_time": "2013-11-28", "quantity": "12345678901.100000", "service_id": "billing"}
    assert texts[:2] == [wanted, wanted]
    assert texts[2] == {"entity_id": "as it is", "service_id": "s", "quantity": "1"}
    assert [problem for _, _, problem, _ in found] == [
        None, None, None, "malformed JSON", "malformed JSON", 'quantity is not a number: "5"',
    ]  # fmt: skip
    assert [raw for _, raw, _, _ in found][:3] == [line, nested, own]


names = st.sampled_from(["customer", "entity_id", "service_id", "quantity", "x"])
scalars = st.none() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.dictionaries(names, scalars | st.lists(scalars, max_size=2)), max_size=5))
def test_mapping_by_the_block_and_by_the_line_agree(rows: list[dict[str, Any]]) -> None:
    mapping = mapped(columns={"entity_id": "customer"}, constants={"service_id": "billing"})
    lines = [json.dumps(row) for row in rows]
    at_once = read("\n".join(lines).encode(), mapping)
    # A line of no UTF-8 has the whole block read line by line.
    one_by_one = read("\n".join([*lines, ""]).encode() + b"\xff", mapping)[:-1]
    for (row, raw, problem, text), other in zip(at_once, one_by_one, strict=True):
        assert (row, raw, problem) == other[:3]
        if problem is None:
            assert _given(text) == _given(other[3])


def _given(text: str | None) -> dict[str, str]:
    """A text of digits alone and the number are one id for the reader; what is null or empty is missing."""
    row = json.loads(text or "{}", parse_int=str, parse_float=str)
    return {name: value for name, value in row.items() if value is not None and value != ""}


def test_candidates_of_mapped_queries_stay_lists() -> None:
    mapping = resolve(QUERIES, parse({"input": {"query_record": {"columns": {"entity_id": "customer"}}}}, "test"))
    line = '{"customer": "e", "candidates": [{"node_id": "a", "score": 0.10}]}'
    assert read(line.encode(), mapping) == [(1, line, None, '{"entity_id":"e","candidates":[{"node_id": "a", "score": 0.10}]}')]
