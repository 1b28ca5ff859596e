"""The figures of the replay benchmark: which limits hold for which trace, and what a share of nothing is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.placement_figures import Figure
from benchmarks.replay_tables import frontier_table, summary, summary_figures, trace_table

NAMES = (
    "static_peak",
    "static_mean",
    "reactive",
    "hash_elastic",
    "hourly_scale_out",
    "point_margin",
    "foreshard",
    "hybrid",
    "oracle",
)


def replayed(name: str = "taxi-hourly", **policies: dict[str, float]) -> dict[str, Any]:
    """A document in which everything is reached; `policies` change some figures of some."""
    usual: dict[str, dict[str, float]] = {policy: _outcome(600.0, 0.01, 0.2, 100e9) for policy in NAMES}
    usual["static_peak"] |= {"node_hours": 1_000.0, "overload_request_share": 0.0}
    usual["oracle"] |= {"node_hours": 500.0, "overload_request_share": 0.0}
    usual["foreshard"] = _outcome(590.0, 0.0005, 0.004, 50e9)
    for policy, changed in policies.items():
        usual[policy] |= changed
    about = {"entities": 1_200, "shards": 256, "test_days": 30.5, "cpu_seconds": 12.3, "seconds": 15.6}
    return {"trace": name, "interval_seconds": 3600, "policies": usual, "notes": ["one entity"], **about}


def _outcome(hours: float, over: float, time: float, moved: float) -> dict[str, float]:
    shares = {"overload_request_share": over, "overload_interval_share": time}
    return shares | {
        "p99_latency_ms": 50.0,
        "node_hours": hours,
        "bytes_moved": moved,
        "moves": 1_000,
        "imbalance_p95": 1.2,
        "reconfigurations": 7,
    }


def by_name(document: dict[str, Any]) -> dict[str, Figure]:
    return {figure.what: figure for figure in summary_figures(document)}


def test_figures_are_those_of_the_two_policies():
    found = by_name(replayed())
    assert found["overloaded time avoided, against reactive"].ours == pytest.approx(98.0)
    assert found["node-hours, of reactive's"].ours == pytest.approx(590 / 600)
    assert found["node-hours saved, against static_peak"].ours == pytest.approx(41.0)
    assert found["of the oracle's saving"].ours == pytest.approx(82.0)
    assert found["requests above capacity"].ours == pytest.approx(0.05)
    assert found["bytes moved, of hash_elastic's"].ours == pytest.approx(0.5)
    assert all(figure.met for figure in found.values())


@pytest.mark.parametrize(
    ("what", "policy", "changed"),
    [
        ("overloaded time avoided, against reactive", "foreshard", {"overload_interval_share": 0.011}),
        ("node-hours, of reactive's", "foreshard", {"node_hours": 691.0}),
        ("node-hours saved, against static_peak", "foreshard", {"node_hours": 651.0}),
        ("of the oracle's saving", "oracle", {"node_hours": 480.0}),
        ("requests above capacity", "foreshard", {"overload_request_share": 0.0011}),
        ("bytes moved, of hash_elastic's", "foreshard", {"bytes_moved": 51e9}),
        ("hybrid: requests above capacity, at most reactive's", "hybrid", {"overload_request_share": 0.0101}),
        ("hybrid: node-hours, of reactive's", "hybrid", {"node_hours": 631.0}),
        ("policies with less of both than the oracle", "oracle", {"node_hours": 620.0, "overload_request_share": 0.02}),
    ],
)
def test_what_is_not_reached_is_missed(what: str, policy: str, changed: dict[str, float]):
    assert by_name(replayed(**{policy: changed}))[what].met is False


def test_where_the_load_cannot_be_foreseen_only_the_hybrid_and_the_oracle_are_held_to_a_limit():
    held = {figure.what for figure in summary_figures(replayed("web-1min")) if figure.reach is not None}
    assert held == {
        "hybrid: requests above capacity, at most reactive's",
        "hybrid: node-hours, of reactive's",
        "policies with less of both than the oracle",
    }


def test_a_share_of_nothing_is_a_number_that_says_who_was_better():
    never = {"overload_interval_share": 0.0, "overload_request_share": 0.0}
    avoided = "overloaded time avoided, against reactive"
    assert by_name(replayed(reactive=never))[avoided].ours == 0
    assert by_name(replayed(reactive=never, foreshard=never))[avoided].ours == 100
    moved = "bytes moved, of hash_elastic's"
    assert by_name(replayed(hash_elastic={"bytes_moved": 0.0}))[moved].met is False
    assert by_name(replayed(hash_elastic={"bytes_moved": 0.0}, foreshard={"bytes_moved": 0.0}))[moved].met is True
    saved = by_name(replayed(oracle={"node_hours": 1_000.0}))["of the oracle's saving"]
    json.dumps(saved.ours, allow_nan=False)


def test_the_summary_has_a_column_for_each_trace_and_tells_what_was_missed():
    figures = {name: summary_figures(replayed(name, foreshard={"bytes_moved": 80e9})) for name in ("taxi-hourly", "web-1min")}
    lines = summary(figures).splitlines()
    assert lines[0] == "| figure | to reach | taxi-hourly | web-1min |"
    assert len({line.count("|") for line in lines}) == 1
    assert "| bytes moved, of hash_elastic's | ≤ 0.5 × | 0.8 ×, **missed** | 0.8 × |" in lines
    assert "| hybrid: requests above capacity, at most reactive's | ≤ 1 % | 1 % (≤ 1), met | 1 % (≤ 1), met |" in lines


def test_figures_of_policies_that_were_not_played_are_left_out():
    document = replayed()
    document["policies"] = {"reactive": document["policies"]["reactive"]}
    assert summary_figures(document) == []
    assert "| reactive | 1 % | 20 % | 50 ms | 600 |  | 100 GB | 1,000 | 1.20 | 7 |" in trace_table(document)


def test_a_traces_table_has_a_row_for_each_policy_and_its_notes():
    lines = trace_table(replayed()).splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")] == ["| policy", *(f"| {n}" for n in NAMES)]
    assert lines[-1] == "- One entity."


def test_a_frontier_is_told_from_its_cheapest_point():
    points = [
        {"knob": "2", "node_hours": 2_000.0, "overload_request_share": 0.0},
        {"knob": "1", "node_hours": 1_500.0, "overload_request_share": 0.0123},
    ]
    assert "| reactive | 1: 1,500, 1.23 %; 2: 2,000, 0 % |" in frontier_table({"frontier": {"reactive": points}})
    assert frontier_table(replayed()) == ""
