"""A step runs when its input has something that its output was not made from, and only then."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake

from foreshard.orchestration.due import forecast_is_due, learning_is_due, replicas_are_due
from foreshard.settings import Settings
from foreshard.transition.holdings import Holding, to_metadata
from foreshard.transition.store import ReplicaRecord, upsert_replicas

HOUR = "2013-11-28T05:00:00+00:00"
LATER = "2013-11-28T06:00:00+00:00"


@pytest.fixture
def settings(pool_settings: Settings, published: str, tmp_path: Path) -> Settings:
    """A pool at epoch 1 whose lake is empty."""
    return replace(pool_settings, postgres_url=published, lake=str(tmp_path))


def commit(settings: Settings, table: str, said: dict[str, Any]) -> None:
    """Appends a row to the table in a commit that says this; the first one makes version 0."""
    properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(said)})
    write_deltalake(settings.table(table), pa.table({"n": [1]}), mode="append", commit_properties=properties)


def forecast_from(version: int, hour: str = HOUR) -> dict[str, Any]:
    return {"origin": hour, "input_version": version, "isolated": []}


def test_nothing_is_due_before_anything_was_aggregated(settings: Settings) -> None:
    assert not forecast_is_due(settings)
    assert not learning_is_due(settings)
    assert not replicas_are_due(settings)


def test_a_forecast_is_due_once_for_each_version_of_its_input(settings: Settings) -> None:
    commit(settings, "query_load", {"complete_to": HOUR})
    assert forecast_is_due(settings)
    commit(settings, "load_forecast", forecast_from(0))
    assert forecast_is_due(settings), "its query patterns are missing"
    commit(settings, "query_pattern", {"origin": HOUR})
    assert not forecast_is_due(settings)
    commit(settings, "query_load", {"complete_to": HOUR})  # late rows: the same hour, another version
    assert forecast_is_due(settings)
    commit(settings, "load_forecast", forecast_from(1))
    assert not forecast_is_due(settings)


def test_a_forecast_is_due_again_when_the_isolated_entities_changed(settings: Settings) -> None:
    commit(settings, "query_load", {"complete_to": HOUR})
    commit(settings, "load_forecast", {**forecast_from(0), "isolated": [["e1", 4]]})
    assert forecast_is_due(settings), "no entity is isolated in the current epoch"


def test_learning_is_due_for_hours_that_nothing_was_learnt_from(settings: Settings) -> None:
    commit(settings, "query_load", {"complete_to": HOUR})
    assert learning_is_due(settings)
    commit(settings, "node_correction", {"corrected_to": HOUR})
    assert learning_is_due(settings), "its scores are missing"
    commit(settings, "forecast_score", {"scored_to": HOUR})
    assert not learning_is_due(settings)
    commit(settings, "query_load", {"complete_to": LATER})
    assert learning_is_due(settings)


def test_replicas_are_due_while_any_copy_is_behind_its_source(settings: Settings) -> None:
    commit(settings, "usage_hourly", {"complete_to": HOUR})
    commit(settings, "serving/a", to_metadata({0: Holding(0), 2: Holding(0, date(2013, 11, 20))}, 0))
    assert not replicas_are_due(settings)
    commit(settings, "usage_hourly", {"complete_to": LATER})
    commit(settings, "serving/a", to_metadata({0: Holding(1), 2: Holding(1)}, 1))
    commit(settings, "serving/b", to_metadata({0: Holding(1), 1: Holding(0)}, 1))
    assert replicas_are_due(settings)
    commit(settings, "serving/b", to_metadata({0: Holding(1), 1: Holding(1)}, 1))
    assert not replicas_are_due(settings)
    upsert_replicas(settings.postgres_url, "usage", [ReplicaRecord(3, "b", "serving"), ReplicaRecord(3, "c", "copying")])
    assert replicas_are_due(settings), "b lost its copy of shard 3"
    commit(settings, "serving/b", to_metadata({0: Holding(1), 1: Holding(1), 3: Holding(1)}, 1))
    assert not replicas_are_due(settings)
