"""What doctor finds beside sound copies, that it changes nothing unless asked, and what a repair leaves alone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner
from written_copies import put_shard, serving_rows
from written_pools import publish_pool

from foreshard.cli import app
from foreshard.errors import Refused
from foreshard.model import Layout, Move, MoveKind, Replica
from foreshard.placement import codec
from foreshard.routing import database as control_plane
from foreshard.routing import store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.transition import lease, steps
from foreshard.transition import store as transitions
from foreshard.transition.retire import holdings_of
from foreshard.upkeep import leftovers as repairs
from foreshard.upkeep.finding import Finding
from foreshard.upkeep.leftovers import leftovers
from foreshard.upkeep.staged_folders import remove_staged, staged_leftovers
from foreshard.upkeep.stranded import stranded

HOUR = datetime(2013, 11, 20, 5, tzinfo=UTC)
OLD = HOUR - timedelta(days=30)
FIRST_DAY = date(2013, 11, 19)


@pytest.fixture
def sound(tmp_path: Path, database: str, snapshot: Snapshot) -> Settings:
    """Every node holds what epoch 1 routes to it: shards 0 to 3 on (a, b), (b, c), (c, a), (a, c)."""
    settings = publish_pool(tmp_path, database, snapshot)
    for replica in snapshot.replicas:
        hold(settings, replica.node_id, replica.shard_id)
    return settings


def hold(settings: Settings, node_id: str, shard: int, state: str = "serving", covers_from: date | None = None) -> None:
    """Gives the node a copy of the shard with a row of a month before the other, and the record of it."""
    uri = settings.table(f"serving/{node_id}")
    applied = {s: h.applied_version for s, h in holdings_of(settings, node_id).items()} | {shard: 3}
    hot = {s: h.covers_from for s, h in holdings_of(settings, node_id).items() if h.covers_from and s != shard}
    put_shard(
        uri,
        shard,
        [("AA1", HOUR, "1", 1)] + ([] if covers_from else [("AA1", OLD, "1", 1)]),
        applied,
        hot | ({shard: covers_from} if covers_from else {}),
    )
    row = transitions.ReplicaRecord(shard, node_id, state, covers_from, 3, 3)
    transitions.upsert_replicas(settings.postgres_url, settings.pool_id, [row])


def found(settings: Settings) -> list[Finding]:
    return [*leftovers(settings, settings.postgres_url), *stranded(settings, settings.postgres_url)]


def one(settings: Settings) -> Finding:
    (finding,) = found(settings)
    return finding


def mend(finding: Finding) -> str:
    assert finding.repair is not None
    return finding.repair()


def rows_of(settings: Settings, node_id: str) -> list[tuple[int, datetime]]:
    rows = DeltaTable(settings.table(f"serving/{node_id}")).to_pyarrow_table().to_pylist()
    return sorted((r["shard_id"], r["hour"].replace(tzinfo=UTC)) for r in rows)


def records_of(settings: Settings, node_id: str) -> set[int]:
    return {r.shard_id for r in transitions.read_replicas(settings.postgres_url, "usage") if r.node_id == node_id}


def save_plan(settings: Settings, move: Move, state: str = "approved", plan_id: str = "p1") -> None:
    url = settings.postgres_url
    layout = Layout(2, (Replica(0, "a"),))
    plan = replace(steps.first_plan("usage", layout), plan_id=plan_id, base_epoch=1, moves=(move,))
    transitions.save_plan(url, plan, codec.plan_to_document(plan))
    transitions.record_approval(url, "usage", plan_id, "approved", "test")
    if state != "approved":
        set_states(settings, state, plan_id=plan_id)


def set_states(settings: Settings, state: str, move_state: str = "", plan_id: str = "p1", quiet_seconds: float = 0) -> None:
    """Puts the plan and its moves into these states, however they came there, and its events so far back."""
    with control_plane.transaction(settings.postgres_url) as cursor:
        cursor.execute("UPDATE plan SET state = %s WHERE plan_id = %s", (state, plan_id))
        if move_state:
            cursor.execute("UPDATE plan_move SET state = %s WHERE plan_id = %s", (move_state, plan_id))
        back = "UPDATE transition_event SET at = at - make_interval(secs => %s) WHERE plan_id = %s"
        cursor.execute(back, (quiet_seconds, plan_id))


def replicate(shard: int, target: str) -> Move:
    return Move(MoveKind.REPLICATE, shard, "", target, None, 10, "test")


def test_a_sound_pool_has_nothing_left_over(sound: Settings) -> None:
    assert found(sound) == []


def test_a_copy_that_nobody_needs_is_dropped_when_asked_and_only_then(sound: Settings) -> None:
    before = rows_of(sound, "c")
    hold(sound, "c", 0, "verified")
    finding = one(sound)
    assert (finding.what, finding.where) == ("copies that nothing routes to and no move needs: shards 0", "c")
    assert 0 in holdings_of(sound, "c"), "a look changes nothing"
    assert mend(finding) == "dropped shards 0"
    assert rows_of(sound, "c") == before
    assert sorted(holdings_of(sound, "c")) == [1, 2, 3]
    assert records_of(sound, "c") == {1, 2, 3}
    assert found(sound) == []
    assert mend(finding) == "dropped nothing", "a repeat does nothing"


def test_rows_that_the_table_does_not_say_it_has_are_dropped(sound: Settings) -> None:
    before = rows_of(sound, "c")
    write_deltalake(sound.table("serving/c"), serving_rows(0, [("AA1", HOUR, "1", 1)]), mode="append")
    finding = one(sound)
    assert (finding.what, finding.where) == ("copies that nothing routes to and no move needs: shards 0", "c")
    assert mend(finding) == "dropped shards 0"
    assert (rows_of(sound, "c"), found(sound)) == (before, [])


@pytest.mark.parametrize(
    ("move", "state", "move_state"),
    [
        (replicate(0, "c"), "approved", "planned"),
        (replicate(0, "c"), "running", "verified"),
        (replicate(0, "c"), "running", "paused"),
        (replicate(0, "c"), "failed", "copying"),
        (Move(MoveKind.MOVE, 0, "c", "a", None, 10, "test"), "running", "reversible"),  # to be gone back to
    ],
    ids=["approved", "verified", "paused", "failed on the way", "source in the reverse window"],
)
def test_a_copy_that_an_open_move_may_need_stays(sound: Settings, move: Move, state: str, move_state: str) -> None:
    hold(sound, "c", 0, "verified")
    orphan = next(f for f in found(sound))
    save_plan(sound, move)
    set_states(sound, state, move_state)
    assert [f.what for f in leftovers(sound, sound.postgres_url)] == []
    assert mend(orphan) == "dropped nothing", "what was found before looks again"
    assert 0 in holdings_of(sound, "c")


@pytest.mark.parametrize(("state", "move_state"), [("rolled_back", "rolled_back"), ("done", "done"), ("failed", "planned")])
def test_a_copy_of_an_ended_move_goes(sound: Settings, state: str, move_state: str) -> None:
    hold(sound, "c", 0, "verified")
    save_plan(sound, replicate(0, "c"))
    set_states(sound, state, move_state)
    mend(one(sound))
    assert 0 not in holdings_of(sound, "c")


def test_nothing_is_dropped_that_a_gateway_may_still_ask_for(sound: Settings) -> None:
    url = sound.postgres_url
    hold(sound, "c", 0, "verified")
    orphan = one(sound)
    store.register_gateway(url, "usage", "g1", 600)
    waiting = one(sound)
    assert waiting.repair is None
    assert waiting.do == "drop them when gateways g1 follow epoch 1, or are gone"
    with pytest.raises(Refused, match="gateway g1 does not follow epoch 1 yet"):
        mend(orphan)
    assert 0 in holdings_of(sound, "c")
    store.acknowledge(url, "usage", "g1", 1)
    mend(one(sound))
    assert 0 not in holdings_of(sound, "c")


def test_what_an_epoch_came_to_route_to_meanwhile_stays(sound: Settings, snapshot: Snapshot) -> None:
    hold(sound, "c", 0, "verified")
    orphan = one(sound)
    after = replace(snapshot, epoch=2, parent=1, replicas=(*snapshot.replicas, Replica(0, "c")))
    store.publish(sound.postgres_url, after, expected_epoch=1, published_by="test", reason="test")
    assert mend(orphan) == "dropped nothing"
    assert 0 in holdings_of(sound, "c")


def test_a_repair_killed_halfway_is_ended_by_the_next_and_no_epoch_takes_what_is_going(
    sound: Settings, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sound.postgres_url
    hold(sound, "c", 0, "verified")
    with_it = replace(snapshot, epoch=2, parent=1, replicas=(*snapshot.replicas, Replica(0, "c")))
    for epoch in (with_it, replace(snapshot, epoch=3, parent=2)):
        store.publish(url, epoch, expected_epoch=epoch.parent, published_by="test", reason="test")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(repairs, "drop_shards", killed)
        with pytest.raises(KeyboardInterrupt):
            mend(one(sound))
    assert 0 in holdings_of(sound, "c")
    with pytest.raises(Refused, match="shard 0 on c is not verified"):
        store.rollback(url, "usage", 2, "test")
    mend(one(sound))
    assert 0 not in holdings_of(sound, "c")
    assert found(sound) == []


def test_a_hot_replica_that_was_to_be_widened_loses_its_older_days(sound: Settings, snapshot: Snapshot) -> None:
    url = sound.postgres_url
    hold(sound, "c", 0, "serving", FIRST_DAY)
    routed = replace(snapshot, epoch=2, parent=1, replicas=(*snapshot.replicas, Replica(0, "c", covers_from=FIRST_DAY)))
    store.publish(url, routed, expected_epoch=1, published_by="test", reason="test")
    assert found(sound) == []
    hold(sound, "c", 0)
    finding = one(sound)
    assert finding.what == "hot replicas with older days than they are asked for: shards 0"
    assert mend(finding) == "dropped the older days of shards 0"
    assert (0, OLD) not in rows_of(sound, "c")
    assert (0, HOUR) in rows_of(sound, "c")
    assert holdings_of(sound, "c")[0].covers_from == FIRST_DAY
    record = next(r for r in transitions.read_replicas(url, "usage") if (r.shard_id, r.node_id) == (0, "c"))
    assert record.covers_from == FIRST_DAY
    assert found(sound) == []


def test_records_and_tables_are_brought_together(sound: Settings) -> None:
    url = sound.postgres_url
    transitions.upsert_replicas(url, "usage", [transitions.ReplicaRecord(0, "c", "copying")])
    with control_plane.transaction(url) as cursor:
        cursor.execute("DELETE FROM replica WHERE shard_id = 1 AND node_id = 'b'")
    missing, idle = found(sound)
    assert (missing.where, missing.what) == ("b", "copies without a record: shards 1")
    assert (idle.where, idle.what) == ("c", "replicas on record that the table does not have: shards 0")
    assert [mend(missing), mend(idle)] == ["recorded shards 1", "forgot shards 0"]
    assert records_of(sound, "b") == {0, 1}
    assert records_of(sound, "c") == {1, 2, 3}
    assert found(sound) == []


def test_what_is_routed_to_and_not_held_is_named_with_what_to_do(sound: Settings, snapshot: Snapshot) -> None:
    after = replace(snapshot, epoch=2, parent=1, replicas=(*snapshot.replicas, Replica(0, "c")))
    store.publish(sound.postgres_url, after, expected_epoch=1, published_by="test", reason="test")
    finding = one(sound)
    assert (finding.what, finding.where, finding.repair) == ("routed but not held: shards 0", "c", None)
    assert "follow_source" in finding.do
    control_plane.query(sound.postgres_url, "set_node_state", {"pool_id": "usage", "node_id": "c", "state": "dead"})
    assert "the node is dead" in one(sound).do


def test_versions_kept_for_plans_that_ended_are_given_up_and_others_stay(sound: Settings) -> None:
    url = sound.postgres_url
    for plan_id in ("p1", "p2"):
        save_plan(sound, replicate(1, "b"), plan_id=plan_id)
        transitions.pin_version(url, "usage", "usage_hourly", 3, plan_id)
    transitions.pin_version(url, "usage", "usage_hourly", 2, "somebody else")
    set_states(sound, "rolled_back", "rolled_back")
    finding = one(sound)
    assert finding.what == "version 3 is kept for plan p1, which is rolled_back"
    mend(finding)
    assert found(sound) == []
    assert transitions.oldest_pin(url, "usage", "usage_hourly") == 2


def test_a_plan_that_nobody_carries_on_is_named_with_the_command_that_does(sound: Settings) -> None:
    url = sound.postgres_url
    save_plan(sound, replicate(1, "b"))
    set_states(sound, "running", "copying", quiet_seconds=60)
    assert found(sound) == []
    set_states(sound, "running", quiet_seconds=600)
    assert "foreshard transition run p1" in one(sound).do
    with lease.held(url, "usage/transition", "a controller", 60):
        assert found(sound) == []
    set_states(sound, "running", "paused")
    assert "foreshard transition resume p1" in one(sound).do
    set_states(sound, "failed", "copying")
    assert one(sound).what == "1 moves were begun and not ended, and the plan is failed"


def staged(settings: Settings, name: str, seconds: float) -> Path:
    """A staged folder in a's table whose file is so many seconds old."""
    folder = Path(settings.table("serving/a")) / name
    (folder / "shard_id=0").mkdir(parents=True)
    file = folder / "shard_id=0" / "part-0.parquet"
    file.write_bytes(b"x")
    then = datetime.now(UTC).timestamp() - seconds
    os.utime(file, (then, then))
    return folder


