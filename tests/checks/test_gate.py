"""Great Expectations as a gate: critical failures stop the commit and say why, warnings are recorded and pass."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from foreshard.checks.gate import QualityError, load_library, require
from foreshard.checks.layouts import layout_summary
from foreshard.lake import tables
from foreshard.model import Node, NodeState, Policy, Replica
from foreshard.resources import names, text
from foreshard.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
NODES = (Node("a", 1.0), Node("b", 1.0), Node("c", 1.0))
POLICY = Policy(min_full_replicas=2)
GOOD = (Replica(0, "a", 0.25), Replica(0, "b", 0.75), Replica(1, "b", 0.5), Replica(1, "c", 0.5))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def suites() -> set[str]:
    return {name.removesuffix(".json") for name in names("expectations", ".json")}


def test_every_table_and_every_layout_has_a_suite_and_every_suite_is_run() -> None:
    written = {value.name for value in vars(tables).values() if isinstance(value, tables.Table)}
    assert suites() == written | {"serving", "plan", "routing_epoch"}
    code = "\n".join(p.read_text("utf-8") for p in (ROOT / "foreshard").rglob("*.py"))
    named = set(re.findall(r'\brequire\(\s*"(\w+)"', code))
    by_table = {"usage_record", "query_record", "quarantine", "usage_hourly", "query_load", "query_pattern_observed"}
    assert suites() == named | by_table


def test_every_suite_is_readable_by_the_library() -> None:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    load_library()
    for name in sorted(suites()):
        suite = json.loads(text("expectations", f"{name}.json"))
        assert suite["table"] == name
        assert {e["severity"] for e in suite["expectations"]} <= {"critical", "warning"}
        assert any(e["severity"] == "critical" for e in suite["expectations"])
        for e in suite["expectations"]:
            ExpectationConfiguration(type=e["type"], kwargs=e["kwargs"], severity=e["severity"]).to_domain_obj()


def record_summary(**changed: int) -> pd.DataFrame:
    row = {"rows": 5, "rows_without_key": 0, "rows_with_bad_number": 0, "lowest_slot": 0, "highest_slot_below_slots": -1}
    return pd.DataFrame([row | {"rows_far_ahead": 0, "repeated_identities": 0} | changed])


def test_a_critical_failure_is_raised_by_name_and_recorded(settings: Settings) -> None:
    assert require("usage_record", record_summary(), settings) == []
    with pytest.raises(QualityError, match=r"usage_record: nothing was committed.*highest_slot_below_slots.*found \[3\]"):
        require("usage_record", record_summary(highest_slot_below_slots=3), settings)
    reports = [json.loads(p.read_text("utf-8")) for p in sorted((settings.home / "quality").glob("usage_record-*.json"))]
    assert [report["success"] for report in reports] == [True, False]


def test_a_warning_is_returned_and_stops_nothing(settings: Settings) -> None:
    findings = require("usage_record", record_summary(rows_far_ahead=2), settings)
    assert [f.severity for f in findings] == ["warning"]
    assert "rows_far_ahead" in findings[0].sentence


def test_a_layout_needs_its_full_replicas_and_weights_of_1(settings: Settings) -> None:
    def check(replicas: tuple[Replica, ...], nodes: tuple[Node, ...] = NODES) -> None:
        require("routing_epoch", layout_summary(replicas, nodes, POLICY, slots=2), settings)

    check(GOOD)
    check((*GOOD, Replica(2, "a")))  # an isolated entity's shard leans on its slot
    dead = (NODES[0], NODES[1], replace(NODES[2], state=NodeState.DEAD))
    for replicas, nodes, rule in (
        (GOOD[:2], NODES, "missing_full_replicas"),
        (GOOD[:3], NODES, "missing_full_replicas"),
        (GOOD, dead, "missing_full_replicas"),
        ((*GOOD[:3], replace(GOOD[3], weight=0.25)), NODES, "weight_error"),
        ((*GOOD[:2], Replica(1, "b", 1.5), Replica(1, "c", -0.5)), NODES, "lowest_weight"),
    ):
        with pytest.raises(QualityError, match=rule):
            check(replicas, nodes)


def test_an_overloaded_node_in_a_plan_is_a_warning(settings: Settings) -> None:
    summary = layout_summary(GOOD, NODES, POLICY, slots=2)
    assert require("plan", summary.assign(overloaded_nodes=0), settings) == []
    assert [f.severity for f in require("plan", summary.assign(overloaded_nodes=1), settings)] == ["warning"]
