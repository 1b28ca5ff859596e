"""Going back in one command: to a layout that is there, caught up and right for the nodes of now, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from foreshard.checks import reports
from foreshard.checks.gate import QualityError
from foreshard.errors import Refused
from foreshard.model import NodeState, Replica
from foreshard.routing import pool, store
from foreshard.routing.rollback import roll_back
from foreshard.routing.snapshot import PredictedLoad, Snapshot
from foreshard.settings import Settings
from foreshard.transition.store import ReplicaRecord, delete_replicas, upsert_replicas

SOURCE = 9


@pytest.fixture
def settings(tmp_path: Path, pool_settings: Settings) -> Settings:
    """Of a pool whose source is at version SOURCE; a copy may be two versions behind."""
    chosen = replace(pool_settings, home=tmp_path, lake=str(tmp_path / "lake"))
    for _ in range(SOURCE + 1):
        write_deltalake(chosen.table("usage_hourly"), pa.table({"slot": [0]}), mode="append")
    return chosen


def in_shares(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, replicas=tuple(replace(r, weight=0.5) for r in snapshot.replicas))


@pytest.fixture
def moved_on(registered: str, snapshot: Snapshot) -> str:
    """Epoch 2, without the replica of shard 0 on a; all replicas are verified at the source's version."""
    first = in_shares(snapshot)
    store.publish(registered, first, expected_epoch=0, published_by="test", reason="first")
    hold(registered, first, SOURCE)
    others = tuple(r for r in first.replicas if (r.shard_id, r.node_id) != (0, "a"))
    second = replace(first, epoch=2, parent=1, replicas=(*others, Replica(0, "c", 0.5)))
    store.publish(registered, second, expected_epoch=1, published_by="test", reason="second")
    return registered


def hold(url: str, snapshot: Snapshot, version: int) -> None:
    records = [ReplicaRecord(r.shard_id, r.node_id, "verified", None, version, version) for r in snapshot.replicas]
    upsert_replicas(url, "usage", records)


def lag(*behind: tuple[int, str]) -> Callable[[str], None]:
    def do(url: str) -> None:
        upsert_replicas(url, "usage", [ReplicaRecord(s, n, "serving", None, SOURCE - 3) for s, n in behind])

    return do


def test_it_goes_back_to_copies_within_the_catch_up_bound(moved_on: str, settings: Settings, snapshot: Snapshot) -> None:
    upsert_replicas(moved_on, "usage", [ReplicaRecord(0, "a", "serving", None, SOURCE - 2)])
    assert roll_back(settings, moved_on, 1, "operator") == 3
    back = store.current(moved_on, "usage")
    assert back is not None
    assert (back.epoch, back.parent, back.replicas) == (3, 2, in_shares(snapshot).replicas)
    (run,) = reports.newest_runs(settings.home)
    assert [(report.table, report.status) for report in run.reports] == [("routing_epoch", "passed")]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lag((0, "a")), r"shard 0 on a has applied version 6 of the source and needs 7$"),
        (lag((0, "a"), (1, "b")), r"shard 0 on a has applied version 6 .*; shard 1 on b has applied version 6"),
        (lambda url: delete_replicas(url, "usage", [(0, "a")]), r"shard 0 on a is not verified .*its replica is missing"),
        (
            lambda url: upsert_replicas(url, "usage", [ReplicaRecord(0, "a", "retiring")]),
            r"shard 0 on a is not verified .*its replica is retiring",
        ),
    ],
    ids=["behind", "two behind", "gone", "going"],
)
def test_it_names_the_replicas_that_cannot_serve(
    moved_on: str, settings: Settings, spoil: Callable[[str], object], sentence: str
) -> None:
    spoil(moved_on)
    with pytest.raises(Refused, match=sentence):
        roll_back(settings, moved_on, 1, "operator")
    assert pool.read_pool(moved_on, "usage").current_epoch == 2


def test_a_hot_replica_on_a_dead_node_is_not_there(moved_on: str, settings: Settings, snapshot: Snapshot) -> None:
    """The full replicas would do, and still the layout is not what it was."""
    third = replace(in_shares(snapshot), epoch=3, parent=2)
    third = replace(third, replicas=tuple(r for r in third.replicas if r.node_id != "b"))
    spare = tuple(Replica(s, n, 0.5) for s, n in ((0, "c"), (1, "a")))
    with_hot = replace(
        third,
        replicas=(*third.replicas, *spare, Replica(3, "b", 1e-6, datetime(2026, 1, 1, tzinfo=UTC).date())),
    )
    store.publish(moved_on, with_hot, expected_epoch=2, published_by="test", reason="third")
    hold(moved_on, with_hot, SOURCE)
    without = replace(with_hot, epoch=4, parent=3, replicas=with_hot.replicas[:-1])
    store.publish(moved_on, without, expected_epoch=3, published_by="test", reason="fourth")
    pool.set_node_state(moved_on, "usage", "b", NodeState.DEAD)
    with pytest.raises(Refused, match="shard 3 on b is on a node that is dead"):
        roll_back(settings, moved_on, 3, "operator")


def test_a_layout_short_of_live_replicas_fails_the_suite(moved_on: str, settings: Settings) -> None:
    pool.set_node_state(moved_on, "usage", "b", NodeState.DEAD)
    with pytest.raises(QualityError, match=r"routing_epoch: nothing was committed.*missing_full_replicas"):
        roll_back(settings, moved_on, 1, "operator")
    assert pool.read_pool(moved_on, "usage").current_epoch == 2


def test_an_overload_is_recorded_and_does_not_keep_anyone_from_going_back(
    registered: str, settings: Settings, snapshot: Snapshot
) -> None:
    loads = tuple(PredictedLoad(s, datetime(2026, 1, 1, tzinfo=UTC), 40.0) for s in range(4))
    store.publish(registered, replace(in_shares(snapshot), predicted=loads), expected_epoch=0, published_by="t", reason="r")
    hold(registered, snapshot, SOURCE)
    store.publish(registered, replace(in_shares(snapshot), epoch=2, parent=1), expected_epoch=1, published_by="t", reason="r")
    assert roll_back(settings, registered, 1, "operator") == 3
    (run,) = reports.newest_runs(settings.home)
    assert run.status == "warning"