def test_staged_files_go_that_no_commit_ever_named_and_nobody_writes(sound: Settings) -> None:
    old, young, named = staged(sound, "staged-1", 3600), staged(sound, "staged-2", 10), staged(sound, "staged-3", 3600)
    path = sound.table("serving/a")
    log = Path(path) / "_delta_log"
    newest = max(int(file.stem) for file in log.glob("*.json"))
    action = {"remove": {"path": "staged-3/shard_id=0/part-0.parquet", "deletionTimestamp": 1, "dataChange": True}}
    commit = log / f"{newest:020d}.json"
    commit.write_text(commit.read_text("utf-8").rstrip() + "\n" + json.dumps(action) + "\n", "utf-8")
    assert staged_leftovers(path) == ["staged-1"]
    mend(one(sound))
    assert [folder.exists() for folder in (old, young, named)] == [False, True, True]
    assert remove_staged(path, seconds=0) == 1
    assert [folder.exists() for folder in (old, young, named)] == [False, False, True]
    assert rows_of(sound, "a"), "the table reads as before"


def test_the_command_repairs_only_when_asked_and_says_so_by_its_status(
    sound: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(sound, "c", 0, "verified")

    def doctor(*words: str) -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(app, ["doctor", *words, "--settings", str(sound.path), "--json"])
        said: dict[str, Any] = json.loads(done.stdout)
        # That machine's Java and an empty lake are not what this test is about.
        said["findings"] = [f for f in said["findings"] if f["where"] in "abc"]
        return done.exit_code, said

    orphan = {
        "what": "copies that nothing routes to and no move needs: shards 0",
        "where": "c",
        "do": "drop them: `foreshard doctor --repair`",
        "repairable": True,
    }
    assert doctor() == (1, {"findings": [orphan], "repaired": []})
    assert doctor() == (1, {"findings": [orphan], "repaired": []}), "a look changes nothing"
    store.register_gateway(sound.postgres_url, "usage", "g1", 600)
    assert doctor("--repair")[1]["repaired"] == [], "it may not be, yet"
    store.acknowledge(sound.postgres_url, "usage", "g1", 1)
    _, said = doctor("--repair")
    assert said == {"findings": [], "repaired": [{"where": "c", "done": "dropped shards 0", "succeeded": True}]}
    assert 0 not in holdings_of(sound, "c")
