"""Moves go on by legal steps only, under the fence, with one event each; people hold them, let them go and take them back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from foreshard import resources
from foreshard.errors import ForeshardError, Refused
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.model import Move, MoveKind, Plan, PlanMetrics
from foreshard.routing import database as control_plane
from foreshard.routing.snapshot import Snapshot
from foreshard.transition import lease as leases
from foreshard.transition import progress, store
from foreshard.transition.lease import Lease
from foreshard.transition.machine import FOLLOWS, PATH, MoveState, may_follow
from foreshard.transition.progress import PlanKey

S = MoveState
KEY = PlanKey("usage", "p1", "job")
MOVES = (
    Move(MoveKind.MOVE, 0, "b", "c", None, 100, "b is full"),
    Move(MoveKind.REPLICATE, 1, "", "a", None, 10, "hot"),
    Move(MoveKind.DROP, 2, "a", "", None, 0, "cold"),
)


@pytest.fixture
def url(published: str, snapshot: Snapshot) -> str:
    """A stored, approved plan over epoch 1."""
    for name in ("p1", "p2"):
        metrics = PlanMetrics(0.9, 0.7, 0.6, 110, 90, len(MOVES), "optimum")
        plan = Plan(name, "usage", 1, "digest", MOVES, snapshot.layout, metrics, summary="three moves")
        store.save_plan(published, plan, {})
        store.record_approval(published, "usage", name, "approved", "ann")
    return published


@pytest.fixture
def lease(url: str) -> Iterator[Lease]:
    """The controller's."""
    with leases.held(url, "usage/transition", "test", 60) as held:
        yield held


def states(url: str) -> list[str]:
    return [move.state for move in store.read_moves(url, "usage", "p1")]


def stages(url: str) -> list[tuple[int | None, str]]:
    return [(event.position, event.stage) for event in store.read_events(url, "usage", "p1") if event.position is not None]


def put(url: str, state: MoveState, paused_from: MoveState | None = None) -> None:
    with control_plane.transaction(url) as cursor:
        cursor.execute("UPDATE plan_move SET state = %s, paused_from = %s", (state.value, paused_from and paused_from.value))


def test_moves_advance_with_one_event_each_and_repeating_changes_nothing(url: str, lease: Lease) -> None:
    for _ in range(2):
        progress.advance_alone(url, lease, KEY, [1, 0], S.COPYING, source_version=17)
    for _ in range(2):
        progress.advance_alone(url, lease, KEY, [0, 1], S.CATCHING_UP, rows={0: 5, 1: 6}, detail="all of it")
    assert states(url) == ["catching_up", "catching_up", "planned"]
    moves = store.read_moves(url, "usage", "p1")
    assert [(m.rows_copied, m.source_version) for m in moves] == [(5, 17), (6, 17), (None, None)]
    assert stages(url) == [(0, "copying"), (1, "copying"), (0, "catching_up"), (1, "catching_up")]
    assert [e.detail for e in store.read_events(url, "usage", "p1")][-1] == "all of it"


def test_a_later_step_of_the_cut_over_is_noted_and_starts_its_time_anew(url: str, lease: Lease) -> None:
    put(url, S.VERIFIED)
    progress.advance_alone(url, lease, KEY, [0], S.CUTTING_OVER, step=0, epoch=2)
    first = store.read_moves(url, "usage", "p1")[0]
    progress.advance_alone(url, lease, KEY, [0], S.CUTTING_OVER, step=1, epoch=3)
    later = store.read_moves(url, "usage", "p1")[0]
    assert (first.step, later.step) == (0, 1)
    assert first.since is not None
    assert later.since is not None
    assert first.since < later.since
    assert [e.epoch for e in store.read_events(url, "usage", "p1") if e.stage == "cutting_over"] == [2, 3]


@pytest.mark.parametrize("now", [s for s in S if s is not S.PAUSED])
def test_only_legal_steps_are_taken(url: str, lease: Lease, now: MoveState) -> None:
    for after in S:
        put(url, now)
        if after is now or after in FOLLOWS[now]:
            progress.advance_alone(url, lease, KEY, [0], after)
            assert states(url)[0] == after.value
        else:
            with pytest.raises(Refused, match=f"move 0 of plan p1 is {now} and cannot become {after}"):
                progress.advance_alone(url, lease, KEY, [0], after)
            assert states(url)[0] == now.value


def test_after_retiring_there_is_no_way_back() -> None:
    for state in PATH[PATH.index(S.RETIRING) :]:
        assert not FOLLOWS[state] & {S.ROLLED_BACK, S.PAUSED, S.FAILED}
    for state in PATH[: PATH.index(S.RETIRING)]:
        assert {S.ROLLED_BACK, S.PAUSED, S.FAILED} <= FOLLOWS[state]


def test_an_unknown_move_is_named_and_nothing_advances(url: str, lease: Lease) -> None:
    with pytest.raises(ForeshardError, match="no move at position 7"):
        progress.advance_alone(url, lease, KEY, [0, 7], S.COPYING)
    assert states(url) == ["planned"] * 3


