"""What holds for every policy, on drawn loads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from drawn_loads_of_pools import drawn_load, drawn_pool

from foreshard.replay.oracle import counts, lead_steps, oracle
from foreshard.replay.policy import History, Policy
from foreshard.replay.pool import Pool
from foreshard.replay.reactive import hash_elastic, reactive
from foreshard.replay.simulation import Decision, Load, simulate
from foreshard.replay.static import static_mean, static_peak

MADE: dict[str, Callable[[Load, Pool], Policy]] = {
    "static_peak": static_peak,
    "static_mean": static_mean,
    "reactive": lambda load, pool: reactive(),
    "hash_elastic": lambda load, pool: hash_elastic(),
}
SEEDS = range(6)
every_policy = pytest.mark.parametrize("name", MADE)


@every_policy
@pytest.mark.parametrize("seed", SEEDS)
def test_every_request_is_counted_once(name: str, seed: int):
    load = drawn_load(seed)
    pool = drawn_pool(load)
    outcome = simulate(load, pool, MADE[name](load, pool)).outcome
    came = float(load.test.sum()) * load.interval_seconds
    assert outcome.requests == pytest.approx(came, rel=1e-12)
    assert outcome.timeline.overloaded.sum() == pytest.approx(outcome.overload_request_share * came, rel=1e-9)
    assert oracle(load, pool).requests == pytest.approx(came, rel=1e-12)


@every_policy
def test_a_replay_is_the_same_again(name: str):
    load = drawn_load(3)
    pool = drawn_pool(load)
    policy = MADE[name](load, pool)
    first, again = simulate(load, pool, policy), simulate(load, pool, policy)
    assert first.outcome.as_document() == again.outcome.as_document()
    assert _written(first.decisions) == _written(again.decisions)


@every_policy
@pytest.mark.parametrize("interval_seconds", [60, 600, 3600])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_comes_later_changes_nothing_that_was_decided_before(name: str, interval_seconds: int, seed: int):
    load = drawn_load(seed, interval_seconds=interval_seconds)
    pool = drawn_pool(load)
    policy = MADE[name](load, pool)  # with its hindsight, if it is of that kind
    draw = np.random.default_rng(seed)
    changed_from = int(draw.integers(1, len(load.test)))
    rates = load.rates.copy()
    rates[load.test_start + changed_from :] *= draw.uniform(0.0, 3.0, rates[load.test_start + changed_from :].shape)
    before = _until(simulate(load, pool, policy).decisions, changed_from * interval_seconds)
    assert before == _until(
        simulate(Load(rates, interval_seconds, load.test_start), pool, policy).decisions, changed_from * interval_seconds
    )


def test_the_leak_test_sees_decisions_that_follow_the_load():
    load = drawn_load(0)
    pool = drawn_pool(load)
    found = simulate(load, pool, reactive()).decisions
    assert len(_until(found, len(load.test) * load.interval_seconds)) > 10


def test_rows_of_later_intervals_are_nowhere_in_what_a_policy_gets():
    history = History(np.ones((2, 1)), 3)
    view = history.view()
    assert view.tolist() == [[1.0], [1.0]]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5.0
    assert view.base.tolist() == [[1.0], [1.0], [0.0], [0.0], [0.0]]
    history.add(np.array([7.0]))
    assert history.view().tolist() == [[1.0], [1.0], [7.0]]


@every_policy
@pytest.mark.parametrize("seed", SEEDS)
def test_no_policy_has_less_overload_and_fewer_node_hours_than_the_oracle(name: str, seed: int):
    load = drawn_load(seed)
    pool = drawn_pool(load, seconds_to_move_all=60.0)
    found = simulate(load, pool, MADE[name](load, pool)).outcome
    own = oracle(load, pool)
    assert not (found.node_hours < own.node_hours * 0.99 and found.overload_request_share < own.overload_request_share * 0.99)


@every_policy
@pytest.mark.parametrize("price", [1.5, 5.0, 50.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_policy_costs_less_than_the_bound_at_any_price_of_overload(name: str, price: float, seed: int):
    load = drawn_load(seed)
    pool = drawn_pool(load, seconds_to_move_all=0.0)
    found, bound = simulate(load, pool, MADE[name](load, pool)).outcome, oracle(load, pool, share=1.0, price=price)

    def cost(hours: float, share: float) -> float:
        return hours + price * share * found.requests / pool.capacity / 3600

    least = cost(bound.node_hours, bound.overload_request_share)
    assert cost(found.node_hours, found.overload_request_share) >= least * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_oracles_path_is_the_cheapest_of_all_paths(seed: int):
    draw = np.random.default_rng(seed)
    load = Load(np.r_[1.0, draw.uniform(0, 40, 9)][:, None], 60, 1)
    pool = drawn_pool(load)
    price, lead = float(draw.uniform(1.1, 8.0)), lead_steps(pool)
    totals = load.test[:, 0]
    usable = pool.capacity * pool.defaults.target

    def cost(path: np.ndarray) -> float:
        return float(path.sum() + price * (np.maximum(totals - usable * path, 0.0)).sum() / usable)

    # Every path over counts, each as the least cost of reaching it step by step: a node more is paid from `lead` steps before.
    high = int(np.ceil(totals.max() / usable))
    least = {n: _step(n, totals[0], usable, price) for n in range(2, high + 1)}
    for t in range(1, len(totals)):
        grow = {(a, b): lead * max(0, b - a) if t >= lead or b <= a else np.inf for a in least for b in least}
        least = {b: min(least[a] + grow[a, b] for a in least) + _step(b, totals[t], usable, price) for b in least}
    path = counts(load, pool, price=price)
    started = lead * np.maximum(np.diff(path), 0).sum()
    assert cost(path) + started == pytest.approx(min(least.values()), rel=1e-12)


def _step(nodes: int, total: float, usable: float, price: float) -> float:
    return nodes + price * max(0.0, total - usable * nodes) / usable


def _written(decisions: tuple[Decision, ...]) -> list[tuple[int, bytes, bytes]]:
    return [(d.second, d.wish.nodes.tobytes(), d.wish.held.node.tobytes() + d.wish.held.weight.tobytes()) for d in decisions]


def _until(decisions: tuple[Decision, ...], second: int) -> list[tuple[int, bytes, bytes]]:
    """What was decided up to this second, from which on the load is another: nobody knows it yet at that second."""
    return [written for written in _written(decisions) if written[0] <= second]
