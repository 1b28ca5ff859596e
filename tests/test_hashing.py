"""Slots never change, and ranking nodes is fair and minimal in what it moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.hashing import entity_slot, rendezvous_scores


@pytest.mark.parametrize(
    ("entity", "slots"),
    [("", (4, 772, 517892)), ("AA1", (18, 946, 584626)), ("flight-42", (2, 770, 39682)), ("naïve", (23, 215, 785623))],
)
def test_slots_of_known_entities_never_change(entity: str, slots: tuple[int, int, int]) -> None:
    assert tuple(entity_slot(entity, bits) for bits in (5, 10, 20)) == slots


def test_the_hash_is_xxh64_with_seed_42() -> None:
    assert entity_slot("", 64) == 0x98B1582B0977E704


@given(entity=st.text(), bits=st.integers(0, 20))
def test_a_slot_is_in_range_and_fewer_bits_are_its_lower_bits(entity: str, bits: int) -> None:
    slot = entity_slot(entity, bits)
    assert 0 <= slot < 1 << bits
    assert slot == entity_slot(entity, 20) & ((1 << bits) - 1)


def test_first_places_are_in_proportion_to_weight() -> None:
    scores = rendezvous_scores(range(20_000), ["a", "b", "c"], [1.0, 2.0, 5.0])
    share = np.bincount(scores.argmax(axis=1), minlength=3) / 20_000
    assert share == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.015)


@given(st.integers(2, 8), st.integers(0, 7))
def test_a_lost_node_changes_no_score_of_the_others(count: int, lost: int) -> None:
    names = [f"n{i}" for i in range(count)]
    kept = [n for i, n in enumerate(names) if i != lost % count]
    every, fewer = (rendezvous_scores(range(50), ns, [1.0] * len(ns)) for ns in (names, kept))
    assert np.array_equal(np.delete(every, lost % count, axis=1), fewer)


def test_scores_are_finite_positive_and_distinct() -> None:
    scores = rendezvous_scores(range(2_000), [f"n{i}" for i in range(20)], [1.0] * 20)
    assert np.isfinite(scores).all()
    assert (scores > 0).all()
    assert len(np.unique(scores)) == scores.size
