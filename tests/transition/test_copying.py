"""Copies in chunks: killed, stopped, repeated, throttled and doubled, each row arrives once and nothing is served too early."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st
from serving_tables import copied_shards, source_shard, write_source
from tables import version

from foreshard.errors import ForeshardError
from foreshard.hashing import entity_slot
from foreshard.settings import Settings
from foreshard.transition.chunks import Span, next_chunk
from foreshard.transition.copy import contents_of, copy_shards, follow, held
from foreshard.transition.copy_state import CopyJob, left_of, with_chunk
from foreshard.transition.copying import Stopped, copy_moves
from foreshard.transition.holdings import Contents, Holding, contents
from foreshard.transition.retire import compact, drop_shards, holdings_of, narrow_shards, unfinished_copies

DAY = datetime(2013, 11, 20, tzinfo=UTC)
FIRST = DAY.date()
DAYS = 6
ENTITIES = [f"e{n}" for n in range(24)]
ROWS = [(e, DAY + timedelta(days=d, hours=n % 5), 10 * d + n) for d in range(DAYS) for n, e in enumerate(ENTITIES)]
HOT_SINCE = FIRST + timedelta(days=4)
SHARDS = sorted({entity_slot(entity, 3) for entity in ENTITIES})

days = st.integers(0, 9).map(lambda n: FIRST + timedelta(days=n))


@given(
    sizes=st.dictionaries(st.integers(0, 3), st.dictionaries(days, st.integers(0, 100), max_size=8), max_size=4),
    covers=st.dictionaries(st.integers(0, 3), st.none() | days, min_size=1),
    hot=st.dictionaries(st.integers(0, 3), days),
    budgets=st.lists(st.integers(1, 150), min_size=1, max_size=4),
)
def test_whatever_the_chunks_each_segment_comes_once_and_a_shard_is_held_only_when_all_are_there(
    sizes: dict[int, dict[date, int]], covers: dict[int, date | None], hot: dict[int, date], budgets: list[int]
) -> None:
    jobs = {shard: CopyJob(n, shard, day, f"p/{n}") for n, (shard, day) in enumerate(covers.items())}
    said = Contents({shard: Holding(7, day) for shard, day in hot.items()}, "t")
    came: list[tuple[int, date]] = []
    for step in range(100):
        left = [one for one in (left_of(said, job, 7) for job in jobs.values()) if one]
        if not left:
            break
        budget = budgets[step % len(budgets)]
        chunk = next_chunk([one.span for one in left], sizes, budget)
        assert chunk, "each turn brings something on"
        assert sum(span.bytes for span in chunk[:-1]) < budget
        within = [
            (span.shard_id, day)
            for span in chunk
            for day in sizes.get(span.shard_id, {})
            if (not span.first or day >= span.first) and (not span.end or day < span.end)
        ]
        came += within
        written = {span.shard_id: (sum(s == span.shard_id for s, _ in within), span.bytes) for span in chunk}
        said = contents(with_chunk(said, jobs, 7, list(zip(left, chunk, strict=False)), written).metadata(7))
        for shard, holding in said.holdings.items():
            there = {day for s, day in came if s == shard} | {
                d for d in sizes.get(shard, {}) if shard in hot and d >= hot[shard]
            }
            assert {d for d in sizes.get(shard, {}) if not holding.covers_from or d >= holding.covers_from} <= there
    assert len(came) == len(set(came))
    for shard, job in jobs.items():
        wanted = {d for d in sizes.get(shard, {}) if not job.covers_from or d >= job.covers_from}
        lacked = {d for d in wanted if shard not in hot or d < hot[shard]}
        is_wider = shard in hot and (job.covers_from is None or job.covers_from < hot[shard])
        assert {d for s, d in came if s == shard} == (lacked if is_wider else wanted)
        assert said.copies[shard].rows == len(lacked if is_wider else wanted)
        assert said.holdings[shard] == Holding(7, job.covers_from)


def test_a_chunk_begins_with_the_newest_days_and_goes_on_to_the_next_shard() -> None:
    sizes = {1: {FIRST: 5, FIRST + timedelta(days=1): 5}, 2: {FIRST: 5, FIRST + timedelta(days=1): 5}}
    left = [Span(1, None, None), Span(2, None, None), Span(3, None, None)]
    assert next_chunk(left, sizes, 1) == [Span(1, FIRST + timedelta(days=1), None, False, 5)]
    assert next_chunk(left, sizes, 12) == [Span(1, None, None, True, 10), Span(2, FIRST + timedelta(days=1), None, False, 5)]
    assert next_chunk(left, sizes, 99) == [Span(1, None, None, True, 10), Span(2, None, None, True, 10), left[2]]


def jobs_for(covers: Mapping[int, date | None], plan: str = "p") -> list[CopyJob]:
    return [CopyJob(position, shard, day, f"{plan}/{position}") for position, (shard, day) in enumerate(covers.items())]


def stop_after(chunks: int) -> Callable[[Mapping[int, int]], bool]:
    """Goes on for so many chunks."""
    seen: list[Mapping[int, int]] = []

    def on_chunk(so_far: Mapping[int, int]) -> bool:
        seen.append(so_far)
        return len(seen) < chunks

    return on_chunk


def slowly() -> float:
    """A segment a chunk."""
    return 1e-6


def assert_equal_to_source(settings: Settings, node_id: str, covers: Mapping[int, date | None]) -> None:
    copied = copied_shards(settings, node_id)
    assert set(copied) <= set(covers)
    for shard, day in covers.items():
        assert copied.get(shard, []) == source_shard(settings, shard, day), shard
    assert {s: h.covers_from for s, h in holdings_of(settings, node_id).items()} == dict(covers)


def commits(settings: Settings, node_id: str) -> list[dict[str, Any]]:
    return [c for c in DeltaTable(settings.table(f"serving/{node_id}")).history() if c["operation"] == "WRITE"]


@pytest.fixture(scope="module")
def source(spark: Any, module_lake: Settings) -> Settings:
    write_source(spark, module_lake, ROWS)
    return module_lake


pytestmark = pytest.mark.spark


def test_without_a_throttle_a_node_gets_all_in_one_commit_and_a_repeat_does_nothing(spark: Any, source: Settings) -> None:
    covers = {SHARDS[0]: None, SHARDS[1]: HOT_SINCE, SHARDS[2]: None}
    at, asked = version(source, "usage_hourly"), []
    rows = copy_moves(spark, source, "one", jobs_for(covers), at, {}, allowed=lambda size: not asked.append(size))
    assert rows == {n: len(source_shard(source, s, day)) for n, (s, day) in enumerate(covers.items())}
    assert_equal_to_source(source, "one", covers)
    assert asked == [0]
    before = version(source, "serving/one")
    assert len(commits(source, "one")) == 1
    assert copy_moves(spark, source, "one", jobs_for(covers), at, {}) == rows
    assert version(source, "serving/one") == before
    assert copy_moves(spark, source, "one", jobs_for(covers, "another"), at, {}) == rows
    assert version(source, "serving/one") == before + 1
    assert_equal_to_source(source, "one", covers)
    assert copy_moves(spark, source, "one", [], at, {}) == {}


def test_a_copy_stopped_after_any_chunk_goes_on_and_brings_no_segment_twice(spark: Any, source: Settings) -> None:
    covers: dict[int, date | None] = {SHARDS[0]: None, SHARDS[1]: HOT_SINCE}
    at, jobs = version(source, "usage_hourly"), jobs_for({SHARDS[0]: None, SHARDS[1]: HOT_SINCE})
    so_far: list[Mapping[int, int]] = []
    with pytest.raises(Stopped):
        copy_moves(spark, source, "two", jobs, at, {}, rate=slowly, on_chunk=stop_after(2))
    assert holdings_of(source, "two") == {}
    assert set(unfinished_copies(source, "two")) == {SHARDS[0]}
    newest_two = source_shard(source, SHARDS[0], FIRST + timedelta(days=DAYS - 2))
    assert copied_shards(source, "two") == {SHARDS[0]: newest_two}
    # The source goes on meanwhile; the copy stays at its version, and what the node holds beside it may follow.
    write_source(spark, source, [(e, hour, q + 1) for e, hour, q in ROWS if hour.date() == FIRST])
    with pytest.raises(Stopped):
        copy_moves(spark, source, "two", jobs, at, {}, rate=slowly, allowed=lambda _: False)
    rows = copy_moves(spark, source, "two", jobs, at, {}, rate=slowly, on_chunk=lambda found: not so_far.append(found))
    assert unfinished_copies(source, "two") == {}
    assert {h.applied_version for h in held(source, "two").values()} == {at}
    assert len(commits(source, "two")) == DAYS + 2, "a segment a commit, none twice"
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(so_far))
    follow(spark, source, "two", version(source, "usage_hourly"), {})
    assert_equal_to_source(source, "two", covers)
    assert rows == {n: len(source_shard(source, s, day)) for n, (s, day) in enumerate(covers.items())}
    table = DeltaTable(source.table("serving/two"))
    assert [table.transaction_version(job.transaction) for job in jobs] == [DAYS, 2]


def test_a_rate_lifted_in_the_middle_brings_the_rest_at_once_and_one_set_again_slows_it(spark: Any, source: Settings) -> None:
    covers = dict.fromkeys(SHARDS[:3])
    rates = iter([1e-6, 1e-6, None])
    rows = copy_moves(spark, source, "lifted", jobs_for(covers), version(source, "usage_hourly"), {}, rate=lambda: next(rates))
    assert len(commits(source, "lifted")) == 3
    assert sum(rows.values()) == sum(len(source_shard(source, shard)) for shard in covers)
    assert_equal_to_source(source, "lifted", covers)


def test_what_chunks_came_to_beyond_the_estimate_is_reserved_with_the_next(spark: Any, source: Settings) -> None:
    reserved: list[int] = []
    written: list[int] = []
    copy_moves(
        *(spark, source, "owed", jobs_for({SHARDS[0]: None}), version(source, "usage_hourly"), {}),
        rate=slowly,
        allowed=lambda size: not reserved.append(size),
        on_chunk=lambda so_far: not written.append(so_far[0]),
    )
    assert len(reserved) == len(written) == DAYS
    for before, size in zip(written, reserved[1:], strict=False):
        assert size >= before - sum(reserved[: written.index(before) + 1])


def test_another_version_or_a_dropped_shard_begins_anew(spark: Any, source: Settings) -> None:
    jobs, at = jobs_for({SHARDS[0]: None, SHARDS[1]: None}), version(source, "usage_hourly")
    with pytest.raises(Stopped):
        copy_moves(spark, source, "anew", jobs, at, {}, rate=slowly, on_chunk=stop_after(DAYS + 2))
    assert set(holdings_of(source, "anew")) == {SHARDS[0]}
    newest = write_source(spark, source, [(e, hour, q + 2) for e, hour, q in ROWS if hour.date() == FIRST])
    rows = copy_moves(spark, source, "anew", jobs, newest, {})
    assert rows == {n: len(source_shard(source, shard)) for n, shard in enumerate(SHARDS[:2])}
    assert_equal_to_source(source, "anew", dict.fromkeys(SHARDS[:2]))
    drop_shards(source, "anew", [SHARDS[0]])
    assert copy_moves(spark, source, "anew", jobs, newest, {}) == rows
    assert_equal_to_source(source, "anew", dict.fromkeys(SHARDS[:2]))


def test_a_copy_that_is_given_up_in_the_middle_is_dropped_whole(spark: Any, source: Settings) -> None:
    at = version(source, "usage_hourly")
    with pytest.raises(Stopped):
        copy_moves(spark, source, "given-up", jobs_for({SHARDS[0]: None}), at, {}, rate=slowly, on_chunk=stop_after(2))
    assert copied_shards(source, "given-up")
    drop_shards(source, "given-up", [SHARDS[0]])
    assert copied_shards(source, "given-up") == {}
    assert unfinished_copies(source, "given-up") == {}


@pytest.mark.parametrize("follows", ["before", "between", "after", "never"])
def test_a_hot_replica_is_served_while_it_is_made_wider_and_gets_only_what_it_lacks(
    spark: Any, source: Settings, follows: str
) -> None:
    node, shard = f"wider-{follows}", SHARDS[0]
    at = version(source, "usage_hourly")
    copy_shards(spark, source, node, {shard: HOT_SINCE, SHARDS[1]: None}, at, {})
    jobs = jobs_for({shard: None})

    def source_goes_on() -> None:
        changed = [(e, hour, q + 5) for e, hour, q in ROWS if hour.date() in (FIRST, FIRST + timedelta(days=3), HOT_SINCE)]
        follow(spark, source, node, write_source(spark, source, changed), {})

    if follows == "before":
        source_goes_on()
    with pytest.raises(Stopped):
        copy_moves(spark, source, node, jobs, at, {}, rate=slowly, on_chunk=stop_after(2))
    assert holdings_of(source, node)[shard].covers_from == HOT_SINCE
    if follows == "between":
        source_goes_on()
        assert len(copied_shards(source, node)[shard]) == len(source_shard(source, shard, FIRST + timedelta(days=2)))
    rows = copy_moves(spark, source, node, jobs, at, {}, rate=slowly)
    assert rows == {0: len([r for r in source_shard(source, shard) if r[4] < HOT_SINCE])}
    if follows == "after":
        source_goes_on()
    newest = version(source, "usage_hourly")
    assert (holdings_of(source, node)[shard].covers_from is None) == (follows in ("after", "never"))
    if follows in ("before", "between"):
        assert holdings_of(source, node)[shard] == Holding(newest, HOT_SINCE)
        assert set(unfinished_copies(source, node)) == {shard}
        follow(spark, source, node, newest, {})
    assert_equal_to_source(source, node, {shard: None, SHARDS[1]: None})
    assert unfinished_copies(source, node) == {}
    assert copy_moves(spark, source, node, jobs, at, {}) == rows

    narrow_shards(source, node, {shard: HOT_SINCE})
    assert_equal_to_source(source, node, {shard: HOT_SINCE, SHARDS[1]: None})
    before = version(source, f"serving/{node}")
    narrow_shards(source, node, {shard: HOT_SINCE})
    assert version(source, f"serving/{node}") == before


def test_what_a_copy_left_beside_a_hot_replica_goes_before_another_one_begins(spark: Any, source: Settings) -> None:
    at, shard = version(source, "usage_hourly"), SHARDS[0]
    copy_shards(spark, source, "beside", {shard: HOT_SINCE}, at, {})
    with pytest.raises(Stopped):
        copy_moves(spark, source, "beside", jobs_for({shard: None}), at, {}, rate=slowly, on_chunk=stop_after(2))
    rows = copy_moves(spark, source, "beside", jobs_for({shard: FIRST + timedelta(days=1)}, "another"), at, {})
    assert rows == {0: len([r for r in source_shard(source, shard, FIRST + timedelta(days=1)) if r[4] < HOT_SINCE])}
    assert_equal_to_source(source, "beside", {shard: FIRST + timedelta(days=1)})


def test_of_two_that_copy_the_same_shard_one_goes_on_where_the_other_is(spark: Any, source: Settings) -> None:
    at, jobs = version(source, "usage_hourly"), jobs_for({SHARDS[0]: None})
    others: list[dict[int, int]] = []

    def overtaken(_: int) -> bool:
        if not others:
            others.append(copy_moves(spark, source, "race", jobs, at, {}, rate=slowly))
        return True

    rows = copy_moves(spark, source, "race", jobs, at, {}, rate=slowly, allowed=overtaken)
    assert others == [rows]
    assert len(commits(source, "race")) == DAYS
    assert_equal_to_source(source, "race", {SHARDS[0]: None})


def test_a_shard_named_twice_is_refused(spark: Any, source: Settings) -> None:
    twice = [CopyJob(0, 1, None, "p/0"), CopyJob(1, 1, None, "p/1")]
    with pytest.raises(ForeshardError, match="shard 1 is to be copied to x by two moves"):
        copy_moves(spark, source, "x", twice, 1, {})


def test_compaction_leaves_a_file_a_shard_with_the_same_rows_and_says_what_is_held(spark: Any, source: Settings) -> None:
    at, covers = version(source, "usage_hourly"), dict.fromkeys(SHARDS[:2])
    copy_moves(spark, source, "packed", jobs_for(covers), at, {}, rate=slowly)
    before = contents_of(source, "packed")
    assert compact(source, "packed") == 2 * DAYS
    table = DeltaTable(source.table("serving/packed"))
    assert len(table.file_uris()) == 2
    assert "holdings" in (table.history(1)[0].get("userMetadata") or "")
    assert contents_of(source, "packed") == before
    assert_equal_to_source(source, "packed", covers)
    assert compact(source, "packed") == 0
    assert compact(source, "no-such-node") == 0