def test_who_lost_the_lease_writes_nothing(url: str) -> None:
    late = leases.acquire(url, "usage/transition", "late", 0.0)
    leases.acquire(url, "usage/transition", "other", 60)
    with pytest.raises(Refused, match="no longer holds lease"):
        progress.advance_alone(url, late, KEY, [0], S.COPYING)
    with pytest.raises(Refused, match="no longer holds lease"):
        progress.start(url, late, KEY)
    with pytest.raises(Refused, match="no longer holds lease"):
        progress.finish(url, late, KEY, "failed", "")
    assert not progress.record_bytes(url, late, KEY, {0: 5})
    assert states(url) == ["planned"] * 3


def test_one_plan_at_a_time_is_carried_out(url: str, lease: Lease) -> None:
    progress.start(url, lease, KEY)
    progress.start(url, lease, KEY)
    with pytest.raises(Refused, match="another plan of pool usage is being carried out"):
        progress.start(url, lease, PlanKey("usage", "p2", "job"))
    running = store.running_plan(url, "usage")
    assert running is not None
    assert running.plan_id == "p1"
    progress.finish(url, lease, KEY, "failed", "for a test")
    progress.start(url, lease, PlanKey("usage", "p2", "job"))


def test_copied_bytes_are_noted_while_a_move_is_copied_and_no_longer(url: str, lease: Lease) -> None:
    progress.advance_alone(url, lease, KEY, [0, 1], S.COPYING)
    assert progress.record_bytes(url, lease, KEY, {0: 40, 1: 10})
    assert [m.bytes_copied for m in store.read_moves(url, "usage", "p1")] == [40, 10, 0]
    progress.pause(url, KEY)
    assert not progress.record_bytes(url, lease, KEY, {0: 50, 1: 10})
    assert [m.bytes_copied for m in store.read_moves(url, "usage", "p1")] == [40, 10, 0]


@pytest.mark.parametrize("state", PATH[: PATH.index(S.RETIRING)])
def test_what_is_paused_goes_on_where_it_was(url: str, lease: Lease, state: MoveState) -> None:
    put(url, state)
    assert progress.pause(url, KEY) == [0, 1, 2]
    for after in S:
        assert may_follow(S.PAUSED, after, state) == (after in (state, S.ROLLED_BACK))
    other = S.COPYING if state is S.REVERSIBLE else S.REVERSIBLE
    with pytest.raises(Refused, match="is paused and cannot become"):
        progress.advance_alone(url, lease, KEY, [0], other)
    assert progress.resume(url, KEY) == [0, 1, 2]
    assert states(url) == [state.value] * 3
    assert progress.resume(url, KEY) == []


@pytest.mark.parametrize("state", [S.RETIRING, S.DONE, S.ROLLED_BACK])
def test_what_only_goes_forward_is_not_held_nor_taken_back(url: str, state: MoveState) -> None:
    put(url, state)
    with pytest.raises(Refused, match="no move that can be paused"):
        progress.pause(url, KEY)
    with pytest.raises(Refused, match="no move that can be taken back"):
        progress.request_rollback(url, KEY, "too slow")


def test_a_rollback_is_asked_for_with_its_reason(url: str, lease: Lease) -> None:
    progress.start(url, lease, KEY)
    progress.request_rollback(url, KEY, "too slow")
    record = store.read_plan(url, "usage", "p1")
    assert (record.state, record.rollback_reason) == ("running", "too slow")
    progress.finish(url, lease, KEY, "failed", "for a test")
    with pytest.raises(Refused, match="is failed and has no move"):
        progress.request_rollback(url, KEY, "again")
    with pytest.raises(ForeshardError, match="has no plan p9"):
        progress.request_rollback(url, PlanKey("usage", "p9", "job"), "x")


def test_plans_of_before_staged_transitions_are_taken_over(postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.create_database("before_stages")
    names = resources.names
    with monkeypatch.context() as before:
        before.setattr(resources, "names", lambda folder, ending: [n for n in names(folder, ending) if n < "0005"])
        control_plane.migrate(url)
    with control_plane.transaction(url) as cursor:
        cursor.execute("INSERT INTO pool (pool_id, slot_bits, policy, current_epoch) VALUES ('usage', 2, '{}', 8)")
        for name, base, state, moves in (
            *(("old", 3, "published", "published"), ("now", 7, "published", "published")),
            *(("half", 8, "running", "verified"), ("other", 8, "running", "copying")),
        ):
            cursor.execute("INSERT INTO plan VALUES ('usage', %s, %s, 'd', %s, '', '{}')", (name, base, state))
            cursor.execute(
                "INSERT INTO plan_move (pool_id, plan_id, position, kind, shard_id, source, target, bytes, reason, state) "
                "VALUES ('usage', %s, 0, 'drop', 1, 'a', '', 0, '', %s)",
                (name, moves),
            )
    control_plane.migrate(url)
    plans = {name: store.read_plan(url, "usage", name) for name in ("old", "now", "half", "other")}
    assert {n: (p.state, p.last_epoch) for n, p in plans.items()} == {
        "old": ("done", 4),
        "now": ("running", 8),
        "half": ("failed", 8),
        "other": ("failed", 8),
    }
    states_now = {n: store.read_moves(url, "usage", n)[0].state for n in plans}
    assert states_now == {"old": "reversible", "now": "reversible", "half": "failed", "other": "failed"}
