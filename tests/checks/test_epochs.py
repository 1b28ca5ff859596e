"""What an epoch's own forecast says of its nodes, and how bad that is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from foreshard.checks.epochs import overloads, require_epoch
from foreshard.checks.gate import QualityError
from foreshard.gateway.routing_table import RoutingTable
from foreshard.hashing import entity_slot
from foreshard.model import Node, NodeState, Policy, Replica
from foreshard.routing.predicted_peaks import predicted_peaks
from foreshard.routing.snapshot import PredictedLoad, Snapshot
from foreshard.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)
NODES = (Node("a", 10.0), Node("b", 10.0), Node("c", 10.0))
POLICY = Policy(min_full_replicas=2)


def epoch(shares: dict[tuple[int, str], float], loads: dict[int, tuple[float, ...]], **changes: object) -> Snapshot:
    replicas = tuple(Replica(shard, node, weight) for (shard, node), weight in sorted(shares.items()))
    predicted = tuple(
        PredictedLoad(shard, START + timedelta(hours=hour), mean)
        for shard, means in loads.items()
        for hour, mean in enumerate(means)
    )
    made = Snapshot("usage", 2, 1, 1, 3600, 7, 90, NODES, replicas, predicted=predicted)
    return replace(made, **changes)  # type: ignore[arg-type]


EVEN = {(0, "a"): 0.5, (0, "b"): 0.5, (1, "b"): 0.5, (1, "c"): 0.5}
SKEWED = {(0, "a"): 0.5, (0, "b"): 0.5, (1, "b"): 0.9, (1, "c"): 0.1}
LOADS = {0: (2.0, 8.0), 1: (12.0, 4.0)}


@pytest.mark.parametrize("dead", ["", "a"])
def test_peaks_are_those_that_gateways_expect(dead: str) -> None:
    """Also where an entity is isolated, whose slot's replicas help, and where a node is dead."""
    hot = next(f"e{n}" for n in range(100) if entity_slot(f"e{n}", 1) == 1)
    nodes = tuple(replace(n, state=NodeState.DEAD) if n.node_id == dead else n for n in NODES)
    shares = SKEWED | {(2, "a"): 0.75, (2, "b"): 0.25}
    snapshot = epoch(shares, LOADS | {2: (1.0, 5.0)}, nodes=nodes, isolated=((hot, 2),))
    table = RoutingTable(snapshot)
    expected = {
        n.node_id: max(table.predicted_load(n.node_id, START + timedelta(hours=h)) or 0.0 for h in range(2))
        for n in nodes
        if n.is_live
    }
    found = predicted_peaks(nodes, snapshot.replicas, dict(snapshot.isolated), snapshot.predicted, 1)
    assert found == pytest.approx(expected)


def test_without_a_forecast_nothing_is_overloaded() -> None:
    assert overloads(epoch(SKEWED, {}), None) == {}


def test_what_an_epoch_changes_is_what_counts() -> None:
    """b carries 1 + 6 by even shares and 1 + 10.8 by skewed ones."""
    even, skewed = epoch(EVEN, LOADS), epoch(SKEWED, LOADS)
    assert overloads(even, None) == {}
    assert overloads(skewed, even) == {"b": True}
    assert overloads(skewed, skewed) == {"b": False}
    assert overloads(skewed, epoch(SKEWED, {0: (0.0,)})) == {"b": False}, "by one and the same forecast"


def test_an_epoch_that_spreads_what_is_too_much_for_one_makes_nothing_worse() -> None:
    loads = {0: (2.0, 2.0), 1: (26.0, 26.0)}  # b has 1 + 23.4 by skewed shares; by even ones b has 1 + 13 and c 13
    assert overloads(epoch(EVEN, loads), epoch(SKEWED, loads)) == {"b": False, "c": False}
    assert overloads(epoch(SKEWED, loads), epoch(EVEN, loads)) == {"b": True}


def test_an_overload_that_no_plan_foresaw_stops_the_publication(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    even, skewed = epoch(EVEN, LOADS), epoch(SKEWED, LOADS)
    assert require_epoch(settings, even, POLICY, before=skewed, foreseen=()) == []
    with pytest.raises(QualityError, match="unforeseen_overloads"):
        require_epoch(settings, skewed, POLICY, before=even, foreseen=("a",))
    for before, foreseen in ((even, ("b",)), (skewed, ()), (even, None)):
        findings = require_epoch(settings, skewed, POLICY, before=before, foreseen=foreseen)
        assert [f.severity for f in findings] == ["warning"]
        assert "overloaded_nodes" in findings[0].sentence


@pytest.mark.parametrize("weight", [0.0, -0.5, 3.0, float("inf"), float("nan")])
def test_a_weight_that_is_no_share_stops_the_publication(tmp_path: Path, weight: float) -> None:
    with pytest.raises(QualityError, match="weight"):
        require_epoch(Settings(home=tmp_path), epoch(EVEN | {(0, "a"): weight}, {}), POLICY)
