"""CSV: what a writer wrote is read back, and a damaged row is refused alone."""

from __future__ import annotations

import csv as standard
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.settings import Settings, parse
from foreshard.usage.formats import csv
from foreshard.usage.formats.mapping import Mapping, resolve
from foreshard.usage.records import QUERIES, USAGE

PLAIN = resolve(USAGE, Settings())
HEADER = "entity_id,service_id,operation_id,event_time,quantity,note\n"
GOOD = "e,s,o,2013-11-28T05:10:00Z,5,"


def mapped(**declared: Any) -> Mapping:
    return resolve(USAGE, parse({"input": {"usage_record": declared}}, "test"))


def read(data: str | bytes, mapping: Mapping = PLAIN, size: int = 1 << 20) -> list[dict[str, Any]]:
    content = data if isinstance(data, bytes) else data.encode()
    batches = csv.read((content[i : i + size] for i in range(0, len(content), size)), mapping)
    return [row for batch in batches for row in batch.to_pylist()]


def problems(data: str | bytes) -> dict[int, str]:
    return {row["file_row"]: row["problem"] for row in read(data) if row["problem"]}


# Lone carriage returns end a row for some readers and not for others; a row of blanks alone is none.
cells = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\x00"), max_size=8)


@given(
    st.lists(st.tuples(cells, cells, st.decimals(-1000, 1000, allow_nan=False, places=3)), max_size=20),
    st.integers(5, 300),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([standard.QUOTE_MINIMAL, standard.QUOTE_ALL]),
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_what_a_writer_wrote_is_read_back_whatever_the_blocks(
    rows: list[tuple[Any, ...]], size: int, end: str, quoting: Any, delimiter: str
) -> None:
    file = io.StringIO()
    writer = standard.writer(file, lineterminator=end, quoting=quoting, delimiter=delimiter)
    writer.writerows([("entity_id", "note", "quantity"), *rows])
    found = read(file.getvalue(), mapped(delimiter=delimiter), size)
    assert [row["file_row"] for row in found] == list(range(1, len(rows) + 1))
    assert [row["problem"] for row in found] == [None] * len(rows)
    texts = [json.loads(row["text"], parse_float=str, parse_int=str) for row in found]
    assert texts == [{"entity_id": entity or None, "quantity": str(quantity)} for entity, _, quantity in rows]
    assert "".join(row["raw"] + end for row in found) == file.getvalue().split(end, 1)[1]


def test_damaged_rows_are_refused_alone_and_the_rest_goes_on() -> None:
    lines = [GOOD, "a,b", f"{GOOD},7", f'"{GOOD}', GOOD, f'"e"x{GOOD[1:]}', GOOD.replace("e", '5" pipe', 1), GOOD]
    data = (HEADER + "\n".join(lines)).encode() + b"\n\xff" + GOOD.encode()
    quotes = "malformed CSV row: a quote is not closed, or more follows it"
    assert problems(data) == {
        2: "malformed CSV row: 2 columns, and the header has 6",
        3: "malformed CSV row: 7 columns, and the header has 6",
        4: quotes,
        6: quotes,
        9: "not UTF-8",
    }
    found = read(data)
    assert [row["raw"] for row in found[:8]] == lines
    assert json.loads(found[6]["text"])["entity_id"] == '5" pipe'
    assert all((row["text"] is None) == (row["problem"] is not None) for row in found)


@pytest.mark.parametrize(
    ("time", "quantity", "problem"),
    [
        ("2013-11-28", "many", "quantity is not a number: many"),
        ("2013-11-28", "+5", "quantity is not a number: +5"),
        ("2013-11-28", "0x10", "quantity is not a number: 0x10"),
        ("2013-11-28", "NaN", "quantity is not a number: NaN"),
        ("2013-11-28", '"1,000"', "quantity is not a number: 1,000"),
        ("1385612400", "5", "event_time is not a time (ISO 8601): 1385612400"),
        ("28/11/2013 05:10", "5", "event_time is not a time (ISO 8601): 28/11/2013 05:10"),
        ("05:10", "5", "event_time is not a time (ISO 8601): 05:10"),
    ],
)
def test_a_changed_type_is_refused_row_by_row(time: str, quantity: str, problem: str) -> None:
    assert problems(f"{HEADER}{GOOD}\ne,s,o,{time},{quantity},\n{GOOD}\n") == {2: problem}


def test_empty_cells_and_columns_that_are_not_there_are_missing() -> None:
    found = read("entity_id,quantity\r\n\r\n,\r\na, 7 \r\n")
    assert [(row["file_row"], row["raw"], row["text"]) for row in found] == [
        (1, ",", '{"entity_id":null,"quantity":null}'),
        (2, "a, 7 ", '{"entity_id":"a","quantity":7}'),
    ]


def test_columns_and_constants_are_as_declared() -> None:
    mapping = mapped(
        format="csv", delimiter=";", columns={"entity_id": "customer"}, constants={"service_id": "b", "quantity": 2}
    )
    assert [
        row["text"] for row in read("\ufeffcustomer;x;customer\na;1;twice\n".encode().removeprefix(b"\xef\xbb\xbf"), mapping)
    ] == ['{"entity_id":"a","service_id":"b","quantity":2}']
    # A file that has the column is believed before the constant.
    assert [row["text"] for row in read("entity_id;service_id\na;s\n", mapping)] == [
        '{"entity_id":"a","service_id":"s","quantity":2}'
    ]


def test_a_list_of_candidates_is_json_in_its_cell() -> None:
    mapping = resolve(QUERIES, Settings())
    data = 'entity_id,candidates\ne,"[{""node_id"": ""a"", ""score"": 0.5}]"\ne,none\ne,\n'
    assert [(row["text"], row["problem"]) for row in read(data, mapping)] == [
        ('{"entity_id":"e","candidates":[{"node_id": "a", "score": 0.5}]}', None),
        (None, "candidates is not a list of candidates: none"),
        ('{"entity_id":"e","candidates":null}', None),
    ]


def test_a_file_without_rows_gives_none_and_one_with_a_broken_header_is_an_error() -> None:
    assert read(HEADER) == read("\n") == read("") == []
    with pytest.raises(ValueError, match="its header row is malformed"):
        read(b"entity_id,caf\xe9\na,b\n")
