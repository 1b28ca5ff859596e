"""The pipeline's copy against real Delta tables."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from foreshard.gateway.query import Query
from foreshard.gateway.serving_copy import Behind, NotMine, ServingCopy, follow

HOUR = datetime(2013, 11, 20, 5, tzinfo=UTC)
PutShard = Callable[..., None]


class _Turns(threading.Event):
    """Stops a follower after so many turns; `before_each` is done before every further one."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.turns, self.done = turns, 0
        self.before_each: Callable[[], None] = lambda: None

    def wait(self, timeout: float | None = None) -> bool:
        self.done += 1
        if self.done < self.turns:
            self.before_each()
        return self.done == self.turns


def query(entity_id: str = "e", start: datetime = HOUR, hours: int = 48) -> Query:
    return Query(entity_id, "s", "o", start, start + timedelta(hours=hours))


def total(copy: ServingCopy, shard_id: int = 3, entity_id: str = "e") -> Decimal:
    rows, _ = copy.usage(shard_id, query(entity_id), "total", None)
    return sum((row[1] for row in rows), Decimal(0))


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "serving" / "a")


def test_without_a_table_nothing_is_held(uri: str) -> None:
    copy = ServingCopy(uri)
    assert not copy.is_known
    copy.refresh()
    assert copy.is_known
    with pytest.raises(NotMine):
        copy.usage(3, query(), "hour", None)


def test_hours_days_and_totals_are_exact_and_the_range_excludes_its_end(uri: str, put_shard: PutShard) -> None:
    rows = [("e", HOUR + timedelta(hours=h), "0.1", 1) for h in range(48)] + [("other", HOUR, "7", 7)]
    put_shard(uri, 3, rows, {3: 17})
    copy = ServingCopy(uri)
    copy.refresh()
    by_hour, version = copy.usage(3, query(hours=2), "hour", None)
    assert by_hour == [(HOUR, Decimal("0.1"), 1), (HOUR + timedelta(hours=1), Decimal("0.1"), 1)]
    assert version == 17
    by_day, _ = copy.usage(3, query(), "day", None)
    assert [(row[0].day, row[1], row[2]) for row in by_day] == [
        (20, Decimal("1.9"), 19),
        (21, Decimal("2.4"), 24),
        (22, Decimal("0.5"), 5),
    ]
    assert copy.usage(3, query(), "total", None)[0] == [(HOUR, Decimal("4.8"), 48)]


def test_an_entity_without_rows_in_a_held_shard_is_really_empty(uri: str, put_shard: PutShard) -> None:
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1, 4: 1})
    copy = ServingCopy(uri)
    copy.refresh()
    for granularity in ("hour", "day", "total"):
        assert copy.usage(3, query("unknown"), granularity, None)[0] == []
        assert copy.usage(4, query(), granularity, None)[0] == []


def test_rows_of_a_shard_that_is_not_in_the_holdings_are_not_answered_from(uri: str, put_shard: PutShard) -> None:
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1})
    put_shard(uri, 9, [("e", HOUR, "1", 1)], {3: 1})
    copy = ServingCopy(uri)
    copy.refresh()
    with pytest.raises(NotMine):
        copy.usage(9, query(), "hour", None)


def test_a_shard_in_the_middle_of_a_copy_in_parts_is_refused_until_a_commit_says_that_it_is_held(
    uri: str, put_shard: PutShard
) -> None:
    whole = [("e", HOUR + timedelta(hours=i), "1", 1) for i in range(3)]
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1})
    copy = ServingCopy(uri)
    for part in (1, 2, 3):
        put_shard(uri, 9, whole[:part], {3: 1})
        copy.refresh()
        assert copy.applied_versions == {3: 1}
        with pytest.raises(NotMine):
            copy.usage(9, query(hours=3), "hour", None)
        assert copy.usage(3, query(), "hour", None)[0] == [(HOUR, Decimal(1), 1)]
    # The commit that says so changes no file of the shard.
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1, 9: 1})
    copy.refresh()
    assert copy.usage(9, query(hours=3), "total", None)[0] == [(HOUR, Decimal(3), 3)]


def test_older_days_that_are_copied_into_a_hot_replica_are_refused_until_it_is_said_to_be_full(
    uri: str, put_shard: PutShard
) -> None:
    day, hot = timedelta(days=1), {3: HOUR.date()}
    rows = [("e", HOUR - day, "1", 1), ("e", HOUR, "1", 1)]
    put_shard(uri, 3, rows[1:], {3: 1}, hot)
    copy = ServingCopy(uri)
    for held in (rows[1:], rows):
        put_shard(uri, 3, held, {3: 1}, hot)
        copy.refresh()
        with pytest.raises(NotMine):
            copy.usage(3, query(start=HOUR - day), "total", None)
        assert copy.usage(3, query(start=HOUR), "total", None)[0] == [(HOUR, Decimal(1), 1)]
    put_shard(uri, 3, rows, {3: 1})
    copy.refresh()
    assert copy.usage(3, query(start=HOUR - day), "total", None)[0] == [(HOUR - day, Decimal(2), 2)]


