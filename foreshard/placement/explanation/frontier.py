"""Imbalance against bytes moved: the plans from which a person can choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from foreshard.errors import ForeshardError
from foreshard.model import PlacementProblem, Plan
from foreshard.placement.building import build
from foreshard.placement.bundles import merged
from foreshard.placement.explanation.wording import rounded_up
from foreshard.placement.loads import fair_share, node_quantiles

# The tightest bound that is tried: with less room nearly every shard would be worth moving.
_TIGHTEST = 1.02


@dataclass(frozen=True, slots=True)
class Point:
    """A plan that no other one found beats in both imbalance and bytes, and the policy that gives it.

    `imbalance`, `peak`: as `imbalance_after` and `peak_after` of the plan's metrics. `bounded_load`, `max_move_bytes`: the
    policy that gives it, all else as it is.
    """

    bounded_load: float
    max_move_bytes: int
    imbalance: float
    peak: float
    bytes: int
    moves: int
    is_policy: bool  # whether the policy as it is gives this one


def frontier(problem: PlacementProblem, solve: Callable[[PlacementProblem], Plan], points: int = 8) -> tuple[Point, ...]:
    """At most `points` non-dominated plans, from the fewest bytes to the most; the policy's own counts as one.

    Half of them vary bounded_load, from nearly 1 up to what asks for no move of the layout at hand; the rest halve the widest
    gap in bytes by a budget in between, which repairs, draining and the like are served from first. `solve` is called at most
    `points` times. Raises ForeshardError if `points` is below 2.
    """
    if points < 2:
        raise ForeshardError(f"a frontier needs at least 2 points, not {points}")
    own = _point(problem, solve, problem.policy.bounded_load, problem.policy.max_move_bytes, is_policy=True)
    found = [own]
    for bounded_load in _bounds(problem, max(1, points // 2)):
        found.append(_point(problem, solve, bounded_load, problem.policy.max_move_bytes))
    while len(found) < points:
        between = _widest_gap(found)
        if between is None:
            break
        found.append(_point(problem, solve, *between))
    return non_dominated(found)


def non_dominated(points: Iterable[Point]) -> tuple[Point, ...]:
    """Those that no other beats, from the fewest bytes on; of equal ones the policy's own, else the first. Time O(P log P)."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.bytes, p.imbalance, p.moves, not p.is_policy)):
        if not best or point.imbalance < best[-1].imbalance - 1e-9:
            best.append(point)
    return tuple(best)


def _point(
    problem: PlacementProblem,
    solve: Callable[[PlacementProblem], Plan],
    bounded_load: float,
    budget: int,
    *,
    is_policy: bool = False,
) -> Point:
    policy = replace(problem.policy, bounded_load=bounded_load, max_move_bytes=budget)
    metrics = solve(replace(problem, policy=policy)).metrics
    return Point(
        bounded_load, budget, metrics.imbalance_after, metrics.peak_after, metrics.bytes_moved, metrics.moves, is_policy
    )


def _bounds(problem: PlacementProblem, count: int) -> list[float]:
    """From the tightest to one that asks for nothing, at equal ratios of what they allow above the fair share."""
    cluster = build(merged(problem)[0])
    load, fair = node_quantiles(cluster, cluster.held), fair_share(cluster)
    ratio = np.divide(load, fair, out=np.zeros_like(load), where=(fair > 0) & cluster.nodes.accepts[:, None])
    own = problem.policy.bounded_load
    loosest = rounded_up(max(own, float(ratio.max(initial=0.0))) * 1.001)
    if count == 1:
        return [_TIGHTEST]
    growth = ((loosest - 1.0) / (_TIGHTEST - 1.0)) ** (1.0 / (count - 1))
    bounds = [*(round(1.0 + (_TIGHTEST - 1.0) * growth**i, 4) for i in range(count - 1)), loosest]
    return [b for b in bounds if b != own]


def _widest_gap(found: list[Point]) -> tuple[float, int] | None:
    """A bound and a budget between the two neighbours furthest apart in bytes; None if there is none left to halve."""
    ordered = non_dominated(found)
    tried = {(p.bounded_load, p.max_move_bytes) for p in found}
    gaps = sorted(
        ((b.bytes - a.bytes, b.bounded_load, (a.bytes + b.bytes) // 2) for a, b in pairwise(ordered)),
        reverse=True,
    )
    return next(((bound, budget) for width, bound, budget in gaps if width > 1 and (bound, budget) not in tried), None)
