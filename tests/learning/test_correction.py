"""Corrections of nodes: what moves them, by how much, and how they fade; on simulated pools and by drawn ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.learning.correction import DECAY, HIGHEST, LOWEST, STEP, Correction, Work, corrected, relative

HOUR = 3600.0
FRESH = {"a": Correction(), "b": Correction()}
EVEN = {"a": 100.0, "b": 100.0}


def test_a_node_with_more_to_do_than_expected_is_asked_less_and_the_other_more() -> None:
    after = corrected(FRESH, EVEN, {"a": Work(150.0), "b": Work(50.0)})
    assert after["a"] > 1 > after["b"]


def test_a_slow_node_that_gets_less_therefore_is_still_asked_less() -> None:
    after = corrected(FRESH, EVEN, {"a": Work(80.0, 0.030), "b": Work(120.0, 0.010)})
    assert after["a"] > 1 > after["b"]


def test_a_pool_that_is_busier_than_forecast_is_corrected_nowhere() -> None:
    assert corrected(FRESH, EVEN, {"a": Work(300.0, 0.2), "b": Work(300.0, 0.2)}) == pytest.approx({"a": 1.0, "b": 1.0})


def test_a_few_queries_more_or_less_say_little() -> None:
    few = corrected(FRESH, {"a": 1.0, "b": 1.0}, {"a": Work(2.0), "b": Work(0.0)})
    many = corrected(FRESH, EVEN, {"a": Work(120.0), "b": Work(80.0)})
    assert 1 < few["a"] < 1.03 < many["a"]


@pytest.mark.parametrize("observed", [{}, {"a": Work(0.0), "b": Work(0.0)}], ids=["no heartbeat", "no load"])
def test_without_evidence_a_correction_goes_back_to_what_was_learnt_of_hours(observed: dict[str, Work]) -> None:
    before = {"a": Correction(1.5), "b": Correction(1.5, learnt=1.2, learnt_age_seconds=0.0)}
    after = corrected(before, EVEN, observed)
    assert after["a"] == pytest.approx(1.5**DECAY)
    assert after["b"] == pytest.approx(1.2 * (1.5 / 1.2) ** DECAY)


def test_steps_settle_where_a_nodes_share_answers_to_its_factor() -> None:
    """Node a needs twice the time that the others need; shares of load go by the inverse of the factors."""
    factors = dict.fromkeys("abc", 1.0)
    history = []
    for _ in range(60):
        pull = {n: 1 / f for n, f in factors.items()}
        load = {n: 900 * p / sum(pull.values()) for n, p in pull.items()}
        observed = {n: Work(load[n], 0.02 if n == "a" else 0.01) for n in factors}
        factors = corrected({n: Correction(f) for n, f in factors.items()}, dict.fromkeys("abc", 300.0), observed)
        history.append(factors["a"] / factors["b"])
    assert history[-1] == pytest.approx(history[-2], rel=1e-3)
    # Some seven tenths of the factor of two, in logarithms.
    assert 0.6 < math.log(history[-1]) / math.log(2) < 0.8


def test_what_nobody_finds_anew_fades_to_one() -> None:
    found = Correction(1.6, 0.0, 1.3, 0.0)
    assert found.now() == pytest.approx(1.6)
    assert found.now(600.0) == pytest.approx(1.6), "it holds for a while"
    assert found.now(2.5 * HOUR) == pytest.approx(1.3, abs=0.02), "then what was learnt of hours is left"
    assert found.now(60 * HOUR) == pytest.approx(1.0, abs=0.01)
    assert Correction(1.6, 2.5 * HOUR).now() == pytest.approx(1.0, abs=0.03)
    assert found.now(5 * HOUR) == Correction(1.6, 2 * HOUR, 1.3, 2 * HOUR).now(3 * HOUR)


def test_factors_beside_their_mean() -> None:
    assert relative({"a": 1.2, "b": 1.8}) == pytest.approx({"a": 0.8, "b": 1.2})
    assert relative({}) == {}


numbers = st.floats(0, 1e9)
ages = st.floats(-1e6, 1e9)
factors = st.floats(LOWEST, HIGHEST)
corrections = st.builds(Correction, factors, ages, factors, st.none() | ages)


@given(st.dictionaries(st.sampled_from("abcde"), st.tuples(corrections, numbers, numbers, st.none() | numbers)))
def test_steps_are_bounded_whatever_nodes_say(nodes: dict[str, tuple[Correction, float, float, float | None]]) -> None:
    before = {n: correction for n, (correction, *_) in nodes.items()}
    expected = {n: load for n, (_, load, *_) in nodes.items()}
    observed = {n: Work(load, seconds) for n, (*_, load, seconds) in nodes.items()}
    after = corrected(before, expected, observed)
    assert after.keys() == before.keys()
    for node_id, factor in after.items():
        rest, now = before[node_id].rest(), before[node_id].now()
        assert LOWEST <= factor <= HIGHEST
        low, high = sorted((now, rest))
        assert low * (1 - STEP) * (1 - 1e-9) <= factor <= high * (1 + STEP) * (1 + 1e-9)
