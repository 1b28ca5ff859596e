"""Nodes' corrections against a real Postgres: from heartbeats and the current epoch, a step every few minutes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from foreshard.learning.correction import STEP
from foreshard.model import NodeState
from foreshard.nodes.correcting import correct_nodes
from foreshard.nodes.watch import watch_once
from foreshard.routing import corrections, pool, store
from foreshard.routing.expected import expected_loads
from foreshard.routing.snapshot import PredictedLoad, Snapshot
from foreshard.settings import NodeSettings, Settings

Earlier = Callable[[str, str, float], None]
NOW = datetime(2013, 11, 28, 5, 30, tzinfo=UTC)
HOUR = NOW.replace(minute=0)
NODES = ("a", "b", "c")


@pytest.fixture
def forecast(snapshot: Snapshot) -> Snapshot:
    """Shards 0 to 3 on (a, b), (b, c), (c, a), (a, c), each forecast at 100 a second this hour and at 900 in the next."""
    loads = [PredictedLoad(s, HOUR + timedelta(hours=h), m) for s in range(4) for h, m in ((0, 100.0), (1, 900.0))]
    return replace(snapshot, predicted=tuple(loads))


@pytest.fixture
def routed(registered: str, pool_settings: Settings, forecast: Snapshot) -> Settings:
    store.publish(registered, forecast, expected_epoch=0, published_by="test", reason="test")
    return replace(pool_settings, postgres_url=registered)


def beat(settings: Settings, loads: dict[str, float], **seconds: float) -> None:
    for node_id, load in loads.items():
        service = seconds.get(node_id)
        store.write_heartbeat(settings.postgres_url, "usage", node_id, load, {}, service_seconds=service)


def factors(settings: Settings) -> dict[str, float]:
    return {n: c.now() for n, c in corrections.read_corrections(settings.postgres_url, "usage").items()}


def test_each_nodes_part_of_the_forecast_is_expected_of_it_as_far_as_the_weights_are_trusted(forecast: Snapshot) -> None:
    assert expected_loads(forecast, NOW, NODES) == pytest.approx({"a": 150.0, "b": 100.0, "c": 150.0})
    assert expected_loads(forecast, HOUR - timedelta(seconds=1), NODES) == {}
    assert expected_loads(forecast, NOW, ["a", "b"]) == pytest.approx({"a": 250.0, "b": 150.0}), "c is dead"
    heavy = tuple(replace(r, weight=9.0 if r.node_id == "a" else 1.0) for r in forecast.replicas)
    assert expected_loads(replace(forecast, replicas=heavy), NOW, NODES)["a"] == pytest.approx(270.0)
    assert expected_loads(replace(forecast, replicas=heavy, skill=0.0), NOW, NODES)["a"] == pytest.approx(150.0)


def test_nodes_are_corrected_by_what_they_have_to_do_one_step_at_a_time(routed: Settings, earlier: Earlier) -> None:
    url = routed.postgres_url
    beat(routed, {"a": 150, "b": 100, "c": 150}, a=0.01, b=0.03, c=0.01)
    first = correct_nodes(routed, url, NOW)
    assert first["b"] == pytest.approx(1 + STEP)
    assert first["a"] == first["c"] < 1
    assert correct_nodes(routed, url, NOW) == {}, "the step is not old enough"
    assert factors(routed) == pytest.approx(first)
    for node_id in NODES:
        earlier("node_correction.at", node_id, 301)
    second = correct_nodes(routed, url, NOW)
    assert 1 + STEP < second["b"] < (1 + STEP) ** 2
    assert factors(routed) == pytest.approx(second)


def test_two_looks_at_once_are_one_step(routed: Settings) -> None:
    beat(routed, {"a": 150, "b": 300, "c": 150})
    barrier, found = threading.Barrier(4), list[dict[str, float]]()

    def look() -> None:
        barrier.wait()
        found.append(correct_nodes(routed, routed.postgres_url, NOW))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(node_id for one in found for node_id in one) == ["a", "b", "c"]
    assert factors(routed)["b"] <= 1 + STEP + 1e-9


def test_silent_and_draining_nodes_and_times_without_a_forecast_correct_nothing(routed: Settings, earlier: Earlier) -> None:
    url = routed.postgres_url
    beat(routed, {"a": 150, "b": 900, "c": 900})
    earlier("heartbeat.at", "b", 60)
    pool.set_node_state(url, "usage", "c", NodeState.DRAINING)
    assert correct_nodes(routed, url, NOW) == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})
    for node_id in NODES:
        earlier("node_correction.at", node_id, 301)
    beat(routed, {"a": 1, "b": 900, "c": 1})
    assert correct_nodes(routed, url, NOW + timedelta(days=9)) == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})


def test_what_was_learnt_of_hours_is_where_factors_rest(routed: Settings, earlier: Earlier) -> None:
    url = routed.postgres_url
    assert sorted(corrections.write_learnt(url, "usage", {"a": 1.4, "b": 0.8, "gone": 1.1})) == ["a", "b"]
    assert factors(routed) == pytest.approx({"a": 1.4, "b": 0.8})
    beat(routed, {"a": 150, "b": 100, "c": 150})
    earlier("node_correction.at", "a", 301)
    assert correct_nodes(routed, url, NOW)["a"] == pytest.approx(1.4)
    corrections.write_learnt(url, "usage", {"a": 1.2})
    corrections.write_learnt(url, "usage", {"a": 1.2})
    assert factors(routed)["a"] == pytest.approx(1.4), "it goes there by steps"
    earlier("node_correction.at", "a", 301)
    assert 1.2 < correct_nodes(routed, url, NOW)["a"] < 1.4
    earlier("node_correction.at", "a", 30 * 86400)
    earlier("node_correction.learnt_at", "a", 30 * 86400)
    assert factors(routed)["a"] == pytest.approx(1.0), "a learner that stopped does no harm"


def test_the_watch_corrects_and_epochs_carry_what_holds_at_their_time(
    routed: Settings, forecast: Snapshot, earlier: Earlier
) -> None:
    url = routed.postgres_url
    assert watch_once(routed, url) == []
    assert factors(routed).keys() == set(NODES)
    assert corrections.factors_now(url, "usage") == (), "as good as 1"
    corrections.write_learnt(url, "usage", {"a": 1.5})
    for _ in range(4):
        earlier("node_correction.at", "a", 3000)
    assert dict(corrections.factors_now(url, "usage"))["a"] > 1.2


def test_a_node_without_an_epoch_is_not_corrected(database: str) -> None:
    settings = Settings(postgres_url=database, nodes=(NodeSettings("a", 1.0),))
    pool.register(database, settings)
    assert correct_nodes(settings, database, NOW) == {}
