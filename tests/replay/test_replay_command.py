"""`foreshard replay` as a person calls it: the file's stable fields, the table, own data, one sentence for what is wrong."""

from __future__ import annotations

import io
import json
import math
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from written_traces import START, daily_cycle, rows, written

from foreshard.cli import main

FIELDS = {
    "overload_request_share",
    "overload_interval_share",
    "p99_latency_ms",
    "node_hours",
    "bytes_moved",
    "moves",
    "imbalance_p95",
    "reconfigurations",
}
WITHOUT_FORECAST = "static_peak,static_mean,reactive,hash_elastic,oracle"


def replay(*words: str | Path) -> tuple[int, str, str]:
    """(exit status, output, errors) of the command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setattr(sys, "argv", ["foreshard", "replay", *map(str, words)])
        patched.setenv("COLUMNS", "80")
        try:
            main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
    return status, out.getvalue(), err.getvalue()


def figures(trace: Path, out: Path, *words: str | Path) -> dict[str, Any]:
    status, _, err = replay("--trace", trace, "--out", out, *words)
    assert status == 0, err
    found: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return found


def refusal(*words: str | Path) -> str:
    status, out, err = replay(*words)
    assert (status, out) == (1, ""), err
    assert err.startswith("foreshard: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return written(tmp_path / "trace", daily_cycle(4))


def test_the_file_has_the_fields_of_the_contract_for_each_policy_asked_for(trace: Path, tmp_path: Path):
    found = figures(trace, tmp_path / "deep" / "r.json", "--policies", f" oracle,{WITHOUT_FORECAST} ")
    assert (found["trace"], found["interval_seconds"]) == ("drawn", 3600)
    assert list(found["policies"]) == ["oracle", "static_peak", "static_mean", "reactive", "hash_elastic"]
    for outcome in found["policies"].values():
        assert set(outcome) == FIELDS
        assert all(math.isfinite(value) and value >= 0 for value in outcome.values())
        assert outcome["overload_request_share"] <= 1
    assert any("weekly cycles" in note for note in found["notes"])
    assert "frontier" not in found
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["r.json"]


def test_the_table_fits_a_terminal_and_the_notes_stand_below_it(trace: Path, tmp_path: Path):
    status, out, err = replay("--trace", trace, "--out", tmp_path / "r.json", "--policies", WITHOUT_FORECAST)
    assert status == 0
    assert "12 entities" in err
    assert all(len(line) <= 80 for line in out.splitlines() if "Note" not in line)
    for name in WITHOUT_FORECAST.split(","):
        assert any(line.startswith(name) for line in out.splitlines())
    assert "Note: 4 days are less than a week of training" in out


def test_the_same_trace_gives_the_same_file(trace: Path, tmp_path: Path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    figures(trace, first, "--policies", WITHOUT_FORECAST)
    figures(trace, second, "--policies", WITHOUT_FORECAST)
    assert first.read_bytes() == second.read_bytes()


def test_days_of_training_are_not_paid_for(trace: Path, tmp_path: Path):
    hours = {
        days: figures(trace, tmp_path / "r.json", "--policies", "static_peak", "--train-days", days)["policies"]["static_peak"]
        for days in ("1", "3")
    }
    nodes = {days: outcome["node_hours"] / (24 * (4 - int(days))) for days, outcome in hours.items()}
    assert all(count == pytest.approx(round(count)) for count in nodes.values())


def test_the_frontier_has_points_of_each_policy(trace: Path, tmp_path: Path):
    found = figures(trace, tmp_path / "r.json", "--policies", "static_peak,oracle", "--frontier")
    assert set(found["frontier"]) == {"static_peak", "oracle"}
    for curve in found["frontier"].values():
        assert curve
        assert all(set(point) == {"knob", "node_hours", "overload_request_share"} for point in curve)


def query_load(folder: Path, **changed: Any) -> Path:
    """A pool's folder whose query_load has two slots over a week of hours, one of them named and the rest unnamed."""
    hours = [START + timedelta(hours=h) for h in range(24 * 7)]
    slots, entities = [3, 3, 9], ["hot", "", ""]
    times = [hour for hour in hours for _ in slots]
    level = [100 + 50 * math.sin(math.pi * i / 12) for i in range(len(hours)) for _ in slots]
    columns = {
        "slot": pa.array(slots * len(hours), pa.int32()),
        "entity_id": pa.array(entities * len(hours)),
        "interval_start": pa.array(times, pa.timestamp("us", tz="UTC")),
        "requests": pa.array([1] * len(times), pa.int64()),
        "load": pa.array([Decimal(f"{value:.6f}") for value in level], pa.decimal128(20, 6)),
        "day": pa.array([date.fromtimestamp(t.timestamp()) for t in times]),
    }
    write_deltalake(str(folder / "query_load"), pa.table(columns | changed), partition_by=["day"])
    return folder


