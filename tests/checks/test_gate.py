"""Great Expectations as a gate: critical failures stop the commit and say why, warnings are recorded and pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from summaries import good

from foreshard.checks import reports
from foreshard.checks.gate import QualityError, require
from foreshard.checks.layouts import layout_summary
from foreshard.model import Node, NodeState, Policy, Replica
from foreshard.settings import Settings

NODES = (Node("a", 1.0), Node("b", 1.0), Node("c", 1.0))
POLICY = Policy(min_full_replicas=2)
GOOD = (Replica(0, "a", 0.25), Replica(0, "b", 0.75), Replica(1, "b", 0.5), Replica(1, "c", 0.5))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_a_critical_failure_is_raised_by_name_and_recorded(settings: Settings) -> None:
    assert require("usage_record", good("usage_record"), settings) == []
    with pytest.raises(QualityError, match=r"usage_record: nothing was committed.*highest_slot_below_slots.*found \[3\]"):
        require("usage_record", good("usage_record", highest_slot_below_slots=3), settings)
    (run,) = reports.newest_runs(settings.home)
    assert [(report.table, report.status) for report in run.reports] == [
        ("usage_record", "passed"),
        ("usage_record", "critical"),
    ]


def test_a_warning_is_returned_and_stops_nothing(settings: Settings) -> None:
    findings = require("usage_record", good("usage_record", rows_far_ahead=2), settings)
    assert [f.severity for f in findings] == ["warning"]
    assert "rows_far_ahead" in findings[0].sentence
    assert reports.newest_runs(settings.home)[0].status == "warning"


def test_a_layout_needs_its_full_replicas_and_weights_of_1(settings: Settings) -> None:
    def check(replicas: tuple[Replica, ...], nodes: tuple[Node, ...] = NODES) -> None:
        summary = layout_summary(replicas, nodes, POLICY, slots=2)
        require("routing_epoch", summary.assign(overloaded_nodes=0, unforeseen_overloads=0), settings)

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