def test_whoever_follows_is_told_when_what_is_held_changes_and_not_at_every_commit(uri: str, put_shard: PutShard) -> None:
    rows = [("e", HOUR, "1", 1)]
    steps = [{3: 1}, {3: 1}, {3: 2}, {3: 2, 9: 2}, {3: 2, 9: 2}, {9: 2}]
    copy, stop, told = ServingCopy(uri), _Turns(len(steps)), list[dict[int, int]]()

    def next_turn() -> None:
        put_shard(uri, 3, rows, steps[stop.done])

    stop.before_each = next_turn
    next_turn()
    follow(copy, stop, 0.0, lambda sentence: None, lambda: told.append(copy.applied_versions))
    assert told == [{3: 1}, {3: 2}, {3: 2, 9: 2}, {9: 2}]


def test_a_hot_replica_refuses_what_is_older_than_it_covers(uri: str, put_shard: PutShard) -> None:
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1}, {3: date(2013, 11, 20)})
    copy = ServingCopy(uri)
    copy.refresh()
    midnight = datetime(2013, 11, 20, tzinfo=UTC)
    assert copy.usage(3, query(start=midnight), "total", None)[0] == [(midnight, Decimal(1), 1)]
    with pytest.raises(NotMine):
        copy.usage(3, query(start=midnight - timedelta(seconds=1)), "total", None)


def test_a_version_not_reached_is_refused_with_the_version_reached(uri: str, put_shard: PutShard) -> None:
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 5})
    copy = ServingCopy(uri)
    copy.refresh()
    assert copy.usage(3, query(), "hour", 5)[1] == 5
    with pytest.raises(Behind) as refused:
        copy.usage(3, query(), "hour", 6)
    assert refused.value.applied_version == 5


def test_a_new_version_rereads_only_the_shards_whose_files_changed(uri: str, put_shard: PutShard) -> None:
    for shard in (3, 4, 5):
        put_shard(uri, shard, [("e", HOUR, "1", 1)], {s: 1 for s in range(3, shard + 1)})
    copy = ServingCopy(uri)
    assert copy.refresh() == 3
    assert copy.refresh() == 0
    put_shard(uri, 4, [("e", HOUR, "2", 1)], {3: 2, 4: 2, 5: 2})
    assert copy.refresh() == 1
    assert [total(copy, shard) for shard in (3, 4, 5)] == [1, 2, 1]
    assert copy.applied_versions == {3: 2, 4: 2, 5: 2}


def test_a_commit_by_others_changes_no_holding(uri: str, put_shard: PutShard) -> None:
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 5})
    for _ in range(12):
        DeltaTable(uri).alter.set_table_properties({"delta.logRetentionDuration": "interval 30 days"})
    DeltaTable(uri).optimize.compact()
    copy = ServingCopy(uri)
    copy.refresh()
    assert copy.applied_versions == {3: 5}
    assert total(copy) == 1


def test_a_dropped_shard_is_refused_from_then_on_and_can_come_back(uri: str, put_shard: PutShard) -> None:
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1})
    copy = ServingCopy(uri)
    copy.refresh()
    put_shard(uri, 3, [], {})
    copy.refresh()
    with pytest.raises(NotMine):
        copy.usage(3, query(), "hour", None)
    put_shard(uri, 3, [("e", HOUR, "4", 1)], {3: 2})
    copy.refresh()
    assert total(copy) == 4


def test_a_table_that_was_deleted_and_made_again_is_read_anew(uri: str, put_shard: PutShard) -> None:
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1})
    copy = ServingCopy(uri)
    copy.refresh()
    shutil.rmtree(uri)
    copy.refresh()
    with pytest.raises(NotMine):
        copy.usage(3, query(), "hour", None)
    put_shard(uri, 3, [("e", HOUR, "6", 1)], {3: 1})
    copy.refresh()
    assert total(copy) == 6


def test_a_table_that_cannot_be_read_leaves_what_is_held(uri: str, put_shard: PutShard) -> None:
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1})
    copy = ServingCopy(uri)
    copy.refresh()
    put_shard(uri, 3, [("e", HOUR, "2", 1)], {3: 2})
    for file in DeltaTable(uri).file_uris():
        Path(file).unlink()
    with pytest.raises(Exception, match=r"."):
        copy.refresh()
    assert total(copy) == 1
    assert copy.applied_versions == {3: 1}


def test_a_table_without_holdings_holds_nothing(uri: str, put_shard: PutShard) -> None:
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1})
    plain = DeltaTable(uri).to_pyarrow_table()
    shutil.rmtree(uri)
    write_deltalake(uri, plain, partition_by=["shard_id"])
    copy = ServingCopy(uri)
    copy.refresh()
    assert copy.applied_versions == {}


def test_readers_never_see_data_and_holdings_of_different_versions(uri: str, put_shard: PutShard) -> None:
    """Version v holds v rows of 1: while the table advances, every answer's total equals its version."""
    put_shard(uri, 3, [("e", HOUR, "1", 1)], {3: 1})
    copy = ServingCopy(uri)
    copy.refresh()
    wrong: list[tuple[Decimal, int]] = []
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            rows, version = copy.usage(3, query(), "total", None)
            seen.add(version)
            if rows[0][1] != version:
                wrong.append((rows[0][1], version))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for version in range(2, 12):
        put_shard(uri, 3, [("e", HOUR + timedelta(hours=h), "1", 1) for h in range(version)], {3: version})
        copy.refresh()
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(seen) > 1
