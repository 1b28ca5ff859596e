"""When moves must begin for the step that they are made for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import arrays
import numpy as np
from carrying_out import moves_of
from hypothesis import given
from hypothesis import strategies as st

from foreshard.model import MoveKind, Policy
from foreshard.placement.cluster import FULL, Cluster
from foreshard.placement.deadlines import lateness, start_by

START = datetime(2013, 11, 27, tzinfo=UTC)
POLICY = Policy(copy_bytes_per_second=10.0, verify_seconds=60.0, margin_seconds=600.0)


def pool(steps: int = 24) -> Cluster:
    cluster = arrays.cluster(
        arrays.nodes([10.0] * 5), arrays.shards(np.ones((5, max(1, steps)))), arrays.holdings([{0: FULL}] * 5), policy=POLICY
    )
    return replace(cluster, steps=tuple(START + timedelta(hours=h) for h in range(steps)))


def shift(shard: int, source: int, target: int, size: int) -> tuple[MoveKind, int, int, int, int, int]:
    return (MoveKind.MOVE, shard, source, target, FULL, size)


def at(hours: float, seconds: float = 0.0) -> datetime:
    return START + timedelta(hours=hours, seconds=-seconds)


def test_a_move_begins_copy_verification_and_margin_before_its_step() -> None:
    moves = moves_of([shift(0, 0, 1, 3_000)], step=[5])
    assert start_by(pool(), moves, np.array([0])).start_by == (at(5, 300 + 60 + 600),)


def test_copies_of_one_node_share_its_bandwidth() -> None:
    moves = moves_of([shift(0, 0, 1, 3_000), shift(1, 0, 2, 1_000), shift(2, 3, 2, 5_000)], step=[5, 5, 5])
    deadlines = start_by(pool(), moves, np.array([0, 0, 0]))
    # n0 sends 4,000 bytes and n2 receives 6,000.
    assert deadlines.start_by == (at(5, 400 + 660), at(5, 600 + 660), at(5, 600 + 660))
    assert deadlines.duration.tolist() == [660.0]


def test_earlier_waves_are_done_before_the_next_begins() -> None:
    moves = moves_of([shift(0, 0, 1, 3_000), shift(1, 0, 2, 1_000), shift(2, 0, 3, 1_000)], step=[-1, 5, -1])
    deadlines = start_by(pool(), moves, np.array([0, 1, 2]))
    second = at(5, 100 + 60 + 600)
    assert deadlines.start_by == (second - timedelta(seconds=360), second, None)
    assert deadlines.duration.tolist() == [360.0, 160.0, 160.0]


def test_all_moves_of_a_wave_hold_back_its_publication() -> None:
    moves = moves_of([shift(0, 0, 1, 9_000), shift(1, 3, 2, 1_000)], step=[-1, 5])
    assert start_by(pool(), moves, np.array([0, 0])).start_by == (at(5, 900 + 660), at(5, 100 + 660))


def test_a_drop_takes_no_time_but_waits_for_its_wave() -> None:
    moves = moves_of([(MoveKind.DROP, 0, 0, -1, FULL, 0), shift(1, 0, 2, 1_000)], step=[-1, 5])
    assert start_by(pool(), moves, np.array([0, 1])).start_by[0] == at(5, 100 + 660)


def test_what_should_have_begun_already_is_kept_and_counted() -> None:
    moves = moves_of([shift(0, 0, 1, 3_000), shift(1, 3, 2, 0)], step=[0, 9])
    deadlines = start_by(pool(), moves, np.array([0, 1]))
    assert deadlines.start_by[0] == at(0, 960)
    assert deadlines.late.tolist() == [True, False]
    assert lateness(pool(), deadlines).startswith(
        "1 move should have begun before 2013-11-27 00:00, the first of them 16 min earlier"
    )


def test_nothing_presses_without_a_wave_a_step_or_a_horizon() -> None:
    moves = moves_of([shift(0, 0, 1, 3_000)], step=[5])
    assert start_by(pool(), moves, np.array([-1])).start_by == (None,)
    assert start_by(pool(0), moves, np.array([0])).start_by == (None,)
    calm = start_by(pool(), moves_of([shift(0, 0, 1, 3_000)], step=[-1]), np.array([0]))
    assert calm.start_by == (None,)
    assert lateness(pool(), calm) == ""
    assert start_by(pool(), moves_of([]), np.zeros(0, dtype=np.int64)).start_by == ()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 23), st.integers(0, 90_000)), min_size=1, max_size=20))
def test_begun_in_time_every_wave_is_published_before_the_steps_it_serves(given_moves: list[tuple[int, int, int]]) -> None:
    waves = sorted({w for w, _, _ in given_moves})
    wave = np.array([waves.index(w) for w, _, _ in given_moves])
    rows = [shift(i % 5, i % 5, (i + 1) % 5, size) for i, (_, _, size) in enumerate(given_moves)]
    moves = moves_of(rows, step=[step for _, step, _ in given_moves])
    deadlines = start_by(pool(), moves, wave)
    clock = None
    for w in range(len(waves)):
        times = [t for t, x in zip(deadlines.start_by, wave, strict=True) if x == w]
        begins = [t for t in times if t is not None]
        assert len(begins) in (0, len(times))
        if not begins:
            continue
        assert clock is None or clock < min(begins) + timedelta(seconds=1)  # starts are in whole seconds
        clock = min(begins) + timedelta(seconds=float(deadlines.duration[w]))
        steps = [int(s) for s, x in zip(moves.step, wave, strict=True) if x == w and s >= 0]
        assert all(clock <= at(step, 600) for step in steps)
