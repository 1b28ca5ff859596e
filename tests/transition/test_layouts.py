"""The layouts on the way of random plans: what each names, how much of it is full, and how queries are shared out."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seen_moves import move_view

from foreshard.model import Layout, MoveKind, Replica
from foreshard.transition.layouts import blend, layout_after
from foreshard.transition.machine import MoveState
from foreshard.transition.picture import MoveView

_NODES = ("n1", "n2", "n3", "n4")
_DAY = date(2026, 1, 1)
Key = tuple[int, str]


class Course(NamedTuple):
    base: Layout
    final: Layout
    moves: tuple[MoveView, ...]

    @property
    def waves(self) -> int:
        return max((m.wave for m in self.moves), default=-1) + 1

    def done(self, waves: int) -> Layout:
        return layout_after(self.base, self.final, self.moves, set(range(waves)), 7)


@st.composite
def courses(draw: st.DrawFn) -> Course:
    """Up to three shards on four nodes: replicas that come, go, and become full, over up to three waves; weights sum to 1."""
    base: list[Replica] = []
    final: list[Replica] = []
    moves: list[MoveView] = []
    for shard in range(draw(st.integers(1, 3))):
        old = draw(st.sets(st.sampled_from(_NODES), min_size=1))
        new = draw(st.sets(st.sampled_from(_NODES), min_size=1))
        hot = draw(st.sets(st.sampled_from(sorted(old)), max_size=len(old) - 1))
        widened = {node for node in sorted(hot & new) if draw(st.booleans())}
        base += _weighted(draw, shard, old, hot)
        final += _weighted(draw, shard, new, (hot & new) - widened)
        kinds = [("widen", "", node) for node in sorted(widened)]
        come, gone = sorted(new - old), sorted(old - new)
        while come and gone and draw(st.booleans()):
            kinds.append(("move", gone.pop(), come.pop()))
        kinds += [("replicate", "", node) for node in come] + [("drop", node, "") for node in gone]
        first = 0  # what is dropped goes when all that comes is there
        for kind, source, target in kinds:
            wave = draw(st.integers(first if kind == "drop" else 0, 2))
            first = max(first, wave)
            moves.append(move_view(len(moves), MoveKind(kind), shard, source, target, wave=wave, state=MoveState.PLANNED))
    return Course(Layout(6, tuple(base)), Layout(7, tuple(final)), tuple(moves))


def _weighted(draw: st.DrawFn, shard: int, nodes: set[str], hot: set[str]) -> list[Replica]:
    parts = [draw(st.integers(1, 9)) for _ in nodes]
    return [
        Replica(shard, node, part / sum(parts), _DAY if node in hot else None)
        for node, part in zip(sorted(nodes), parts, strict=True)
    ]


def _keys(layout: Layout) -> set[Key]:
    return {(r.shard_id, r.node_id) for r in layout.replicas}


def _full(layout: Layout) -> Counter[int]:
    return Counter(r.shard_id for r in layout.replicas if r.is_full)


def _sums(layout: Layout) -> dict[int, float]:
    return {shard: sum(r.weight for r in layout.of_shard(shard)) for shard in {r.shard_id for r in layout.replicas}}


def _in_order(replicas: tuple[Replica, ...]) -> list[Replica]:
    return sorted(replicas, key=lambda r: (r.shard_id, r.node_id))


@given(courses())
def test_all_waves_lead_to_the_layout_of_the_plan_and_none_to_the_one_before(course: Course) -> None:
    end = course.done(course.waves)
    assert (end.epoch, _in_order(end.replicas)) == (7, _in_order(course.final.replicas))
    begin = layout_after(course.base, course.final, course.moves, (), 7)
    still = {m.shard_id for m in course.moves}
    assert [r for r in begin.replicas if r.shard_id in still] == [
        r for r in _in_order(course.base.replicas) if r.shard_id in still
    ]


@given(courses(), st.integers(0, 3))
def test_a_wave_brings_and_takes_what_its_moves_say_and_nothing_else(course: Course, waves: int) -> None:
    names = _keys(course.base)
    for move in course.moves:
        if move.wave < waves:
            names |= {(move.shard_id, move.target)} if move.target else set()
            names -= {(move.shard_id, move.source)} if move.source else set()
    assert _keys(course.done(waves)) == names
    widened = {(m.shard_id, m.target) for m in course.moves if m.kind is MoveKind.WIDEN and m.wave < waves}
    hot = {(r.shard_id, r.node_id) for r in course.base.replicas if not r.is_full}
    assert {(r.shard_id, r.node_id) for r in course.done(waves).replicas if not r.is_full} == (hot & names) - widened


@given(courses(), st.integers(0, 2), st.floats(0.01, 0.99))
def test_a_step_names_the_old_replicas_and_the_new_so_that_none_is_missed_before_the_last(
    course: Course, wave: int, share: float
) -> None:
    before, after = course.done(wave), course.done(wave + 1)
    step = blend(before, after, share, 7)
    assert _keys(step) == _keys(before) | _keys(after)
    for shard, count in _full(step).items():
        assert count >= max(_full(before)[shard], _full(after)[shard])
    assert set(_full(step)) == set(_full(before)) | set(_full(after))


@given(courses(), st.integers(0, 2))
def test_the_last_step_is_the_layout_after_the_wave(course: Course, wave: int) -> None:
    after = course.done(wave + 1)
    assert blend(course.done(wave), after, 1.0, 9) == Layout(9, after.replicas)


@given(courses(), st.integers(0, 2), st.floats(0.01, 1))
def test_weights_stay_positive_and_those_of_a_shard_sum_to_what_they_did(course: Course, wave: int, share: float) -> None:
    before, after = course.done(wave), course.done(wave + 1)
    for layout in (before, after, blend(before, after, share, 7)):
        assert all(r.weight > 0 for r in layout.replicas)
        assert _sums(layout) == pytest.approx({shard: 1.0 for shard in _sums(course.base)})


@given(courses(), st.integers(0, 2), st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_more_of_the_queries_go_to_what_is_new_and_fewer_to_what_goes_with_each_step(
    course: Course, wave: int, one: float, other: float
) -> None:
    before, after = course.done(wave), course.done(wave + 1)
    first, second = (
        {(r.shard_id, r.node_id): r.weight for r in blend(before, after, share, 7).replicas} for share in sorted((one, other))
    )
    for key in _keys(after) - _keys(before):
        assert first[key] <= second[key]
    for key in _keys(before) - _keys(after):
        assert first[key] >= second[key]


def test_half_way_a_moved_shard_is_asked_at_both_ends_by_half() -> None:
    before, after = Layout(1, (Replica(0, "n1"), Replica(1, "n1", 3.0))), Layout(2, (Replica(0, "n2"), Replica(1, "n1", 5.0)))
    step = blend(before, after, 0.5, 2)
    assert step.replicas == (Replica(0, "n1", 0.5), Replica(0, "n2", 0.5), Replica(1, "n1", 5.0))


def test_the_first_layout_of_a_pool_comes_from_none() -> None:
    final = Layout(1, (Replica(0, "n1"), Replica(1, "n2")))
    moves = tuple(
        move_view(n, MoveKind.REPLICATE, r.shard_id, "", r.node_id, state=MoveState.PLANNED)
        for n, r in enumerate(final.replicas)
    )
    assert layout_after(Layout(0, ()), final, moves, {0}, 1) == final
    assert blend(Layout(0, ()), final, 0.5, 1) == final


def test_a_shard_that_ends_is_asked_until_the_last_step() -> None:
    before, after = Layout(1, (Replica(0, "n1"), Replica(9, "n2"))), Layout(2, (Replica(0, "n1"),))
    assert blend(before, after, 0.5, 2).replicas == before.replicas
    assert blend(before, after, 1.0, 2).replicas == after.replicas
