"""What holds for every policy, on drawn loads."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from drawn_loads_of_pools import drawn_load, drawn_pool

from foreshard.replay.load import Load
from foreshard.replay.oracle import counts, lead_steps, oracle
from foreshard.replay.playing import ORACLE, POLICIES, Scene, policy, scene_of
from foreshard.replay.policy import History, Policy
from foreshard.replay.pool import Pool
from foreshard.replay.simulation import Decision, simulate

NAMES = tuple(name for name in POLICIES if name != ORACLE)
START = datetime(2024, 3, 4, tzinfo=UTC)
SEEDS = range(2)
every_policy = pytest.mark.parametrize("name", NAMES)


_SCENES: dict[bytes, Scene] = {}


def made(name: str, load: Load, pool: Pool) -> Policy:
    """A policy; what was foreseen of a load is the same for all of them."""
    key = load.rates.tobytes() + pool.bytes_full.tobytes() + bytes([load.interval_seconds // 60])
    if key not in _SCENES:
        _SCENES[key] = scene_of(load, pool, START)
    return policy(name, _SCENES[key])


@every_policy
@pytest.mark.parametrize("seed", SEEDS)
def test_every_request_is_counted_once(name: str, seed: int):
    load = drawn_load(seed)
    pool = drawn_pool(load)
    outcome = simulate(load, pool, made(name, load, pool)).outcome
    came = float(load.test.sum()) * load.interval_seconds
    assert outcome.requests == pytest.approx(came, rel=1e-12)
    assert outcome.timeline.overloaded.sum() == pytest.approx(outcome.overload_request_share * came, rel=1e-9)
    assert oracle(load, pool).requests == pytest.approx(came, rel=1e-12)


@every_policy
def test_a_replay_is_the_same_again(name: str):
    load = drawn_load(3)
    pool = drawn_pool(load)
    same = made(name, load, pool)
    first, again = simulate(load, pool, same), simulate(load, pool, same)
    assert first.outcome.as_document() == again.outcome.as_document()
    assert _written(first.decisions) == _written(again.decisions)


@every_policy
@pytest.mark.parametrize("interval_seconds", [60, 600, 3600])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_comes_later_changes_nothing_that_was_decided_before(name: str, interval_seconds: int, seed: int):
    load = drawn_load(seed, interval_seconds=interval_seconds, training=24, test=24 if interval_seconds > 600 else 48)
    pool = drawn_pool(load)
    draw = np.random.default_rng(seed)
    changed_from = int(draw.integers(1, len(load.test)))
    rates = load.rates.copy()
    rates[load.test_start + changed_from :] *= draw.uniform(0.0, 3.0, rates[load.test_start + changed_from :].shape)
    changed = Load(rates, interval_seconds, load.test_start)
    before = made(name, load, pool)
    # What is known in hindsight is given to a policy when it is made, and is then what it was; forecasts are made anew.
    after = before if name.startswith("static") else made(name, changed, pool)
    until = changed_from * interval_seconds
    found = _until(simulate(load, pool, before).decisions, until)
    assert found == _until(simulate(changed, pool, after).decisions, until)


def test_the_leak_test_sees_decisions_that_follow_the_load():
    load = drawn_load(0)
    pool = drawn_pool(load)
    found = simulate(load, pool, made("reactive", load, pool)).decisions
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
    found = simulate(load, pool, made(name, load, pool)).outcome
    own = oracle(load, pool)
    assert not (found.node_hours < own.node_hours * 0.99 and found.overload_request_share < own.overload_request_share * 0.99)


@every_policy
@pytest.mark.parametrize("seed", SEEDS)
def test_no_policy_costs_less_than_the_bound_at_any_price_of_overload(name: str, seed: int):
    load = drawn_load(seed)
    pool = drawn_pool(load, seconds_to_move_all=0.0)
    found = simulate(load, pool, made(name, load, pool)).outcome
    for price in (1.5, 5.0, 50.0):
        bound = oracle(load, pool, share=1.0, price=price)

        def cost(hours: float, share: float, price: float = price) -> float:
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
