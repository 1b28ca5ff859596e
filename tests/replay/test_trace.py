"""What a trace's files may hold: a load, or one sentence that says where they are wrong and what to do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_traces import START, daily_cycle, rows, written

from foreshard.errors import ForeshardError
from foreshard.hashing import entity_slot
from foreshard.replay.trace import read_trace


def refusal(folder: Path) -> str:
    with pytest.raises(ForeshardError) as error:
        read_trace(folder)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert str(folder) in sentence
    return sentence


def test_a_row_counts_for_its_entitys_shard_in_its_interval(tmp_path: Path):
    trace = read_trace(written(tmp_path, rows([0, 1, 1], ["a", "a", "b"], [36, 7, 5]), country="AU"))
    assert (trace.name, trace.start, trace.interval_seconds, trace.country) == ("drawn", START, 3600, "AU")
    expected = np.zeros((2, 256))
    expected[0, entity_slot("a", 8)] += 36
    expected[1, entity_slot("a", 8)] += 7
    expected[1, entity_slot("b", 8)] += 5
    found = np.zeros((2, 256))
    found[:, trace.shard_ids] = trace.requests
    assert (found == expected).all()
    assert trace.rates[0].sum() == pytest.approx(0.01)


@given(st.permutations(range(24 * 3)))
@settings(deadline=None, max_examples=10)
def test_the_order_of_rows_carries_no_meaning(tmp_path_factory: pytest.TempPathFactory, order: list[int]):
    table = daily_cycle(1, entities=3)
    straight = read_trace(written(tmp_path_factory.mktemp("straight"), table))
    shuffled = read_trace(written(tmp_path_factory.mktemp("shuffled"), table.take(order)))
    assert (straight.requests == shuffled.requests).all()
    assert straight.start == shuffled.start


def test_gaps_count_as_without_load_and_it_is_said(tmp_path: Path):
    trace = read_trace(written(tmp_path, rows([0, 5, 6], ["a", "a", "a"], [1, 2, 3])))
    assert trace.requests.sum(axis=1).tolist() == [1, 0, 0, 0, 0, 2, 3]
    assert any("4 of 7 intervals have no row" in note for note in trace.notes)


def test_the_span_may_be_longer_than_the_rows(tmp_path: Path):
    start, end = (START + timedelta(hours=h) for h in (-2, 4))
    trace = read_trace(written(tmp_path, rows([0], ["a"], [9]), start=start.isoformat(), end=end.isoformat()))
    assert (trace.start, trace.requests.sum(axis=1).tolist()) == (start, [0, 0, 9, 0, 0, 0])


def test_one_key_is_a_load_whose_limit_is_said(tmp_path: Path):
    trace = read_trace(written(tmp_path, daily_cycle(20, entities=1)))
    assert trace.requests.shape == (480, 1)
    assert [note for note in trace.notes if "one entity" in note]


def test_a_day_only_is_a_load_whose_limit_is_said(tmp_path: Path):
    trace = read_trace(written(tmp_path, daily_cycle(1)))
    assert any("weekly cycles cannot be seen" in note for note in trace.notes)
    assert trace.test_start() == 12


def test_weeks_of_many_keys_have_no_limit_to_tell(tmp_path: Path):
    assert read_trace(written(tmp_path, daily_cycle(21))).notes == ()


def test_a_load_without_cycles_is_read_as_it_is(tmp_path: Path):
    trace = read_trace(written(tmp_path, rows(list(range(400)), ["a"] * 400, [7] * 400)))
    assert (trace.requests == 7).all()


def test_more_keys_than_shards_share_them(tmp_path: Path):
    keys = 200_000
    table = rows([i % 2 for i in range(keys)], [f"key-{i}" for i in range(keys)], [1] * keys)
    trace = read_trace(written(tmp_path, table))
    assert trace.entities == keys
    assert trace.requests.shape == (2, 256)
    assert trace.requests.sum() == keys


def test_keys_as_numbers_are_the_same_keys_as_text(tmp_path: Path):
    expected = read_trace(written(tmp_path / "text", rows([0, 0, 1], ["7", "42", "7"], [1, 2, 3])))
    table = rows([0, 0, 1], ["7", "42", "7"], [1, 2, 3], entity_id=pa.array([7, 42, 7]))
    found = read_trace(written(tmp_path / "numbers", table))
    assert (found.shard_ids == expected.shard_ids).all()
    assert (found.requests == expected.requests).all()


@pytest.mark.parametrize("days", [0.0, 3.0, 40.0])
def test_a_period_without_an_interval_is_refused(tmp_path: Path, days: float):
    trace = read_trace(written(tmp_path, daily_cycle(3)))
    with pytest.raises(ForeshardError, match="3 days"):
        trace.test_start(days)


@pytest.mark.parametrize("missing", ["trace.json", "trace.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str):
    written(tmp_path, daily_cycle(1))
    (tmp_path / missing).unlink()
    assert f"{missing} is missing" in refusal(tmp_path)


def test_files_that_are_something_else_are_refused(tmp_path: Path):
    written(tmp_path, daily_cycle(1))
    (tmp_path / "trace.parquet").write_bytes(b"PAR1 is not enough")
    assert "not a Parquet file" in refusal(tmp_path)
    (tmp_path / "trace.json").write_bytes(b"\xff{")
    assert "not JSON" in refusal(tmp_path)
    (tmp_path / "trace.json").write_text("[60]", "utf-8")
    assert "interval_seconds" in refusal(tmp_path)


@pytest.mark.parametrize("interval", [None, 0, -60, 30, 90, 7200, "3600", True])
def test_an_interval_that_is_no_minutes_up_to_an_hour_is_refused(tmp_path: Path, interval: Any):
    assert "interval_seconds" in refusal(written(tmp_path, daily_cycle(1), interval_seconds=interval))


@pytest.mark.parametrize("start", ["yesterday", "2024-03-04T00:00:00", 5])
def test_a_start_that_is_no_instant_is_refused(tmp_path: Path, start: Any):
    assert "start is" in refusal(written(tmp_path, daily_cycle(1), start=start))


@pytest.mark.parametrize("column", ["ts", "entity_id", "service_id", "operation_id", "requests"])
def test_a_missing_column_is_named(tmp_path: Path, column: str):
    assert f"no column {column}" in refusal(written(tmp_path, daily_cycle(1).drop_columns([column])))


@pytest.mark.parametrize("column", ["ts", "entity_id", "service_id", "operation_id", "requests"])
def test_a_null_is_named_by_its_row(tmp_path: Path, column: str):
    table = daily_cycle(1)
    place = table.schema.get_field_index(column)
    values = [*table[column].to_pylist()]
    values[5] = None
    changed = table.set_column(place, column, pa.array(values, table[column].type))
    assert f"row 5: {column} is null" in refusal(written(tmp_path, changed))


@pytest.mark.parametrize("count", [-1.0, float("nan"), float("inf"), float("-inf")])
def test_a_count_that_is_no_count_is_named_by_its_row(tmp_path: Path, count: float):
    assert "row 1: requests is" in refusal(written(tmp_path, rows([0, 1, 2], ["a"] * 3, [1.0, count, 2.0])))


def test_counts_as_text_are_refused(tmp_path: Path):
    assert "requests is a column of string" in refusal(written(tmp_path, rows([0], ["a"], ["12"])))


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (pa.array([START.replace(tzinfo=None)] * 2, pa.timestamp("us")), "time zone"),
        (pa.array(["2024-03-04T00:00:00Z"] * 2), "timestamps with a time zone"),
        (
            pa.array([START, START + timedelta(milliseconds=1)], pa.timestamp("us", tz="UTC")),
            "row 1: ts is not on a whole second",
        ),
        (pa.array([START, START + timedelta(minutes=30)], pa.timestamp("us", tz="UTC")), "row 1: .* no whole number of 3600 s"),
    ],
    ids=["without zone", "text", "within a second", "off the intervals"],
)
def test_times_that_are_no_starts_of_intervals_are_refused(tmp_path: Path, times: pa.Array, said: str):
    folder = written(tmp_path, rows([0, 1], ["a", "b"], [1, 2], ts=times))
    with pytest.raises(ForeshardError, match=said):
        read_trace(folder)


def test_a_row_outside_the_span_is_refused(tmp_path: Path):
    table = rows([0, 1, 9], ["a"] * 3, [1, 2, 3])
    end = (START + timedelta(hours=2)).isoformat()
    assert "row 2: 2024-03-04T09:00:00Z is outside" in refusal(written(tmp_path, table, end=end))


def test_a_wrong_year_is_refused_before_it_takes_all_memory(tmp_path: Path):
    table = pa.concat_tables([daily_cycle(1, entities=200), rows([24 * 365 * 150], ["entity-0"], [1])])
    assert "look for a wrong date" in refusal(written(tmp_path, table))


def test_the_same_row_twice_is_refused_with_both_rows(tmp_path: Path):
    sentence = refusal(written(tmp_path, rows([0, 1, 0], ["a", "a", "a"], [1, 2, 3])))
    assert "rows 0 and 2" in sentence
    assert "entity (a)" in sentence


def test_one_entity_may_have_several_operations_at_a_time(tmp_path: Path):
    operations = pa.array(["read", "write"])
    trace = read_trace(written(tmp_path, rows([0, 0], ["a", "a"], [1, 2], operation_id=operations)))
    assert trace.requests.sum() == 3


def test_no_rows_are_no_load(tmp_path: Path):
    assert "no rows" in refusal(written(tmp_path, daily_cycle(1).slice(0, 0)))


def test_rows_without_a_request_are_no_load(tmp_path: Path):
    assert "no row has a request" in refusal(written(tmp_path, rows([0, 1], ["a", "b"], [0, 0])))


def test_further_columns_do_no_harm(tmp_path: Path):
    table = daily_cycle(1)
    trace = read_trace(written(tmp_path, table.append_column("note", pa.array(["x"] * table.num_rows))))
    assert trace.requests.sum() == pq.read_table(tmp_path / "trace.parquet")["requests"].to_numpy().sum()


def test_entities_as_categories_are_read_as_their_text(tmp_path: Path):
    table = rows([0, 1], ["a", "b"], [1, 2])
    place = table.schema.get_field_index("entity_id")
    coded = table.set_column(place, "entity_id", table["entity_id"].cast(pa.string()).dictionary_encode())
    assert read_trace(written(tmp_path, coded)).entities == 2


def test_times_that_no_calendar_has_are_refused(tmp_path: Path):
    table = rows([0, 1], ["a", "b"], [1, 2])
    place = table.schema.get_field_index("ts")
    far = pa.array([1_000_000_000_000_000_000, 1_000_000_003_600_000_000], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    assert "before the year 1900 or after 2200" in refusal(written(tmp_path, table.set_column(place, "ts", far)))
