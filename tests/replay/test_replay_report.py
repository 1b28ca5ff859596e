"""The report of a replay: a page that loads nothing, pictures that are whole, figures that are the replay's."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from written_traces import daily_cycle, rows, written

from foreshard.replay.outcome import Outcome
from foreshard.replay.playing import Point, Replay, replay
from foreshard.replay.reconfigurations import changes, largest
from foreshard.replay.report import write_report
from foreshard.replay.summary import against, worth
from foreshard.replay.trace import read_trace

POLICIES = ("static_peak", "static_mean", "reactive", "hash_elastic", "oracle")
WIDTH = 1320


def pixels(picture: Path) -> tuple[int, int]:
    """Width and height by the file's header."""
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    folder = written(tmp_path_factory.mktemp("trace"), daily_cycle(28), name="<b>drawn</b> at $5 or $6")
    return replay(read_trace(folder), POLICIES)


@pytest.fixture(scope="module")
def report(replayed: Replay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, its pictures beside it, with a frontier of two policies."""
    points = {"reactive": (Point("0.7", 100.0, 0.02), Point("0.9", 80.0, 0.05)), "oracle": (Point("", 70.0, 0.0),)}
    return write_report(replayed, tmp_path_factory.mktemp("parent") / "report", points)


def test_the_page_holds_all_pictures_and_loads_nothing(report: Path):
    page = report.read_text("utf-8")
    pictures = {path.name for path in report.parent.glob("*.png")}
    assert pictures == {
        "frontier.png",
        "load-and-capacity.png",
        "load-and-capacity-near-the-peak.png",
        "shards.png",
        "moved.png",
    }
    assert page.count('src="data:image/png;base64,') == len(pictures)
    assert not re.search(r"<script|<link|https?://|src=\"(?!data:)|url\(", page)
    assert {path.name for path in report.parent.iterdir()} == {*pictures, "index.html"}


def test_a_traces_name_is_no_markup_and_no_formula(report: Path):
    page = report.read_text("utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;drawn&lt;/b&gt; at $5 or $6" in page


def test_the_page_tells_the_figures_and_what_was_assumed(replayed: Replay, report: Path):
    page = report.read_text("utf-8")
    for name, outcome in replayed.outcomes.items():
        row = next(row for row in page.split("<tr>") if row.startswith(f"<td>{name}</td>"))
        assert f"<td>{outcome.node_hours:,.1f}</td>" in row
        assert f"<td>{outcome.moves:,}</td>" in row
    assert "10 % of the trace" in page
    assert "14 days" not in page  # four weeks are not too little, so nothing is said of it


def test_pictures_grow_with_the_policies_and_not_with_the_trace(report: Path):
    width, height = pixels(report.parent / "load-and-capacity.png")
    assert width == WIDTH
    assert 120 * len(POLICIES) < height < 240 * len(POLICIES)
    assert pixels(report.parent / "shards.png")[0] == WIDTH


def test_the_frontier_stands_in_figures_too(report: Path):
    page = report.read_text("utf-8")
    assert "<td>reactive</td><td>0.7</td><td>100.0</td><td>2 %</td>" in page
    assert "The frontier in figures" in page


def test_a_second_report_replaces_the_first(replayed: Replay, tmp_path: Path):
    short = replay(replayed.trace, ["static_peak"], 27.0)
    first = write_report(short, tmp_path).read_bytes()
    assert write_report(short, tmp_path).read_bytes() == first
    assert "reactive" in write_report(replay(replayed.trace, ["reactive"], 27.0), tmp_path).read_text("utf-8")


@pytest.mark.parametrize(
    "table",
    [lambda: rows([0, 1], ["a", "a"], [3, 5]), lambda: rows(list(range(60)), ["a"] * 60, [7] * 60)],
    ids=["two intervals", "one key without cycles"],
)
@pytest.mark.filterwarnings("error")
def test_the_least_that_can_be_replayed_has_a_report(table: Callable[[], object], tmp_path: Path):
    read = read_trace(written(tmp_path / "trace", table()))
    page = write_report(replay(read, POLICIES), tmp_path / "report").read_text("utf-8")
    assert "one entity" in page


@pytest.mark.filterwarnings("error")
def test_policies_that_move_nothing_have_no_picture_of_moves(replayed: Replay, tmp_path: Path):
    still = replay(replayed.trace, ["static_peak"])
    page = write_report(still, tmp_path).read_text("utf-8")
    assert not (tmp_path / "moved.png").exists()
    assert "Largest reconfigurations" not in page


def test_a_long_test_is_drawn_in_bins_without_a_warning(tmp_path: Path):
    draw = np.random.default_rng(3)
    minutes = 4_000
    table = rows((np.arange(minutes) / 60).tolist(), ["a"] * minutes, draw.integers(0, 900, minutes).tolist())
    read = read_trace(written(tmp_path / "trace", table, interval_seconds=60))
    write_report(replay(read, ["reactive", "oracle"]), tmp_path / "report")
    assert pixels(tmp_path / "report" / "load-and-capacity.png")[0] == WIDTH


def test_reconfigurations_are_those_of_the_replay_and_their_bytes_add_up(replayed: Replay):
    for policy in ("reactive", "hash_elastic"):
        outcome, found = replayed.outcomes[policy], changes(replayed, policy)
        assert len(found) == outcome.reconfigurations > 0
        # Copies are short against the hours of this load, so each change is complete before the next.
        assert sum(change.bytes_asked for change in found) == pytest.approx(outcome.bytes_moved)
        assert sum(change.copies for change in found) == outcome.moves
        most = largest(replayed, policy, 3)
        assert len(most) == 3
        assert most[0].bytes_asked == max(change.bytes_asked for change in found)


def test_policies_that_never_change_have_no_reconfigurations(replayed: Replay):
    assert changes(replayed, "static_peak") == []
    assert changes(replayed, "oracle") == []


def test_worth_compares_with_what_was_played(replayed: Replay):
    sentence = worth(replayed.outcomes, "hash_elastic")
    found = against(replayed.outcomes["hash_elastic"], replayed.outcomes["reactive"])
    assert f"{found.node_hours:.2f} × its node-hours" in sentence
    assert "fewer node-hours than a pool for the peak (an oracle: " in sentence
    assert worth(replayed.outcomes, "foreshard") == ""


def test_a_share_of_nothing_is_unknown(replayed: Replay):
    peak, oracle = replayed.outcomes["static_peak"], replayed.outcomes["oracle"]
    assert against(oracle, peak).bytes_moved is None
    none = against(peak, _without_overload(peak))
    assert none.overload_avoided is None


def _without_overload(outcome: Outcome) -> Outcome:
    return replace(outcome, overload_interval_share=0.0)
