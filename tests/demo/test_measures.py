"""The demo's figures, against values worked out by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from foreshard.demo.measures import forecast_quality, load_by_node
from foreshard.errors import ForeshardError
from foreshard.model import Layout, Replica

ORIGIN = datetime(2013, 12, 1, tzinfo=UTC)


def test_errors_count_the_hours_that_have_come() -> None:
    actual = np.array([[1.0, 2.0, np.nan], [4.0, 3.0, np.nan]])
    mean = np.array([[1.5, 2.0, 9.0], [3.0, 3.5, 9.0]])
    quality = forecast_quality(ORIGIN, {"prophet": 2}, mean, mean + 0.5, np.zeros((2, 3)), actual)
    assert (quality.shards, quality.horizon_hours) == (2, 2)
    assert quality.mae == pytest.approx((0.5 + 0 + 1 + 0.5) / 4)
    assert quality.naive_mae == pytest.approx(2.5)
    assert quality.pinball95 == pytest.approx((0.05 * 1.0 + 0.05 * 0.5 + 0.95 * 0.5 + 0.05 * 1.0) / 4)
    assert quality.naive_pinball95 == pytest.approx(0.95 * 2.5)
    assert quality.coverage95 == pytest.approx(3 / 4)


def test_a_forecast_of_which_nothing_has_come_has_no_errors() -> None:
    nothing = np.full((2, 3), np.nan)
    with pytest.raises(ForeshardError, match="no hour of the forecast"):
        forecast_quality(ORIGIN, {}, nothing, nothing, nothing, nothing)


def test_load_is_split_by_weight_and_older_queries_go_to_full_replicas() -> None:
    layout = Layout(3, (Replica(0, "a"), Replica(0, "b", 3.0, date(2013, 11, 24)), Replica(1, "b"), Replica(1, "c")))
    loads = np.array([[8.0, 2.0], [0.0, 4.0]])
    carried = load_by_node(layout, loads, recent_share=0.75)
    # Of shard 0: 6 recent, split 1 to 3, and 2 older, all for a.
    assert {n: v.tolist() for n, v in carried.items()} == {"a": [3.5, 0.0], "b": [5.5, 2.0], "c": [1.0, 2.0]}
    assert np.allclose(sum(carried.values()), loads.sum(axis=1))


def test_load_without_a_full_replica_is_an_error() -> None:
    layout = Layout(3, (Replica(0, "a", 1.0, date(2013, 11, 24)),))
    with pytest.raises(ForeshardError, match="shard 0 has load and no full replica"):
        load_by_node(layout, np.array([[1.0]]))
    assert load_by_node(layout, np.array([[0.0]]))["a"].tolist() == [0.0]
