"""Imbalance against bytes moved: the plans from which a person can choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from foreshard.errors import ForeshardError
from foreshard.model import PlacementProblem, Plan

# The tightest bound that is tried: with less room nearly every shard would be worth moving.
_TIGHTEST = 1.02


@dataclass(frozen=True, slots=True)
class Point:
    """A plan that no other one found beats in both imbalance and bytes, and the policy that gives it.

    `imbalance`: highest load over the mean of the accepting nodes, less 1, at the worst step. `peak`: highest utilisation.
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

    Half of them vary bounded_load, from the policy's towards 1 and up to what moves nothing for balance; the rest halve the
    widest gap in bytes by a smaller budget. `solve` is called `points` times. Raises ForeshardError if `points` is below 2.
    """
    if points < 2:
        raise ForeshardError(f"a frontier needs at least 2 points, not {points}")
    own = _point(problem, solve, problem.policy.bounded_load, problem.policy.max_move_bytes, is_policy=True)
    found = [own]
    for bounded_load in _bounds(problem.policy.bounded_load, own.imbalance, max(1, points // 2)):
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


def _bounds(own: float, imbalance: float, count: int) -> list[float]:
    """From the tightest to one that asks for nothing, at equal ratios of what they allow above the fair share."""
    loosest = max(own, 1.0 + imbalance) * 1.05
    if count == 1:
        return [_TIGHTEST]
    ratio = ((loosest - 1.0) / (_TIGHTEST - 1.0)) ** (1.0 / (count - 1))
    bounds = [round(1.0 + (_TIGHTEST - 1.0) * ratio**i, 4) for i in range(count)]
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
