"""Lines that Spark's reader would take in part are told from those it reads whole."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from foreshard.usage.strictness import problem

texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner)
)


@given(st.dictionaries(texts, values, max_size=5), st.booleans())
def test_one_object_a_line_passes_whatever_it_holds(extra: dict[str, object], ascii_only: bool) -> None:
    row = (
        extra | {"entity_id": "e} {", "reason": "]"} | {n: "t" for n in ("record_id", "service_id", "operation_id", "node_id")}
    )
    row["query_class"] = "{"
    assert problem(json.dumps(row, ensure_ascii=ascii_only).encode()) is None


@given(st.dictionaries(texts, values, max_size=3), st.dictionaries(texts, values, max_size=3), st.sampled_from(["", " ", "\t"]))
def test_two_objects_on_a_line_are_refused(one: dict[str, object], two: dict[str, object], between: str) -> None:
    assert problem((json.dumps(one) + between + json.dumps(two)).encode()) == "malformed JSON"


def test_an_object_or_a_list_is_no_text() -> None:
    assert problem(b'{"entity_id": {"a": 1}}') == 'entity_id is not a text: {"a": 1}'
    assert problem(b'{"reason" : ["x"]}') == 'reason is not a text: ["x"]'
    assert problem(b'{"candidates": [{"node_id": "a", "score": 1}], "node_id": "a"}') is None
