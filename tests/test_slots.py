"""Slots of many entities at once are those of one at a time, whatever holds the keys."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.hashing import SEED, entity_slot
from foreshard.slots import entity_slots

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=30)


@pytest.mark.parametrize("alphabet", ["ab0-", "aé€😀\0"], ids=["ascii", "up to four bytes a character"])
def test_every_length_up_to_200_hashes_as_the_xxhash_package_does(alphabet: str) -> None:
    source = random.Random(7)
    keys = ["".join(source.choices(alphabet, k=length)) for length in range(201)]
    expected = [xxhash.xxh64_intdigest(key.encode(), seed=SEED) & ((1 << 62) - 1) for key in keys]
    assert entity_slots(keys, 62).tolist() == expected


@given(keys=texts, bits=st.integers(0, 62))
def test_many_at_once_are_those_of_one_at_a_time(keys: list[str], bits: int) -> None:
    assert entity_slots(keys, bits).tolist() == [entity_slot(key, bits) for key in keys]


@given(keys=texts, cut=st.integers(0, 30))
def test_every_arrow_form_of_the_keys_gives_the_same(keys: list[str], cut: int) -> None:
    expected = [entity_slot(key, 20) for key in keys]
    forms: list[Any] = [
        pa.array(keys, pa.string()),
        pa.array(keys, pa.large_string()),
        pa.array(keys, pa.string_view()),
        pa.array(keys, pa.string()).dictionary_encode(),
        pa.array(["before", *keys, "after"], pa.string()).slice(1, len(keys)),
        pa.chunked_array([keys[:cut], [], keys[cut:]], pa.string()),
    ]
    for form in forms:
        assert entity_slots(form, 20).tolist() == expected


def test_parts_on_several_threads_join_without_a_gap() -> None:
    keys = pa.array([f"entity-{i}" for i in range(200_001)])
    found = entity_slots(keys, 20, threads=3)
    assert np.array_equal(found, entity_slots(keys, 20, threads=1))
    assert [int(found[i]) for i in (0, 66_666, 66_667, 133_333, 133_334, 200_000)] == [
        entity_slot(f"entity-{i}", 20) for i in (0, 66_666, 66_667, 133_333, 133_334, 200_000)
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (pa.array(["a", None]), "row 1 is null"),
        (["a", None], "row 1 is null"),
        (pa.chunked_array([["a"], ["b", None]]), "row 2 is null"),
        (pa.array([1, 2]), "array of int64"),
        (["a", 1], "one is not"),
        (["\ud800"], "one is not"),
    ],
    ids=["null", "none", "null in a later chunk", "numbers", "a number", "half a surrogate pair"],
)
def test_what_is_no_text_is_refused_with_the_reason(keys: Any, message: str) -> None:
    with pytest.raises(ForeshardError, match=message):
        entity_slots(keys, 10)
