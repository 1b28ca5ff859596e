"""The search against a plain re-evaluation, exhaustive enumeration and itself."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from assignments import random_assignment
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.placement.assignment import Assignment, Ints
from foreshard.placement.search import broken, evaluate, improve
from foreshard.placement.search.anneal import anneal
from foreshard.placement.search.chance import exponential_table, word
from foreshard.placement.search.packing import pack
from foreshard.placement.search.state import COST, LOWEST, new_state, restart

SEEDS = st.integers(0, 10**6)


def no_worse(assignment: Assignment, before: Ints, after: Ints) -> bool:
    earlier, later = broken(assignment, before), broken(assignment, after)
    return all(name in earlier and amount <= earlier[name] + 1e-6 for name, amount in later.items())


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    steps=st.integers(0, 3),
    resources=st.integers(2, 5),
    whole=st.booleans(),
    temperature=st.sampled_from([0.0, 5.0, 100.0]),
)
def test_sums_kept_while_moving_equal_a_plain_evaluation(
    seed: int, steps: int, resources: int, whole: bool, temperature: float
) -> None:
    assignment, start = random_assignment(seed, steps=steps, resources=resources, whole=whole)
    assert not broken(assignment, start)
    packed = pack(assignment)
    state = new_state(packed, start, word(seed, 0))
    assert state.totals[COST] == pytest.approx(evaluate(assignment, start).total, abs=1e-6)
    for _ in range(5):
        anneal(packed, state, exponential_table(), temperature, 400, 85, 85, 1000)
        node = state.node[:-1].copy()
        assert state.totals[COST] == pytest.approx(evaluate(assignment, node).total, rel=1e-9, abs=1e-6)
        assert not broken(assignment, node)
        assert state.totals[LOWEST] == pytest.approx(evaluate(assignment, state.best[:-1]).total, rel=1e-9, abs=1e-6)
        anew = new_state(packed, node, word(seed, 1))
        kept = (state.nodes, state.present, state.in_zone, state.zones, state.in_neighbourhood, state.moved, state.moved_groups)
        fresh = (anew.nodes, anew.present, anew.in_zone, anew.zones, anew.in_neighbourhood, anew.moved, anew.moved_groups)
        for one, other in zip(kept, fresh, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-6)
        for n in range(len(assignment.limit)):
            assert units_linked_to(state.first, state.following, n) == set(np.flatnonzero(node == n).tolist())


def units_linked_to(first: Ints, following: Ints, node: int) -> set[int]:
    found, at = set(), int(first[node])
    while at >= 0:
        found.add(at)
        at = int(following[at])
    return found


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, steps=st.integers(0, 2), whole=st.booleans())
def test_a_search_never_ends_dearer_nor_breaks_what_held(seed: int, steps: int, whole: bool) -> None:
    assignment, start = random_assignment(seed, steps=steps, whole=whole)
    found = improve(assignment, start, seed=seed, iterations=20_000)
    assert found.cost == pytest.approx(evaluate(assignment, found.node).total, rel=1e-9, abs=1e-6)
    assert found.cost <= evaluate(assignment, start).total + 1e-6
    assert not broken(assignment, found.node)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_a_start_that_breaks_constraints_is_made_no_worse(seed: int) -> None:
    assignment, _ = random_assignment(seed)
    start = np.random.default_rng(seed).integers(0, len(assignment.limit), len(assignment.use))
    start = np.where(assignment.fixed, assignment.initial, start)
    found = improve(assignment, start, seed=seed, iterations=20_000)
    assert no_worse(assignment, start, found.node)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_places_conflicts_and_full_nodes_are_repaired_where_there_is_room(seed: int) -> None:
    assignment, legal = random_assignment(seed)
    # Room for every unit on every node but the first, and nothing that asks for the first: what is left over is a fault.
    roomy = assignment._replace(
        limit=assignment.limit * 10 + 500,
        near=assignment.near[:0],
        near_start=assignment.near_start * 0,
        min_zones=assignment.min_zones * 0,
        accepts=np.ones_like(assignment.accepts),
        permit=np.full_like(assignment.permit, -1),
    )
    roomy.limit[0] = assignment.limit[0] / 2
    crowded = np.where(assignment.fixed, legal, 0)
    found = improve(roomy, crowded, seed=seed, iterations=5_000)
    stuck = roomy.use[roomy.fixed & (roomy.initial == 0)].sum(0) + roomy.use[roomy.initial == 0].sum(0) * roomy.transient
    left = [name for name in broken(roomy, found.node) if not name.startswith("group")]
    assert all(name.startswith("node 0 exceeds") and stuck[int(name.split()[-1])] > 0 for name in left), left
    assert no_worse(roomy, crowded, found.node)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_and_budget_give_the_same_placement_whatever_else_runs(seed: int) -> None:
    assignment, start = random_assignment(seed, units=60, nodes=8)
    first = improve(assignment, start, seed=seed, iterations=200_000)
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            sum(range(1000))

    disturbance = threading.Thread(target=disturb)
    disturbance.start()
    try:
        second = improve(assignment, start, seed=seed, iterations=200_000, time_limit=3600.0)
    finally:
        stop.set()
        disturbance.join()
    assert (first.node == second.node).all()
    assert first.cost == second.cost
    assert first.iterations == second.iterations


def cheapest(assignment: Assignment) -> float:
    nodes = range(len(assignment.limit))
    placements = (np.array(each) for each in itertools.product(nodes, repeat=len(assignment.use)))
    return min(evaluate(assignment, node).total for node in placements if not broken(assignment, node))


def test_small_problems_reach_the_optimum_of_an_enumeration(capsys: pytest.CaptureFixture[str]) -> None:
    gaps = []
    for seed in range(12):
        assignment, start = random_assignment(seed, units=7, nodes=3, steps=1)
        found = improve(assignment, start, seed=seed, iterations=50_000)
        optimum = cheapest(assignment)
        gaps.append((found.cost - optimum) / max(1.0, optimum))
    with capsys.disabled():
        print("\ngaps to the optimum:", " ".join(f"{gap:.2%}" for gap in gaps))
    assert min(gaps) >= -1e-9
    assert sum(gap <= 1e-9 for gap in gaps) >= 10


def test_a_placement_that_costs_nothing_is_left_as_it_is() -> None:
    assignment, start = random_assignment(1, new=False)
    free = assignment._replace(soft_cost=assignment.soft_cost * 0, balance_cost=assignment.balance_cost * 0, overload_cost=0.0)
    found = improve(free, start, seed=1, iterations=10_000)
    assert (found.node == start).all()
    assert found.ended_by == "converged"


def test_what_ended_the_search_is_told() -> None:
    assignment, start = random_assignment(2)
    assert improve(assignment, start, seed=1, iterations=5_000).ended_by == "iterations"
    assert improve(assignment, start, seed=1, iterations=10**12, time_limit=0.05).ended_by == "time limit"
    assert improve(assignment, start, seed=1, iterations=None, time_limit=0.05).ended_by == "time limit"


def test_a_balance_without_limits_is_refused() -> None:
    assignment, start = random_assignment(3)
    unlimited = assignment._replace(limit=np.full_like(assignment.limit, np.inf))
    with pytest.raises(ForeshardError, match="finite limit"):
        improve(unlimited, start, seed=1, iterations=100)


def test_restarting_from_a_placement_keeps_the_best() -> None:
    assignment, start = random_assignment(4)
    packed = pack(assignment)
    state = new_state(packed, start, word(4, 0))
    anneal(packed, state, exponential_table(), 0.0, 5_000, 85, 85, 64)
    lowest = float(state.totals[LOWEST])
    restart(packed, state, np.append(start, -1))
    assert state.totals[LOWEST] == lowest
    assert state.totals[COST] == pytest.approx(evaluate(assignment, start).total)


def shrunk(assignment: Assignment, units: int, nodes: int, factors: int) -> Assignment:
    """The first units and nodes, without groups and permits."""
    cut = assignment._replace(
        **{name: getattr(assignment, name)[:units] for name in ("use", "mean", "own_square", "fixed", "move_cost")},
        **{
            name: getattr(assignment, name)[:nodes] for name in ("limit", "soft", "ceiling", "accepts", "zone", "neighbourhood")
        },
        common=assignment.common[:units, :, :factors],
        initial=np.zeros(units, dtype=np.int64),
        conflict=np.arange(units),
        permit=np.full(units, -1),
        group=np.full(units, -1),
        allowed=np.zeros((0, nodes), dtype=bool),
        pair_cost=np.zeros((0, 0)),
        min_zones=np.zeros(0, dtype=np.int64),
        near_start=np.zeros(1, dtype=np.int64),
        near=np.zeros(0, dtype=np.int64),
    )
    return cut._replace(accepts=np.ones(nodes, dtype=bool), limit=cut.limit + 1000.0)


@pytest.mark.parametrize(("units", "nodes", "factors"), [(0, 3, 2), (4, 1, 2), (1, 2, 0), (12, 4, 0)])
def test_nothing_to_place_one_node_and_no_groups_are_defined(units: int, nodes: int, factors: int) -> None:
    assignment = shrunk(random_assignment(5)[0], units, nodes, factors)
    found = improve(assignment, assignment.initial, seed=1, iterations=5_000)
    assert found.cost == pytest.approx(evaluate(assignment, found.node).total)
    assert found.cost <= evaluate(assignment, assignment.initial).total + 1e-9
    assert not broken(assignment, found.node)


def test_all_units_fixed_stay() -> None:
    assignment, start = random_assignment(6, new=False)
    fixed = assignment._replace(fixed=np.ones(len(start), dtype=bool))
    assert (improve(fixed, start, seed=1, iterations=5_000).node == start).all()
