"""Plans, moves, replicas, pins and landed files: legal steps only, and every step safe to repeat."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from threading import Barrier

import pytest

from foreshard import resources
from foreshard.errors import ForeshardError, Refused
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.model import (
    Goal,
    Layout,
    Move,
    MoveKind,
    Node,
    PlacementProblem,
    Plan,
    PlanMetrics,
    Policy,
    Replica,
    Resource,
    ShardLoad,
)
from foreshard.routing import database as control_plane
from foreshard.routing import store as epochs
from foreshard.routing.snapshot import Snapshot
from foreshard.transition import plan_problem, plan_state, store
from foreshard.transition.store import ReplicaRecord

MOVES = (
    Move(
        *(MoveKind.MOVE, 0, "b", "c", None, 1 << 40, "b is full; 100 % of it"),
        *(Goal.BALANCE, 1 / 3, 2, datetime(2013, 11, 27, 5, tzinfo=UTC)),
    ),
    Move(MoveKind.REPLICATE, 1, "", "a", date(2013, 11, 20), 10, "hot"),
    Move(MoveKind.DROP, 2, "a", "", None, 0, "cold"),
)


@pytest.fixture
def plan(published: str, snapshot: Snapshot) -> Plan:
    """A stored plan over epoch 1."""
    metrics = PlanMetrics(0.9, 0.7, 0.6, 100, 90, len(MOVES), "optimum")
    plan = Plan("p1", "usage", 1, "digest", MOVES, snapshot.layout, metrics, summary="three moves")
    store.save_plan(published, plan, {"plan_id": "p1", "moves": 3})
    return plan


def stages(url: str) -> list[tuple[int | None, str]]:
    return [(event.position, event.stage) for event in store.read_events(url, "usage", "p1")]


def test_a_plan_is_stored_once_and_read_back(published: str, plan: Plan) -> None:
    store.save_plan(published, plan, {"another": "document"})
    record = store.read_plan(published, "usage", "p1")
    assert (record.state, record.base_epoch, record.input_digest) == ("proposed", 1, "digest")
    assert record.document == {"plan_id": "p1", "moves": 3}
    moves = store.read_moves(published, "usage", "p1")
    names = [field.name for field in fields(Move)]
    assert tuple(Move(**{name: getattr(m, name) for name in names}) for m in moves) == MOVES
    assert moves[0].goal is Goal.BALANCE
    assert [m.position for m in moves] == [0, 1, 2]
    assert stages(published) == [(None, "proposed")]
    latest = store.latest_plan(published, "usage")
    assert latest is not None
    assert latest.plan_id == "p1"
    assert store.latest_plan(published, "other") is None


def test_a_problem_is_kept_beside_its_plan_and_comes_back_the_same(published: str, plan: Plan) -> None:
    problem = PlacementProblem(
        "usage",
        Layout(1, (Replica(0, "a", 1 / 7), Replica(0, "b", covers_from=date(2013, 11, 20)))),
        (Node("a", 10.0, zone="x", limits={"storage": 1 / 3}), Node("b", 0.1 + 0.2, targets={"load": 0.7})),
        (ShardLoad(0, (0.1, 7e-17), (0.2, 0.3), ((0.1,), (-0.1,)), 5, 1, 0.5, {"storage": 2.0}, avoids=("b",)),),
        Policy(),
        (datetime(2013, 11, 27, tzinfo=UTC), datetime(2013, 11, 27, 1, tzinfo=UTC)),
        date(2013, 11, 20),
        resources=(Resource("storage"),),
    )
    assert store.read_problem(published, "usage", "p1") is None, "plans stored before have none"
    store.save_plan(published, replace(plan, plan_id="p2"), {}, plan_problem.packed(problem))
    kept = store.read_problem(published, "usage", "p2")
    assert kept == plan_problem.packed(problem)
    assert plan_problem.unpacked(kept, "p2") == problem
    assert store.read_problem(published, "usage", "none") is None
    with pytest.raises(ForeshardError, match="kept with plan p2 cannot be read"):
        plan_problem.unpacked(kept[:-3], "p2")


def test_the_column_for_the_problem_is_added_to_a_database_of_before_and_only_once(
    postgres: EmbeddedPostgres, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.create_database("before_problems")
    names = resources.names
    with monkeypatch.context() as before:
        before.setattr(resources, "names", lambda folder, ending: [n for n in names(folder, ending) if n < "0003"])
        control_plane.migrate(url)
    with pytest.raises(ForeshardError, match="older version; run `foreshard init`"):
        store.read_problem(url, "usage", "p1")
    assert control_plane.migrate(url)[0] == "0003_plan_problem.sql"
    assert control_plane.migrate(url) == []
    with control_plane.transaction(url) as cursor:
        cursor.execute(resources.text("sql", "migrations", "0003_plan_problem.sql"))  # safe to repeat by itself
    assert store.read_problem(url, "usage", "p1") is None


def test_a_plan_without_moves_has_none(published: str, plan: Plan) -> None:
    store.save_plan(published, replace(plan, plan_id="p2", moves=()), {})
    assert store.read_moves(published, "usage", "p2") == []
    with pytest.raises(ForeshardError, match="has no plan p3"):
        store.read_moves(published, "usage", "p3")


@pytest.mark.parametrize("before", plan_state.STATES)
def test_only_legal_steps_are_taken(published: str, plan: Plan, before: str) -> None:
    for after in plan_state.STATES:
        with control_plane.transaction(published) as cursor:
            cursor.execute("UPDATE plan SET state = %s", (before,))
        if after == before or after in plan_state.STATES[before]:
            store.set_plan_state(published, "usage", "p1", after, "test")
            assert store.read_plan(published, "usage", "p1").state == after
        else:
            with pytest.raises(Refused, match=f"plan p1 is {before} and cannot become {after}"):
                store.set_plan_state(published, "usage", "p1", after, "test")


def test_an_approval_moves_the_plan_and_cannot_be_turned_round_after_rejection(published: str, plan: Plan) -> None:
    store.record_approval(published, "usage", "p1", "approved", "ann")
    store.record_approval(published, "usage", "p1", "approved", "bob")
    store.record_approval(published, "usage", "p1", "rejected", "cho")
    with pytest.raises(Refused, match="is rejected"):
        store.record_approval(published, "usage", "p1", "approved", "ann")
    with control_plane.transaction(published) as cursor:
        cursor.execute("SELECT decision, decided_by FROM approval")
        assert cursor.fetchall() == [{"decision": "rejected", "decided_by": "cho"}]
    assert stages(published) == [(None, "proposed"), (None, "approved"), (None, "rejected")]


def test_opposite_decisions_at_once_leave_state_and_approval_agreed(published: str, plan: Plan) -> None:
    barrier = Barrier(2)

    def decide(decision: str) -> None:
        barrier.wait()
        try:
            store.record_approval(published, "usage", "p1", decision, decision)  # type: ignore[arg-type]
        except Refused:
            assert decision == "approved", "a rejection is accepted before and after an approval"

    with ThreadPoolExecutor(2) as executor:
        list(executor.map(decide, ["approved", "rejected"]))
    with control_plane.transaction(published) as cursor:
        cursor.execute("SELECT decision FROM approval")
        assert cursor.fetchall() == [{"decision": "rejected"}]
    assert store.read_plan(published, "usage", "p1").state == "rejected"


def publish_plan(url: str, snapshot: Snapshot, **changes: object) -> None:
    new = replace(snapshot, epoch=2, parent=1, **changes)  # type: ignore[arg-type]
    epochs.publish(url, new, expected_epoch=1, published_by="job", reason="p1", plan_id="p1")


def test_a_plan_is_published_only_when_approved(published: str, plan: Plan, snapshot: Snapshot) -> None:
    with pytest.raises(Refused, match="plan p1 is proposed"):
        publish_plan(published, snapshot)
    store.record_approval(published, "usage", "p1", "approved", "ann")
    store.set_plan_state(published, "usage", "p1", "running", "job")
    publish_plan(published, snapshot)
    record = store.read_plan(published, "usage", "p1")
    assert (record.state, record.base_epoch, record.last_epoch) == ("running", 1, 2), "it may publish more"
    assert stages(published)[-1] == (None, "published")
    third = replace(snapshot, epoch=3, parent=2)
    epochs.publish(published, third, expected_epoch=2, published_by="job", reason="next step", plan_id="p1")
    assert store.read_plan(published, "usage", "p1").last_epoch == 3
    assert epochs.history(published, "usage", 1)[0].plan_id == "p1"


def test_a_plan_from_another_epoch_is_refused(published: str, plan: Plan, snapshot: Snapshot) -> None:
    store.record_approval(published, "usage", "p1", "approved", "ann")
    other = replace(snapshot, epoch=2, parent=1)
    epochs.publish(published, other, expected_epoch=1, published_by="t", reason="meanwhile")
    third = replace(snapshot, epoch=3, parent=2)
    with pytest.raises(Refused, match="plan p1 goes on from epoch 1, not 2"):
        epochs.publish(published, third, expected_epoch=2, published_by="t", reason="late", plan_id="p1")


@pytest.mark.parametrize(
    ("held", "routed_from", "accepted"),
    [
        (None, None, False),
        (ReplicaRecord(0, "c", "copying"), None, False),
        (ReplicaRecord(0, "c", "verified", None, 7, 7), None, True),
        (ReplicaRecord(0, "c", "verified", date(2013, 11, 20), 7, 7), None, False),
        (ReplicaRecord(0, "c", "verified", date(2013, 11, 20), 7, 7), date(2013, 11, 20), True),
        (ReplicaRecord(0, "c", "verified", date(2013, 11, 20), 7, 7), date(2013, 11, 19), False),
        (ReplicaRecord(0, "c", "retiring", None, 7, 7), None, False),
    ],
)
def test_a_plan_adds_a_replica_only_where_it_is_verified(
    published: str, plan: Plan, snapshot: Snapshot, held: ReplicaRecord | None, routed_from: date | None, accepted: bool
) -> None:
    store.record_approval(published, "usage", "p1", "approved", "ann")
    store.upsert_replicas(published, "usage", [held] if held else [])
    replicas = (*snapshot.replicas, Replica(0, "c", 1.0, routed_from))
    if accepted:
        publish_plan(published, snapshot, replicas=replicas)
        assert store.read_replicas(published, "usage")[0].state == "serving"
    else:
        with pytest.raises(Refused, match="shard 0 on c is not verified"):
            publish_plan(published, snapshot, replicas=replicas)
        assert store.read_plan(published, "usage", "p1").state == "approved"


def test_replicas_keep_their_verification_until_copied_anew(published: str) -> None:
    def only() -> ReplicaRecord:
        return store.read_replicas(published, "usage")[0]

    store.upsert_replicas(published, "usage", [ReplicaRecord(0, "a", "verified", None, 7, 7)])
    verified_at = only().verified_at
    assert verified_at is not None
    store.upsert_replicas(published, "usage", [ReplicaRecord(0, "a", "serving", None, 8)])
    assert only() == ReplicaRecord(0, "a", "serving", None, 8, 7, verified_at)
    store.upsert_replicas(published, "usage", [ReplicaRecord(0, "a", "copying", date(2013, 11, 20))])
    assert only() == ReplicaRecord(0, "a", "copying", date(2013, 11, 20), 8, None, None)


def test_a_replica_that_is_routed_to_is_not_forgotten(published: str) -> None:
    store.upsert_replicas(published, "usage", [ReplicaRecord(0, "a", "serving"), ReplicaRecord(0, "c", "retiring")])
    with pytest.raises(Refused, match="shard 0 on a is routed to by the current epoch 1"):
        store.delete_replicas(published, "usage", [(0, "c"), (0, "a")])
    store.delete_replicas(published, "usage", [(0, "c")])
    store.delete_replicas(published, "usage", [(0, "c")])
    assert [(r.shard_id, r.node_id) for r in store.read_replicas(published, "usage")] == [(0, "a")]


def test_the_oldest_pin_holds(published: str) -> None:
    assert store.oldest_pin(published, "usage", "usage_hourly") is None
    store.pin_version(published, "usage", "usage_hourly", 5, "plan 1")
    store.pin_version(published, "usage", "usage_hourly", 3, "plan 2")
    store.pin_version(published, "usage", "query_load", 1, "plan 2")
    assert store.oldest_pin(published, "usage", "usage_hourly") == 3
    store.pin_version(published, "usage", "usage_hourly", 9, "plan 2")
    assert store.oldest_pin(published, "usage", "usage_hourly") == 5
    store.unpin(published, "usage", "usage_hourly", "plan 1")
    store.unpin(published, "usage", "usage_hourly", "plan 1")
    assert store.oldest_pin(published, "usage", "usage_hourly") == 9


def test_a_landed_file_keeps_the_first_version_that_includes_it(published: str) -> None:
    landed = datetime(2013, 11, 28, 5, tzinfo=UTC)
    store.record_landed_file(published, "usage", "h/f.jsonl", landed)
    assert store.applied_version_of(published, "usage", "h/f.jsonl") is None
    store.mark_files_applied(published, "usage", ["h/f.jsonl", "h/unknown.jsonl"], 4)
    store.mark_files_applied(published, "usage", ["h/f.jsonl"], 5)
    store.record_landed_file(published, "usage", "h/f.jsonl", landed)
    assert store.applied_version_of(published, "usage", "h/f.jsonl") == 4
    with pytest.raises(Refused, match=r"no file h/unknown.jsonl has landed"):
        store.applied_version_of(published, "usage", "h/unknown.jsonl")
