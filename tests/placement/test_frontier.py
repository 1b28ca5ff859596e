"""Imbalance against bytes moved: only plans that no other beats, each of them what its bound and budget really give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clusters import problem, typical
from hypothesis import given
from hypothesis import strategies as st

from foreshard.commands.frontier_picture import draw_frontier
from foreshard.errors import ForeshardError
from foreshard.model import PlacementProblem, Plan, Policy
from foreshard.placement.explanation.frontier import Point, frontier, non_dominated
from foreshard.placement.planning import solve


def solved(problem: PlacementProblem) -> Plan:
    return solve(problem, iterations=500)


@pytest.fixture(scope="module")
def uneven() -> PlacementProblem:
    """A third of its capacity in use, one replica a shard, spread by the hash alone, so that weights cannot even it out."""
    found = typical(3, 200, 8, used=0.3, horizon=4)
    return problem(found.shards, found.nodes, policy=Policy(1, hot_share=9.0, bounded_load=1.3))


def test_each_point_costs_more_bytes_for_less_imbalance(uneven: PlacementProblem) -> None:
    calls: list[tuple[float, int]] = []

    def counted(asked: PlacementProblem) -> Plan:
        calls.append((asked.policy.bounded_load, asked.policy.max_move_bytes))
        assert replace(asked, policy=uneven.policy) == uneven, "nothing but the policy is varied"
        return solved(asked)

    points = frontier(uneven, counted, points=8)
    assert len(calls) <= 8
    assert len(points) >= 3
    assert list(np.diff([p.bytes for p in points]) > 0) == [True] * (len(points) - 1)
    assert list(np.diff([p.imbalance for p in points]) < 0) == [True] * (len(points) - 1)
    assert points[0].bytes == 0, "one end moves nothing"
    for point in points:
        changed = replace(uneven.policy, bounded_load=point.bounded_load, max_move_bytes=point.max_move_bytes)
        again = solved(replace(uneven, policy=changed)).metrics
        assert (again.bytes_moved, again.imbalance_after) == (point.bytes, point.imbalance)
        assert point.bytes <= point.max_move_bytes


def test_the_policys_own_plan_is_marked(uneven: PlacementProblem) -> None:
    points = frontier(uneven, solved, points=2)
    assert [p.bounded_load for p in points if p.is_policy] in ([uneven.policy.bounded_load], [])
    assert len(points) in (1, 2)


def test_fewer_than_two_points_are_refused(uneven: PlacementProblem) -> None:
    with pytest.raises(ForeshardError, match="at least 2 points, not 1"):
        frontier(uneven, solved, points=1)


places = st.builds(
    Point,
    bounded_load=st.just(1.1),
    max_move_bytes=st.just(10),
    imbalance=st.sampled_from([0.0, 0.1, 0.2, 0.3]),
    peak=st.just(0.5),
    bytes=st.integers(0, 5),
    moves=st.integers(0, 3),
    is_policy=st.booleans(),
)


@given(st.lists(places, max_size=12))
def test_what_is_left_is_what_nothing_beats(points: list[Point]) -> None:
    left = non_dominated(points)
    for point in points:
        beaten = [p for p in points if p.bytes <= point.bytes and p.imbalance <= point.imbalance and p != point]
        strictly = [p for p in beaten if p.bytes < point.bytes or p.imbalance < point.imbalance]
        if not strictly:
            assert any((p.bytes, p.imbalance) == (point.bytes, point.imbalance) for p in left)
        else:
            assert point not in left


def test_the_picture_is_written_whole(tmp_path: Path) -> None:
    points = tuple(Point(1.1 + i / 10, 1 << 40, 0.3 - i / 10, 0.5, i * 10**9, i, i == 1) for i in range(3))
    draw_frontier(points, tmp_path / "pictures" / "frontier.png")
    assert (tmp_path / "pictures" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in (tmp_path / "pictures").iterdir()] == ["frontier.png"]
