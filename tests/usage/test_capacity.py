"""The estimator against simulated nodes: the load it names is put on the node for long, and its latency is compared."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from simulated_logs import Log, Server, daily
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.commands.capacity import estimated
from foreshard.errors import ForeshardError
from foreshard.settings import NodeSettings, Settings
from foreshard.usage.capacity import CapacityEstimate, Evidence, NodeIntervals, estimate_capacity
from foreshard.usage.operation_cost import operation_costs
from foreshard.usage.query_log_figures import read_figures

START = datetime(2013, 11, 4, tzinfo=UTC)
QUANTILE = 0.95
SERVERS = {
    "M/M/1": Server(1, 0.1, -1),
    "M/M/4": Server(4, 0.4, -1),
    "M/G/8": Server(8, 0.5, 0.8),
    "M/G/1-PS": Server(0, 0.1, 1.0),
    "M/G/1": Server(1, 0.2, 0.3),
}


def simulated(server: Server, peak: float, seed: int, queries: float = 250_000) -> Log:
    """A log of about so many queries, whose daily peak is this share of saturation."""
    generator = np.random.default_rng(seed)
    days = queries / (server.saturation * 86_400 * 0.55 * peak)
    return server.run(daily(server, peak, max(days, 1.0), generator), generator)


def intervals(log: Log, seconds: int = 300) -> NodeIntervals:
    number = (log.at // seconds).astype(int)
    parts = np.split(log.latency, np.flatnonzero(np.diff(number)) + 1)
    return NodeIntervals(
        np.array([len(part) / seconds for part in parts]), np.array([np.quantile(part, QUANTILE) for part in parts])
    )


def estimate(server: Server, peak: float, target: float, seed: int = 11) -> CapacityEstimate:
    return estimate_capacity(intervals(simulated(server, peak, seed)), target)


def target_of(server: Server, times: float) -> float:
    """So many times the latency of a node that is nearly idle, ms."""
    return times * server.stationary_quantile(0.05 * server.saturation, QUANTILE, 1, 50_000)


def assert_reaches_target_within(share: float, server: Server, rate: float, target: float) -> None:
    below = server.stationary_quantile((1 - share) * rate, QUANTILE, 2)
    above = server.stationary_quantile((1 + share) * rate, QUANTILE, 3)
    assert below < target < above, (rate, below, target, above)


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("peak", [0.95, 1.05])
def test_where_latency_reached_the_target_the_capacity_is_within_a_tenth(name: str, peak: float) -> None:
    server = SERVERS[name]
    target = target_of(server, 3 if peak > 1 else 5)
    found = estimate(server, peak, target)
    assert found.evidence is Evidence.MEASURED
    assert found.estimate is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.estimate <= found.high
    assert_reaches_target_within(0.1, server, found.estimate, target)


@pytest.mark.parametrize("name", ["M/M/1", "M/G/1-PS", "M/G/1"])
def test_where_latency_only_rose_the_capacity_is_followed_up_to_the_target(name: str) -> None:
    server = SERVERS[name]
    target = target_of(server, 5)
    found = estimate(server, 0.6, target)
    assert found.evidence is Evidence.EXTRAPOLATED
    assert found.estimate is not None
    assert found.highest_load < found.estimate
    assert_reaches_target_within(0.15, server, found.estimate, target)


def test_where_latency_never_rose_the_log_gives_a_lower_bound_and_says_so() -> None:
    server = SERVERS["M/G/8"]
    target = target_of(server, 3)
    found = estimate(server, 0.4, target)
    assert (found.evidence, found.high) == (Evidence.LOWER_BOUND, None)
    assert found.estimate == found.low == found.highest_load
    assert server.stationary_quantile(found.highest_load, QUANTILE, 1) < target
    assert "only more load" in found.reason


def test_too_few_or_equal_intervals_and_a_target_below_idle_are_said_to_be_so() -> None:
    nothing = estimate_capacity(NodeIntervals(np.array([]), np.array([])), 100)
    assert (nothing.evidence, nothing.estimate) == (Evidence.NOT_ENOUGH, None)
    level = estimate_capacity(NodeIntervals(np.full(500, 3.0), np.linspace(10, 20, 500)), 100)
    assert level.evidence is Evidence.NOT_ENOUGH
    slow = estimate(SERVERS["M/M/1"], 0.95, target_of(SERVERS["M/M/1"], 0.5))
    assert (slow.evidence, slow.estimate) == (Evidence.TARGET_TOO_LOW, None)


@pytest.mark.parametrize("peak", [0.5, 0.95])
def test_units_do_not_matter_and_the_same_log_gives_the_same_estimate(peak: float) -> None:
    log = intervals(simulated(SERVERS["M/M/1"], peak, 4, 60_000))
    target = target_of(SERVERS["M/M/1"], 4)
    found = estimate_capacity(log, target)
    assert estimate_capacity(log, target) == found
    scaled = estimate_capacity(NodeIntervals(log.load * 7, log.latency / 1000), target / 1000)
    assert found.estimate is not None
    assert scaled.estimate == pytest.approx(7 * found.estimate, rel=1e-6)
    assert scaled.evidence is found.evidence


def write_log(settings: Settings, logs: dict[str, Log], operations: list[str]) -> None:
    """The logs as query_record, as far as its columns matter here; every twentieth query was refused at once."""
    for node, log in logs.items():
        at = [START + timedelta(seconds=second) for second in log.at.tolist()]
        refused = np.arange(len(at)) % 20 == 0
        table = pa.table(
            {
                "node_id": pa.array([node] * len(at)),
                "operation_id": pa.array(np.array(operations)[log.operation]),
                "event_time": pa.array(at, pa.timestamp("us", "UTC")),
                "latency_ms": pa.array(np.where(refused, 0.1, log.latency)),
                "status": pa.array(np.where(refused, 503, 200), pa.int32()),
                "day": pa.array([moment.date() for moment in at], pa.date32()),
            }
        )
        write_deltalake(settings.table("query_record"), table, partition_by=["day"], mode="append")


@pytest.mark.parametrize("servers", [0, 4])
def test_what_operations_cost_is_found_on_nodes_of_different_speed(servers: int, lake: Settings) -> None:
    costs, shares = (0.5, 1.0, 3.0), (0.5, 0.3, 0.2)
    mean = float(np.dot(costs, shares))
    nodes = {
        "fast": Server(servers, 0.1 * max(servers, 1), 0.7, costs, shares),
        "slow": Server(servers, 0.25 * max(servers, 1), 0.7, costs, shares),
    }
    write_log(lake, {name: simulated(node, 0.7, 5, 60_000) for name, node in nodes.items()}, ["count", "get", "sum"])
    figures = read_figures(lake, 28, QUANTILE, {})
    found = {cost.operation_id: cost for cost in operation_costs(figures.quiet)}
    for name, cost in zip(("count", "get", "sum"), costs, strict=True):
        assert found[name].cost == pytest.approx(cost / mean, rel=0.1)
        assert found[name].low is not None
        assert found[name].queries > 1000
    mean_cost = sum(share * (found[name].cost or 0) for name, share in zip(("count", "get", "sum"), shares, strict=True))
    assert mean_cost == pytest.approx(1, rel=0.02)


def test_the_command_shows_estimate_and_declared_capacity_and_the_declared_one_is_in_force(
    lake: Settings, tmp_path: Path
) -> None:
    server = SERVERS["M/M/1"]
    target = target_of(server, 4)
    write_log(lake, {"a": simulated(server, 0.95, 6, 120_000), "new": simulated(server, 0.95, 7, 120_000)}, ["get"])
    file = tmp_path / "foreshard.toml"
    file.write_text(f'lake = "{lake.lake}"\n[[nodes]]\nnode_id = "a"\ncapacity = 5\n[[nodes]]\nnode_id = "b"\ncapacity = 9\n')
    words = ["capacity", "estimate", "--settings", str(file), "--target-latency-ms", str(target)]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    nodes = {node["node_id"]: node for node in document["nodes"]}
    assert (nodes["a"]["declared"], nodes["a"]["in_force"], nodes["a"]["evidence"]) == (5, 5, "measured")
    assert nodes["a"]["difference"] == pytest.approx(nodes["a"]["estimate"] / 5 - 1)
    assert_reaches_target_within(0.1, server, nodes["a"]["estimate"], target)
    assert (nodes["b"]["in_force"], nodes["b"]["evidence"], nodes["b"]["estimate"]) == (9, "not enough data", None)
    assert nodes["new"]["declared"] is None
    assert nodes["new"]["in_force"] == nodes["new"]["estimate"]
    assert document["records"] == len(simulated(server, 0.95, 6, 120_000).at) + len(simulated(server, 0.95, 7, 120_000).at)
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0
    assert "latency reached the target" in shown.stdout


def test_loads_are_weighed_by_the_costs_in_force(lake: Settings) -> None:
    settings = replace(lake, nodes=(NodeSettings("a", 5.0),))
    server = Server(0, 0.1, 0.5, (1.0, 3.0), (0.5, 0.5))
    write_log(settings, {"a": simulated(server, 0.95, 8, 60_000)}, ["get", "sum"])
    target = target_of(server, 4)
    plain = estimated(settings, 28, target)["nodes"][0]["estimate"]
    weighed = estimated(replace(settings, operation_cost={"get": 0.5, "sum": 1.5}), 28, target)
    assert weighed["nodes"][0]["estimate"] == pytest.approx(plain, rel=0.03)
    assert [o["in_force"] for o in weighed["operations"]] == [0.5, 1.5]
    doubled = estimated(replace(settings, operation_cost={"get": 2.0, "sum": 2.0}), 28, target)
    assert doubled["nodes"][0]["estimate"] == pytest.approx(2 * plain, rel=1e-6)


def test_without_a_log_one_sentence_says_what_to_do(lake: Settings) -> None:
    with pytest.raises(ForeshardError, match="no query_record to estimate from; land query records"):
        estimated(lake, 28, None)
