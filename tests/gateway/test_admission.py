"""Admission by class: what it promises whatever is asked, and when."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.gateway.admission import BURST_SECONDS, LONGEST_RETRY_SECONDS, Admission, rate_of_gateway
from foreshard.gateway_settings import ClassSettings

GOLD, SILVER, BRONZE = ClassSettings("gold", 0.3), ClassSettings("silver", 0.2), ClassSettings("bronze", 0.1)
CLASSES = (GOLD, SILVER, BRONZE)

shares = st.lists(st.integers(0, 10), min_size=1, max_size=5).map(
    lambda parts: tuple(ClassSettings(f"c{i}", part / max(10, sum(parts))) for i, part in enumerate(parts))
)
# Seconds since the one before, the class by its number, and the cost.
askings = st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 4), st.floats(0.1, 3)), max_size=200)


def started(classes: tuple[ClassSettings, ...], rate: float) -> Admission:
    admission = Admission(classes, 0.0)
    admission.set_rate(rate, 0.0)
    return admission


@given(shares, askings, st.floats(1, 100))
def test_never_more_is_let_in_than_the_rate_and_a_burst(
    classes: tuple[ClassSettings, ...], asked: list[tuple[float, int, float]], rate: float
) -> None:
    admission, now, let_in = started(classes, rate), 0.0, [(0.0, 0.0)]
    for seconds, number, cost in asked:
        now += seconds
        if admission.ask(f"c{number % len(classes)}", cost, now) is None:
            let_in.append((now, let_in[-1][1] + cost))
    # A query may leave each bucket in debt by its own cost; reserved and common buckets each hold up to a burst of the rate.
    most = 2 * rate * BURST_SECONDS + 3 * (len(classes) + 1)
    for since, before in let_in:
        for until, after in let_in:
            if until >= since:
                assert after - before <= rate * (until - since) + most + 1e-6


@given(shares, askings, st.data())
def test_a_class_that_keeps_to_its_share_is_never_turned_away(
    classes: tuple[ClassSettings, ...], asked: list[tuple[float, int, float]], data: st.DataObject
) -> None:
    chosen = data.draw(st.sampled_from(classes))
    rate = 40.0
    admission, now, due = started(classes, rate), 0.0, 0.0
    for seconds, number, cost in asked:
        now += seconds
        admission.ask(f"c{number % len(classes)}", cost, now) if f"c{number % len(classes)}" != chosen.name else None
        if chosen.share and now >= due:
            mine = min(cost, chosen.share * rate * BURST_SECONDS)
            assert admission.ask(chosen.name, mine, now, overload=9.0) is None
            due = now + mine / (chosen.share * rate)


@given(askings, st.floats(0, 2))
def test_when_a_class_is_turned_away_so_is_each_lower_one_that_has_used_its_share(
    asked: list[tuple[float, int, float]], overload: float
) -> None:
    without_shares = tuple(ClassSettings(one.name) for one in CLASSES)
    admission, now = started(without_shares, 5.0), 0.0
    for seconds, number, cost in asked:
        now += seconds
        if admission.ask(without_shares[number % 3].name, cost, now, overload) is not None:
            for lower in without_shares[number % 3 + 1 :]:
                assert admission.ask(lower.name, cost, now, overload) is not None


def test_under_overload_the_lowest_class_gets_its_share_and_the_highest_what_it_asks_for() -> None:
    admission, let_in = started(CLASSES, 100.0), {one.name: 0 for one in CLASSES}
    for tick in range(20_000):  # 20 seconds at 1,000 queries per second: gold 60, silver 60, bronze 880
        name = "gold" if tick % 50 in (0, 17, 34) else "silver" if tick % 50 in (5, 22, 39) else "bronze"
        let_in[name] += admission.ask(name, 1.0, tick / 1000) is None
    assert let_in["gold"] == 1200
    assert 0.1 * 2000 <= let_in["bronze"] < let_in["silver"]
    assert sum(let_in.values()) <= 100 * (20 + 2 * BURST_SECONDS) + 4


@pytest.mark.parametrize("name", ["gold", "bronze", "never heard of"])
def test_what_is_reserved_for_those_who_do_not_ask_is_not_wasted(name: str) -> None:
    admission = started(CLASSES, 100.0)
    let_in = sum(admission.ask(name, 1.0, tick / 1000) is None for tick in range(20_000))
    assert let_in >= 100 * 20


def test_with_its_nodes_overloaded_a_class_has_its_share_and_no_more_and_the_lowest_goes_first() -> None:
    admission = started(CLASSES, 100.0)
    refused = {one.name: sum(admission.ask(one.name, 1.0, 0.0, 1.05) is not None for _ in range(30)) for one in CLASSES}
    assert refused == {"gold": 0, "silver": 0, "bronze": 20}


@given(st.integers(2, 50))
def test_who_is_turned_away_is_told_later_times_so_that_not_all_come_back_at_once(number: int) -> None:
    admission = started((BRONZE,), 10.0)
    while admission.ask("bronze", 1.0, 0.0) is None:
        pass
    told = [away.retry_after for _ in range(number) if (away := admission.ask("bronze", 1.0, 0.0))]
    assert len(told) == number
    assert all(0 < a <= b <= LONGEST_RETRY_SECONDS for a, b in pairwise(told))
    assert told[-1] == pytest.approx(min(LONGEST_RETRY_SECONDS, told[0] + (number - 1) / 10.0))


def test_while_no_capacity_is_known_nobody_is_turned_away() -> None:
    admission = Admission(CLASSES, 0.0)
    assert all(admission.ask("bronze", 5.0, 0.0, 9.0) is None for _ in range(100))


@given(st.floats(1, 1000), st.lists(st.floats(0, 500), min_size=1, max_size=10))
def test_gateways_that_know_of_each_other_let_in_the_capacity_and_leave_none_of_it_idle(
    capacity: float, loads: list[float]
) -> None:
    total = sum(loads)
    rates = [rate_of_gateway(capacity, len(loads), total, own) for own in loads]
    if total >= capacity:  # who has more than its even part is held to it, or to what the others leave
        others = [total - own for own in loads]
        assert all(r <= max(capacity / len(loads), capacity - o) + 1e-6 for r, o in zip(rates, others, strict=True))
    else:
        assert all(r >= own for r, own in zip(rates, loads, strict=True))
        assert max(rates) <= capacity + 1e-6
    # Of a gateway that nothing is known of, and nothing of the nodes: its even part at least.
    assert rate_of_gateway(capacity, len(loads), 0.0, 0.0) == capacity
