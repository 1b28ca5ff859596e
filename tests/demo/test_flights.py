"""The landing files of the demo: the same whatever range is asked for, complete, and true to the departures they come from."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreshard.demo.corruption import DAMAGES
from foreshard.demo.departures import OPERATIONS, read_departures
from foreshard.demo.flights import END, START, LandingSummary, expected_load, pipelines, write_landing
from foreshard.demo.measures import load_by_node
from foreshard.errors import ForeshardError
from foreshard.hashing import entity_slot
from foreshard.model import Layout, Policy, Replica
from foreshard.placement.initial import initial_layout

BITS = 5
SEATS_PER_LOOKUP = 8.0  # half as many queries as the demo has
NODES = pipelines(0.68)
LAYOUT = Layout(1, tuple(Replica(s, NODES[(s + i) % 5].node_id) for s in range(1 << BITS) for i in (0, 1)))
FROM = datetime(2013, 11, 27, 16, tzinfo=UTC)
TO = datetime(2013, 11, 28, 4, tzinfo=UTC)
USAGE_FIELDS = {"record_id", "entity_id", "service_id", "operation_id", "event_time", "quantity"}
QUERY_FIELDS = {
    *("record_id", "entity_id", "service_id", "operation_id", "range_start", "range_end", "query_class", "event_time"),
    *("candidates", "node_id", "predicted_load", "epoch", "reason", "latency_ms", "bytes", "status", "load_after"),
}


def write(folder: Path, start: datetime = FROM, end: datetime = TO, **options: Any) -> LandingSummary:
    options = {"seats_per_lookup": SEATS_PER_LOOKUP, **options}
    return write_landing(folder, start, end, LAYOUT, NODES, BITS, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def records(folder: Path, table: str) -> list[tuple[str, dict[str, Any]]]:
    """Every readable record with its landing hour."""
    found = []
    for path in sorted((folder / table).rglob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            found.append((path.parent.name, json.loads(line)))
    return found


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LandingSummary]:
    folder = tmp_path_factory.mktemp("landing")
    return folder, write(folder, bad_rows=0)


@pytest.fixture(scope="module")
def usage_feed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LandingSummary]:
    """All five weeks of departures, with few queries: the usage files do not depend on how many look the flights up."""
    folder = tmp_path_factory.mktemp("usage")
    return folder, write(folder, START, END, seats_per_lookup=1000.0)


def test_one_call_and_many_write_the_same_files(tmp_path: Path, landed: tuple[Path, LandingSummary]) -> None:
    middle = FROM + timedelta(hours=7)
    write(tmp_path, FROM, middle, bad_rows=0)
    for hour in range(7, 12):
        write(tmp_path, FROM + timedelta(hours=hour), FROM + timedelta(hours=hour + 1), bad_rows=0)
    assert contents(tmp_path) == contents(landed[0])


def test_another_seed_draws_other_queries_of_the_same_departures(tmp_path: Path, landed: tuple[Path, LandingSummary]) -> None:
    write(tmp_path, seed=7, bad_rows=0)
    other, own = ({r["record_id"] for _, r in records(f, "usage_record")} for f in (tmp_path, landed[0]))
    assert len(other & own) > 0.98 * len(own)  # only latecomers at the edges of the range differ
    assert contents(tmp_path / "query_record") != contents(landed[0] / "query_record")


def test_the_summary_counts_what_was_written(landed: tuple[Path, LandingSummary]) -> None:
    folder, summary = landed
    queries = records(folder, "query_record")
    assert summary.usage_rows == len(records(folder, "usage_record"))
    assert summary.query_rows == len(queries)
    assert summary.hot_query_rows == sum(r["entity_id"] == summary.hot_entity for _, r in queries)
    assert summary.files == len(contents(folder))
    assert summary.bytes == sum(len(c) for c in contents(folder).values())
    assert (summary.bad_rows, summary.bad_rows_by_kind) == (0, {})


def test_every_departure_of_the_weeks_lands_once_with_its_seats(usage_feed: tuple[Path, LandingSummary]) -> None:
    folder, summary = usage_feed
    departures = read_departures()
    expected = Counter({str(i): int(s) for i, s in zip(departures.record_id, departures.seats, strict=True)})
    seen: dict[str, int] = {}
    happened = (departures.event_time >= np.datetime64("2013-10-28T03")) & (
        departures.event_time < np.datetime64("2013-12-01T21")
    )
    for path in (folder / "usage_record").rglob("departures.jsonl"):
        for line in path.read_bytes().splitlines():
            if b"-damaged" in line or (record := readable(line)) is None:
                continue
            assert record["record_id"] not in seen
            seen[record["record_id"]] = record["quantity"]
    assert len(seen) == summary.usage_rows
    assert all(expected[i] == quantity for i, quantity in seen.items())
    # Apart from the range's edges, where latecomers cross it, nothing is missing.
    assert set(departures.record_id[happened].tolist()) <= set(seen)
    assert 0.1 < summary.median_seats_rows / summary.usage_rows < 0.2


def readable(line: bytes) -> dict[str, Any] | None:
    try:
        parsed: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return parsed if set(parsed) == USAGE_FIELDS else None


def test_departures_land_in_the_hour_they_happen_or_up_to_three_later(usage_feed: tuple[Path, LandingSummary]) -> None:
    folder, summary = usage_feed
    delays: Counter[int] = Counter()
    for path in (folder / "usage_record").rglob("departures.jsonl"):
        hour = datetime.fromisoformat(path.parent.name + ":00+00:00")
        for line in path.read_bytes().splitlines():
            if b"-damaged" not in line and (record := readable(line)):
                event = datetime.fromisoformat(record["event_time"]).replace(minute=0, second=0)
                delays[(hour - event) // timedelta(hours=1)] += 1
    assert set(delays) == {0, 1, 2, 3}
    assert summary.late_rows == sum(delays.values()) - delays[0]
    assert 0.001 < summary.late_rows / summary.usage_rows < 0.01


def test_bad_rows_of_every_kind_come_on_top_of_the_real_ones(usage_feed: tuple[Path, LandingSummary]) -> None:
    folder, summary = usage_feed
    lines = [line for p in (folder / "usage_record").rglob("departures.jsonl") for line in p.read_bytes().splitlines()]
    damaged = [line for line in lines if b"-damaged" in line]
    assert summary.bad_rows == len(damaged) == 12
    assert summary.bad_rows_by_kind == dict.fromkeys(DAMAGES, 2)
    assert len(lines) == summary.usage_rows + 12
    undecodable = [line for line in damaged if not line.decode("utf-8", "replace").isprintable() or b"\xff" in line]
    assert len(undecodable) == 2
    parsed = [r for line in damaged if b"\xff" not in line and line.endswith(b"}") for r in [json.loads(line)]]
    assert sum(isinstance(r["quantity"], int) and r["quantity"] < 0 for r in parsed) == 2
    assert sum(r["quantity"] == "many" for r in parsed) == 2
    assert sum("entity_id" not in r for r in parsed) == 2
    assert sum(r["event_time"] > "2100" for r in parsed) == 2
    assert sum(not line.endswith(b"}") for line in damaged) == 2


def test_one_file_lands_twice_two_hours_apart(usage_feed: tuple[Path, LandingSummary]) -> None:
    folder, summary = usage_feed
    [again] = (folder / "usage_record").rglob("departures-again.jsonl")
    hour = datetime.fromisoformat(again.parent.name + ":00") - timedelta(hours=2)
    first = again.parent.parent / hour.strftime("%Y-%m-%dT%H") / "departures.jsonl"
    assert again.read_bytes() == first.read_bytes()
    assert summary.repeated_rows == len(again.read_bytes().splitlines()) > 20


def test_queries_are_complete_and_of_their_hour(landed: tuple[Path, LandingSummary]) -> None:
    ids = set()
    for hour, record in records(landed[0], "query_record"):
        assert set(record) == QUERY_FIELDS
        assert record["event_time"].startswith(hour)
        assert record["range_start"] < record["range_end"] == record["event_time"]
        assert record["operation_id"] in OPERATIONS
        assert record["latency_ms"] > 0
        assert record["bytes"] > 0
        assert record["load_after"] > 0
        assert (record["epoch"], record["status"], record["candidates"]) == (1, 200, [])
        ids.add(record["record_id"])
    assert len(ids) == landed[1].query_rows


def test_queries_go_to_the_layouts_replicas_by_weight(landed: tuple[Path, LandingSummary], tmp_path: Path) -> None:
    chosen: Counter[tuple[int, str]] = Counter()
    for _, record in records(landed[0], "query_record"):
        chosen[entity_slot(record["entity_id"], BITS), record["node_id"]] += 1
    allowed = {(r.shard_id, r.node_id) for r in LAYOUT.replicas}
    assert set(chosen) <= allowed
    first, second = (sum(chosen[s, NODES[(s + i) % 5].node_id] for s in range(1 << BITS)) for i in (0, 1))
    assert first / (first + second) == pytest.approx(0.5, abs=0.02)
    weighted = Layout(1, tuple(Replica(r.shard_id, r.node_id, 3.0 if i % 2 else 1.0) for i, r in enumerate(LAYOUT.replicas)))
    write_landing(tmp_path, FROM, FROM + timedelta(hours=4), weighted, NODES, BITS)
    heavy = {(r.shard_id, r.node_id) for r in weighted.replicas if r.weight > 1}
    counted = [(entity_slot(r["entity_id"], BITS), r["node_id"]) in heavy for _, r in records(tmp_path, "query_record")]
    assert np.mean(counted) == pytest.approx(0.75, abs=0.02)


def test_most_queries_ask_for_recent_days(landed: tuple[Path, LandingSummary]) -> None:
    ages = []
    for _, record in records(landed[0], "query_record"):
        start, asked = (datetime.fromisoformat(record[n]) for n in ("range_start", "event_time"))
        ages.append((asked - start) / timedelta(days=1))
    recent, older = np.mean(np.array(ages) <= 7), np.mean(np.array(ages) > 90)
    assert (recent, older) == (pytest.approx(0.80, abs=0.02), pytest.approx(0.05, abs=0.01))


def test_the_hot_flight_is_hot_in_its_hours_only(landed: tuple[Path, LandingSummary]) -> None:
    folder, summary = landed
    per_hour = Counter(hour for hour, r in records(folder, "query_record") if r["entity_id"] == summary.hot_entity)
    hot = {h.strftime("%Y-%m-%dT%H") for h in summary.hot_hours}
    assert len(hot) == 6
    assert min(per_hour[h] for h in hot) > 300
    assert max((n for h, n in per_hour.items() if h not in hot), default=0) < 150


def test_queries_come_as_expected_with_a_daily_cycle(landed: tuple[Path, LandingSummary]) -> None:
    load = expected_load(FROM, TO, BITS, SEATS_PER_LOOKUP)
    summary = landed[1]
    assert load.shape == (12, 1 << BITS)
    assert summary.query_rows - summary.hot_query_rows == pytest.approx(load.sum() * 3600, rel=0.05)
    month = expected_load(START, END, BITS).sum(axis=1)
    assert 0.8e6 < month.sum() * 3600 < 1.3e6
    assert np.corrcoef(month[:-24], month[24:])[0, 1] > 0.8
    assert np.corrcoef(month[:-168], month[168:])[0, 1] > 0.9


def test_files_appear_whole(landed: tuple[Path, LandingSummary]) -> None:
    assert [name for name in contents(landed[0]) if Path(name).name.startswith((".", "_"))] == []


@pytest.mark.parametrize(
    ("start", "layout", "sentence"),
    [
        (FROM + timedelta(minutes=5), LAYOUT, "whole UTC hours"),
        (FROM.replace(tzinfo=None), LAYOUT, "whole UTC hours"),
        (FROM, Layout(1, LAYOUT.replicas[2:]), "shard 0 has no replica"),
        (FROM, Layout(1, (Replica(0, "pipeline-z"), *LAYOUT.replicas)), "unknown node pipeline-z"),
    ],
)
def test_what_cannot_be_written_is_refused_in_words(tmp_path: Path, start: datetime, layout: Layout, sentence: str) -> None:
    with pytest.raises(ForeshardError, match=sentence):
        write_landing(tmp_path, start, TO, layout, NODES, BITS)
    assert contents(tmp_path) == {}


def test_pipelines_run_at_73_percent_at_the_peak() -> None:
    assert sum(n.capacity for n in NODES) * 0.73 == pytest.approx(0.68, rel=1e-3)
    assert len({n.capacity for n in NODES}) == 3


def test_the_hash_layout_overloads_a_pipeline_while_the_pool_has_room() -> None:
    nodes = pipelines(expected_load(START, END, BITS).sum(axis=1).max())
    load = expected_load(END - timedelta(days=1), END, BITS)
    carried = load_by_node(initial_layout(range(1 << BITS), nodes, Policy()), load)
    assert max(carried[n.node_id].max() / n.capacity for n in nodes) > 1
    assert load.sum(axis=1).max() / sum(n.capacity for n in nodes) < 0.75
