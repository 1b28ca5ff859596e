"""The fast rankings give the order of the scores, and the order of scores is what it has always been."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.hashing import entity_slot, node_hashes, rendezvous_scores
from foreshard.ranking import Ranking, _log, first_ranked, rank_of, score

MASK = (1 << 64) - 1


def ordered(
    shards: npt.ArrayLike, names: list[str], weights: list[float], accepts: list[bool], count: int
) -> npt.NDArray[np.int64]:
    """The first-ranked by sorting all scores."""
    every = rendezvous_scores(shards, names, weights)  # type: ignore[arg-type]
    every[:, ~np.array(accepts, dtype=bool)] = -1.0
    places = np.argsort(-every, axis=1, kind="stable")[:, :count]
    places[np.take_along_axis(every, places, axis=1) < 0] = -1
    return np.pad(places, ((0, 0), (0, count - places.shape[1])), constant_values=-1)


# Recorded from numpy's arithmetic over whole tables, before there was a compiled ranking. Published layouts follow from these.
@pytest.mark.parametrize(
    ("nodes", "weights", "first", "digest"),
    [
        (40, [1.0] * 40, [24, 15, 5, 31, 18, 26], "946a4ff4a8ddf995654c518f58de9ed38a4fe036eb543c35c0876ba046abd3c6"),
        (
            40,
            [1.0 + (i * 7) % 13 * 0.5 for i in range(40)],
            [24, 15, 5, 31, 18, 37],
            "e88f3e7a9c6e606bd6985b245cf5a9f026b12f32952e82cee9d6ddc4e27e895c",
        ),
        (
            7,
            [0.3, 1.7, 10.0, 2.2, 0.9, 4.4, 0.0],
            [2, 2, 2, 2, 2, 1],
            "d852ed13d9596d4c46afa45ec33a835cf35854a1f72ff759a4c52fe05b604050",
        ),
    ],
    ids=["equal weights", "mixed weights", "one without weight"],
)
def test_the_first_three_nodes_of_5000_shards_never_change(
    nodes: int, weights: list[float], first: list[int], digest: str
) -> None:
    names = [f"pipeline-{i:02d}" for i in range(nodes)]
    found = first_ranked(np.arange(5_000), node_hashes(names), weights, [True] * nodes, 3)
    assert found[:6, 0].tolist() == first
    assert hashlib.sha256(found.astype("<i4").tobytes()).hexdigest() == digest
    assert np.array_equal(found, ordered(np.arange(5_000), names, weights, [True] * nodes, 3))


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[str], list[float], list[bool]]:
    count = draw(st.integers(0, 30))
    weight = st.one_of(st.sampled_from([0.0, 1.0, 1.0, 2.5]), st.floats(0, 1e6), st.floats(1e-300, 1e-290))
    return (
        [f"n{i}" for i in range(count)],
        draw(st.lists(weight, min_size=count, max_size=count)),
        draw(st.lists(st.booleans(), min_size=count, max_size=count)),
    )


@given(pool=pools(), shards=st.lists(st.integers(0, MASK), max_size=20), count=st.integers(1, 5), threads=st.integers(1, 3))
def test_the_first_ranked_are_those_of_the_sorted_scores(
    pool: tuple[list[str], list[float], list[bool]], shards: list[int], count: int, threads: int
) -> None:
    names, weights, accepts = pool
    ids = np.array(shards, dtype=np.uint64)
    found = first_ranked(ids, node_hashes(names), weights, accepts, count, threads=threads)
    assert found.dtype == np.int32
    assert np.array_equal(found, ordered(ids, names, weights, accepts, count))


def test_nodes_with_equal_scores_rank_by_position() -> None:
    twins = np.repeat(node_hashes(["a", "b"]), 3)
    found = first_ranked(np.arange(200), twins, np.ones(6), np.ones(6, dtype=bool), 6)
    assert {tuple(row) for row in found.tolist()} == {(0, 1, 2, 3, 4, 5), (3, 4, 5, 0, 1, 2)}


def test_several_threads_give_what_one_gives() -> None:
    hashes, weights, accepts = node_hashes([f"n{i}" for i in range(9)]), np.arange(9.0), np.arange(9) != 4
    one, three = (first_ranked(np.arange(7_001), hashes, weights, accepts, 2, threads=t) for t in (1, 3))
    assert np.array_equal(one, three)


@given(pool=pools(), shard=st.integers(0, 1 << 62))
def test_a_pairs_rank_is_its_place_among_the_accepting(pool: tuple[list[str], list[float], list[bool]], shard: int) -> None:
    names, weights, accepts = pool
    every = ordered([shard], names, weights, accepts, max(1, len(names)))[0]
    hashes, weight, accepting = node_hashes(names), np.array(weights, dtype=float), np.array(accepts, dtype=bool)
    for place, node in enumerate(every[every >= 0]):
        assert rank_of(shard, int(node), hashes, weight, accepting) == place


def unmixed(mixed: int) -> int:
    """The number that the finaliser of splitmix64 turns into this one."""
    x = mixed
    x ^= (x >> 31) ^ (x >> 62)
    x = x * pow(0x94D049BB133111EB, -1, 1 << 64) & MASK
    x ^= (x >> 27) ^ (x >> 54)
    x = x * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & MASK
    x ^= (x >> 30) ^ (x >> 60)
    return (x - 0x9E3779B97F4A7C15) & MASK


def test_the_highest_hash_there_is_ranks_first() -> None:
    """Its u would round to 1, whose logarithm is 0."""
    hashes = node_hashes(["a", "b", "c"])
    shard = unmixed(MASK) ^ int(hashes[1])
    assert score(np.uint64(shard), hashes[1], 1.0) == pytest.approx(2.0**53)
    assert first_ranked(np.array([shard], dtype=np.uint64), hashes, [1.0, 1.0, 1.0], [True] * 3, 1)[0, 0] == 1


@given(st.integers(0, (1 << 53) - 1))
def test_the_logarithm_is_right_to_the_last_place(step: int) -> None:
    u = min((step + 0.5) / 2**53, 1 - 2**-53)
    assert abs(_log(u) - math.log(u)) <= math.ulp(math.log(u))


def test_a_score_is_the_same_for_the_table_and_for_a_pair() -> None:
    names, weights = ["a", "b", "c"], [1.0, 2.0, 0.5]
    pairs = [[score(s, h, w) for h, w in zip(node_hashes(names), weights, strict=True)] for s in range(50)]
    assert np.array_equal(pairs, rendezvous_scores(range(50), names, weights))


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_that_cannot_be_is_refused_with_its_position(weight: float) -> None:
    with pytest.raises(ForeshardError, match="position 1 has weight"):
        first_ranked([0], node_hashes(["a", "b"]), [1.0, weight], [True, True], 1)


def test_one_call_many_calls_and_the_scores_name_the_same_nodes() -> None:
    names, weights = [f"n{i}" for i in range(12)], [1.0, 3.0, 0.5] * 4
    ranking = Ranking(names, weights, slot_bits=7, count=4)
    keys = [f"entity-{i}" for i in range(500)]
    slots = [entity_slot(key, 7) for key in keys]
    expected = ordered(slots, names, weights, [True] * 12, 4)
    assert np.array_equal(ranking.positions_of(keys), expected)
    assert [ranking.nodes_of(key) for key in keys] == [tuple(names[n] for n in row) for row in expected]


def test_a_ranking_of_fewer_nodes_than_asked_for_names_them_all_and_of_none_names_none() -> None:
    assert sorted(Ranking(["a", "b"], [1.0, 1.0], slot_bits=3).nodes_of("x")) == ["a", "b"]
    assert Ranking([], [], slot_bits=3).nodes_of("x") == ()
    assert Ranking([], [], slot_bits=3).positions_of(["x", "y"]).shape == (2, 0)


def test_the_example_in_the_docstring_holds() -> None:
    assert Ranking(["a", "b", "c"], [1.0, 1.0, 2.0], slot_bits=10, count=2).nodes_of("AA1") == ("c", "b")
