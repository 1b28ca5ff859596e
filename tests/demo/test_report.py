"""The closing summary: every figure of the report is printed, in text that fits a terminal and in JSON that parses."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from foreshard.demo.report import (
    WIDTH,
    DagRun,
    DemoReport,
    ForecastQuality,
    Intake,
    PlanOutcome,
    Routing,
    Stage,
    as_json,
    as_text,
)
from foreshard.demo.traffic import Latency, TrafficResult


def traffic(by_node: dict[str, Latency], epoch: str, overall: Latency, statuses: dict[str, int]) -> TrafficResult:
    answered = {node: latency.answered for node, latency in by_node.items()}
    return TrafficResult(
        sent=sum(statuses.values()),
        answered=overall.answered,
        statuses=statuses,
        by_node=answered,
        by_epoch={epoch: overall.answered},
        latency=overall,
        latency_by_node=by_node,
        seconds=3.2,
    )


@pytest.fixture
def report() -> DemoReport:
    before = {"pipeline-a": Latency(2011, 7.1, 31.7), "pipeline-b": Latency(984, 6.3, 29.4)}
    after = {"pipeline-b": Latency(1492, 5.6, 18.9), "pipeline-c": Latency(1507, 5.2, 17.8)}
    return DemoReport(
        intake=Intake(1554, 32_026, 1_104_717, 62, {"negative quantity: -179.000000": 2, "not UTF-8": 3, "malformed JSON": 4}),
        forecast=ForecastQuality(
            datetime(2013, 12, 1, 5, tzinfo=UTC),
            24,
            32,
            {"prophet": 31, "seasonal_naive": 1},
            0.00123,
            0.00246,
            0.00031,
            0.00062,
            0.943,
        ),
        plan=PlanOutcome(
            "9f3ac2d17be84a55",
            "pipeline-d [busy] would reach 101 % at 19:00",
            {"move": 5, "replicate": 7},
            41_337,
            7_654_321,
            6_543_210,
            1.013,
            0.781,
            0.803,
            0.764,
            0.8,
        ),
        stages=(Stage("warm up", 21.4, "12 copies at version 17"), Stage("verify", 8.6, "12 of 12 equal")),
        runs=(DagRun("aggregate", "2013-12-01T05:00:00", "success", 33.3), DagRun("reshard", "latest", "success", 55.5)),
        routing=Routing(
            1,
            2,
            datetime(2026, 11, 21, 12, 34, tzinfo=UTC),
            traffic(before, "1", Latency(2995, 6.9, 31.1), {"200": 2995, "503": 5}),
            traffic(before, "1", Latency(321, 7.5, 44.1), {"200": 321}),
            traffic(after, "2", Latency(2999, 5.4, 18.3), {"200": 2999, "no answer": 1}),
        ),
        worth="foreshard: 97 % less time in overload than reactive at 1.08 × its node-hours.",
        pictures={"forecast against actual": Path("var/demo/forecast.png"), "load per pipeline": Path("var/demo/load.png")},
        elapsed_seconds=247.0,
        peak_memory_bytes=3 << 30,
    )


def test_the_text_shows_every_figure(report: DemoReport) -> None:
    text = as_text(report)
    shown = [
        *("1,554", "32,026", "1,104,717", "62", "9", "negative quantity: -179.000000", "not UTF-8", "malformed JSON"),
        *(
            "2013-12-01 05:00",
            "0.00123",
            "0.00246",
            "-50.0%",
            "0.00031",
            "0.00062",
            "94.3%",
            "prophet on 31",
            "seasonal_naive on 1",
        ),
        *("9f3ac2d17be8", "[busy] would reach 101 %", "12 (5 move, 7 replicate)", "41,337", "7.3 MiB", "6.2 MiB"),
        *("101.3%", "78.1%", "80.3%", "76.4%", "80.0%", "warm up", "21.4", "12 of 12 equal", "2013-12-01T05:00:00", "55.5"),
        *(
            "epoch 2 after epoch 1",
            "2,011",
            "1,507",
            "31.7",
            "17.8",
            "2,995 of 3,000",
            "503: 5",
            "321 of 321",
            "no answer: 1",
            "18.3",
        ),
        "foreshard: 97 % less time in overload than reactive at 1.08 ×",
        *("var/demo/forecast.png", "var/demo/load.png", "4 min 7 s", "3.0 GiB"),
    ]
    assert [figure for figure in shown if figure not in text] == []
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_json_holds_the_same_figures(report: DemoReport) -> None:
    read = json.loads(as_json(report))
    assert read["intake"]["quarantined"]["not UTF-8"] == 3
    assert read["forecast"]["origin"] == "2013-12-01T05:00:00+00:00"
    assert read["plan"]["moves"] == {"move": 5, "replicate": 7}
    assert read["routing"]["before"]["latency_by_node"]["pipeline-a"] == {"answered": 2011, "p50_ms": 7.1, "p99_ms": 31.7}
    assert read["pictures"] == {"forecast against actual": "var/demo/forecast.png", "load per pipeline": "var/demo/load.png"}


def test_a_plan_without_moves_and_traffic_without_answers_are_said_so(report: DemoReport) -> None:
    nothing = traffic({}, "1", Latency(0, None, None), {"no answer": 7})
    quiet = replace(
        report,
        plan=replace(report.plan, moves={}, peak_after=None),
        routing=replace(report.routing, before=nothing, meanwhile=nothing, after=nothing),
        forecast=replace(report.forecast, naive_mae=0.0),
    )
    text = as_text(quiet)
    assert "0 (none)" in text
    assert "not known yet" in text
    assert "0 of 7 answered (no answer: 7)" in text
    assert json.loads(as_json(quiet))["plan"]["peak_after"] is None


def test_long_reasons_wrap_instead_of_widening_the_table(report: DemoReport) -> None:
    long = replace(report, intake=replace(report.intake, quarantined={"quantity is not a number: " + "9" * 200: 1}))
    lines = as_text(long).splitlines()
    assert max(len(line) for line in lines) <= WIDTH
    assert sum(line.count("9") for line in lines) >= 200
