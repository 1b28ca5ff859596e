"""Random small assignments with everything switched on: a legal placement first, then constraints that it keeps."""

from __future__ import annotations

import numpy as np

from foreshard.placement.assignment import Assignment, Bools, Floats, Ints


def random_assignment(
    seed: int, *, units: int = 24, nodes: int = 6, steps: int = 3, resources: int = 3, whole: bool = True, new: bool = True
) -> tuple[Assignment, Ints]:
    """An assignment and a legal start. `whole`: loads and costs are integers. `new`: some units are still to be made."""
    rng = np.random.default_rng(seed)
    factors = 2
    group, start = _groups(rng, units, nodes)
    initial = start.copy()
    if new:
        initial[rng.random(units) < 0.1] = -1
    zone, neighbourhood = rng.integers(0, 3, nodes), rng.integers(0, 3, nodes)
    near_start, near = _near(rng, group, neighbourhood[start])
    transient = np.arange(resources) % 3 == 1
    use = _numbers(rng, whole, 1, 30, (units, resources))
    limit = _used(use, start, nodes) * rng.uniform(1.0, 1.5, (nodes, resources)) + _numbers(
        rng, whole, 5, 40, (nodes, resources)
    )
    limit = np.floor(limit) if whole else limit
    if resources > 2:
        limit[:, 2] = np.inf
    mean = _numbers(rng, whole, 0, 20, (units, steps))
    permit, allowed = _permits(rng, start, initial, nodes)
    assignment = Assignment(
        use=use,
        mean=mean,
        own_square=rng.uniform(0, 9, (units, steps)),
        common=rng.uniform(0, 3, (units, steps, factors)),
        initial=initial,
        fixed=(rng.random(units) < 0.1) & (initial >= 0),
        permit=permit,
        conflict=np.where(group >= 0, group, units + np.arange(units)),
        group=group,
        move_cost=_numbers(rng, whole, 0, 8, (units,)),
        min_zones=_min_zones(rng, group, zone[start]),
        near_start=near_start,
        near=near,
        limit=limit,
        soft=np.floor(limit * 0.7),
        ceiling=np.full((nodes, steps), float(mean.sum() / nodes / max(1, steps))),
        accepts=rng.random(nodes) < 0.85,
        zone=zone,
        neighbourhood=neighbourhood,
        allowed=allowed,
        transient=transient,
        soft_cost=_numbers(rng, whole, 1, 5, (resources,)),
        balance_first=np.array([0]),
        balance_second=np.array([1]),
        balance_target=np.array([2.0]),
        balance_cost=np.array([3.0]),
        pair_cost=_numbers(rng, whole, 0, 5, (nodes, nodes)) * (1 - np.eye(nodes)),
        group_move_cost=7.0,
        overload_cost=2.0,
        z=1.5,
    )
    # A new unit must be where units are accepted; that a start breaks nothing is what the tests rely on.
    assignment.accepts[start[initial < 0]] = True
    return assignment, start


def _numbers(rng: np.random.Generator, whole: bool, low: int, high: int, shape: tuple[int, ...]) -> Floats:
    return rng.integers(low, high, shape).astype(np.float64) if whole else rng.uniform(low, high, shape)


def _used(use: Floats, node: Ints, nodes: int) -> Floats:
    total = np.zeros((nodes, use.shape[1]))
    np.add.at(total, node, use)
    return total


def _groups(rng: np.random.Generator, units: int, nodes: int) -> tuple[Ints, Ints]:
    """Groups of one to four units on distinct nodes, and some units without a group (-1)."""
    group, start = np.full(units, -1), rng.integers(0, nodes, units)
    at, number = 0, 0
    while at < units - 3:
        size = int(rng.integers(1, min(4, nodes) + 1))
        group[at : at + size] = number
        start[at : at + size] = rng.permutation(nodes)[:size]
        at, number = at + size, number + 1
    return group, start


def _near(rng: np.random.Generator, group: Ints, neighbourhood: Ints) -> tuple[Ints, Ints]:
    groups = int(group.max()) + 1
    places = [set(neighbourhood[group == g].tolist()) for g in range(groups)]
    lists = [[h for h in range(groups) if h != g and places[g] <= places[h] and rng.random() < 0.3] for g in range(groups)]
    return np.cumsum([0] + [len(each) for each in lists]), np.array([h for each in lists for h in each], dtype=np.int64)


def _min_zones(rng: np.random.Generator, group: Ints, zone: Ints) -> Ints:
    zones = [len(set(zone[group == g].tolist())) for g in range(int(group.max()) + 1)]
    return np.array([rng.integers(0, count + 1) for count in zones])


def _permits(rng: np.random.Generator, start: Ints, initial: Ints, nodes: int) -> tuple[Ints, Bools]:
    rows = 3
    permit, allowed = rng.integers(-1, rows, len(start)), rng.random((rows, nodes)) < 0.6
    for row in range(rows):
        allowed[row, start[permit == row]] = True
    return permit, allowed