def test_a_pools_own_query_load_is_replayed_by_slot(tmp_path: Path):
    pool = query_load(tmp_path / "usage")
    by_pool = figures(pool, tmp_path / "r.json", "--policies", WITHOUT_FORECAST)
    assert (by_pool["trace"], by_pool["interval_seconds"]) == ("usage/query_load", 3600)
    assert any("cost-weighted requests" in note for note in by_pool["notes"])
    assert any("newest interval is left out" in note for note in by_pool["notes"])
    assert figures(pool / "query_load", tmp_path / "r.json", "--policies", WITHOUT_FORECAST) == by_pool


def test_own_data_are_the_same_as_the_trace_of_them(tmp_path: Path):
    """All of the pool's slots as entities, which lie on other shards: what needs no shards must come out alike."""
    from foreshard.replay.own_data import read_own

    own = read_own(query_load(tmp_path / "usage") / "query_load")
    assert own.start == START
    assert own.shard_ids.tolist() == [3, 9]
    assert len(own.requests) == 24 * 7 - 1
    assert own.requests[:, 0] == pytest.approx(2 * own.requests[:, 1])
    assert own.requests[6] == pytest.approx([300, 150])


def test_stored_usage_stands_in_for_a_query_log_and_it_is_said(tmp_path: Path):
    hours = [START + timedelta(hours=h) for h in range(60) if h != 10]
    table = pa.table(
        {
            "entity_id": ["a"] * len(hours),
            "hour": pa.array(hours, pa.timestamp("us", tz="UTC")),
            "slot": pa.array([5] * len(hours), pa.int32()),
            "events": pa.array(np.arange(len(hours)), pa.int64()),
        }
    )
    write_deltalake(str(tmp_path / "pool" / "usage_hourly"), table)
    found = figures(tmp_path / "pool", tmp_path / "r.json", "--policies", "static_peak,reactive")
    assert found["trace"] == "pool/usage_hourly"
    assert any("what came to be stored" in note for note in found["notes"])
    assert any("1 of 59 intervals have no row" in note for note in found["notes"])
    assert any("one slot" in note for note in found["notes"])


def test_own_loads_that_are_none_are_refused(tmp_path: Path):
    count = 24 * 7 * 3
    below = query_load(tmp_path / "below", load=pa.array([Decimal(-1)] * count, pa.decimal128(20, 6)))
    assert "loads are not below zero" in refusal("--trace", below, "--out", tmp_path / "r.json")
    nothing = query_load(tmp_path / "nothing", load=pa.array([Decimal(0)] * count, pa.decimal128(20, 6)))
    assert "no load" in refusal("--trace", nothing, "--out", tmp_path / "r.json")
    once = query_load(tmp_path / "once", interval_start=pa.array([START] * count, pa.timestamp("us", tz="UTC")))
    assert "needs at least two" in refusal("--trace", once, "--out", tmp_path / "r.json")
    odd = [START + timedelta(seconds=i) for i in range(count)]
    uneven = query_load(tmp_path / "odd", interval_start=pa.array(odd, pa.timestamp("us", tz="UTC")))
    assert "no even grid of minutes" in refusal("--trace", uneven, "--out", tmp_path / "r.json")


def test_what_is_neither_a_trace_nor_a_lake_is_refused(tmp_path: Path):
    assert "is no folder" in refusal("--trace", tmp_path / "none", "--out", tmp_path / "r.json")
    assert "neither trace.json" in refusal("--trace", tmp_path, "--out", tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


def test_what_cannot_be_asked_for_is_refused_before_the_work(trace: Path, tmp_path: Path):
    given = ("--trace", trace, "--out", tmp_path / "r.json")
    assert "unknown policies magic" in replay(*given, "--policies", "reactive,magic")[2]
    assert "names none" in refusal(*given, "--policies", " , ")
    assert "give a number of days" in refusal(*given, "--train-days", "inf")
    assert "give training days" in refusal(*given, "--train-days", "4")
    assert "is a folder" in refusal("--trace", trace, "--out", tmp_path)
    (tmp_path / "file").write_text("", "utf-8")
    assert "is a file" in refusal(*given, "--report", tmp_path / "file")
    assert "cannot be made" in refusal("--trace", trace, "--out", tmp_path / "file" / "r.json")
    assert not (tmp_path / "r.json").exists()


def test_loads_that_no_pool_has_are_refused(tmp_path: Path):
    huge = written(tmp_path / "huge", rows([0, 1], ["a", "b"], [1.7e308, 1.7e308]))
    assert "look for a wrong count" in refusal("--trace", huge, "--out", tmp_path / "r.json")
    tiny = written(tmp_path / "tiny", rows([0, 1], ["a", "b"], [5e-324, 5e-324]))
    assert "look for a wrong count" in refusal("--trace", tiny, "--out", tmp_path / "r.json")


def test_wrong_usage_has_its_own_status(tmp_path: Path):
    assert replay("--out", tmp_path / "r.json")[0] == 2
