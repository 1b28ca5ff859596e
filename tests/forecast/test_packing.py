"""Packed series: all loads of a shard at a step are added up whatever their order, and the grain is published as asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.forecast import engine, pooling
from foreshard.forecast.batch import Batch
from foreshard.forecast.columns import arrays, matrix
from foreshard.forecast.fleet import QUANTILES, Model, forecast_batch
from foreshard.forecast.history import Span, span_of
from foreshard.forecast.packing import _gathered, _points, series

ORIGIN = datetime(2024, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def span(grain_minutes: int, days: int = 14) -> Span:
    return span_of(ORIGIN, ORIGIN - days * DAY, timedelta(minutes=grain_minutes), 56 * DAY, DAY)


@pytest.mark.parametrize(("grain", "step", "pieces"), [(1, 15, 15), (5, 15, 3), (15, 15, 1), (60, 60, 1)])
def test_fine_grains_are_forecast_by_the_quarter_of_an_hour(grain: int, step: int, pieces: int) -> None:
    made = span(grain)
    assert (made.step, made.pieces) == (timedelta(minutes=step), pieces)
    assert (made.origin, made.grain) == (ORIGIN, timedelta(minutes=grain))
    assert made.horizon * made.step == DAY


@pytest.mark.parametrize(
    ("first", "days"), [(ORIGIN, 1), (ORIGIN - 5 * HOUR, 1), (ORIGIN - 25 * HOUR, 2), (ORIGIN - 90 * DAY, 56)]
)
def test_the_history_is_whole_days_back_to_the_first_load(first: datetime, days: int) -> None:
    assert span_of(ORIGIN, first, HOUR, 56 * DAY, DAY).start == ORIGIN - days * DAY


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 47), st.integers(0, 10**9)), max_size=40), st.randoms())
def test_loads_add_up_in_any_order(points: list[tuple[int, int, int]], shuffled: object) -> None:
    asked = span_of(ORIGIN, ORIGIN - 2 * DAY, HOUR, 56 * DAY, DAY)
    expected = np.zeros((3, 48))
    for row, piece, load in points:
        expected[row, piece] += load / 3600e6
    for row in expected:
        row[: int((row > 0).argmax())] = np.nan
    other = list(points)
    shuffled.shuffle(other)  # type: ignore[attr-defined]
    made = []
    for order in (points, other):
        columns = np.array(order, dtype=np.int64).reshape(-1, 3)
        made.append(series(columns[:, 0], columns[:, 1].astype(np.int32), columns[:, 2].astype(np.float64), 3, asked)[0])
    np.testing.assert_allclose(made[0], expected)
    np.testing.assert_array_equal(made[0], made[1])


@given(st.integers(0, 2**32 - 1), st.integers(0, 3000), st.integers(1, 50), st.integers(1, 300))
def test_runs_stand_for_the_rows_they_were_made_from(seed: int, count: int, shards: int, pieces: int) -> None:
    draw = np.random.default_rng(seed)
    shard, piece = draw.integers(0, shards, count), draw.integers(0, pieces, count)
    load = draw.integers(0, 10**9, count).astype(np.float64)
    named = np.arange(shards)
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array(np.concatenate([shard, named]).astype(np.int32)),
            pa.array(np.concatenate([piece, np.full(shards, -1)]).astype(np.int32)),
            pa.array(np.concatenate([load, np.zeros(shards)])),
        ],
        ["shard_id", "piece", "load"],
    )
    expected = np.zeros((shards, pieces + 48))
    np.add.at(expected, (shard, piece), load)
    found, seen = np.zeros_like(expected), set[int]()
    for runs in _gathered(iter([rows.slice(0, 100), rows.slice(100)])):
        points = _points(runs)
        seen |= set(points.shard.tolist())
        known = points.piece >= 0
        np.add.at(found, (points.shard[known], points.piece[known]), points.load[known])
    np.testing.assert_array_equal(found, expected)
    assert seen == set(range(shards)), "a shard without a row is named"


def test_pieces_of_a_step_have_its_mean_and_scatter_as_they_did() -> None:
    asked = span(5)
    draw = np.random.default_rng(5)
    width = asked.steps * asked.pieces
    level = 400 * (2 + np.sin(2 * np.pi * np.arange(width) / (width / 14)))
    whole = draw.poisson(np.tile(level, (60, 1)) * draw.uniform(0.5, 2, (60, 1)))
    loads = whole * 1e6
    row, piece = np.repeat(np.arange(60), width), np.tile(np.arange(width, dtype=np.int32), 60)
    values, scatter = series(row, piece, loads.ravel(), 60, asked)
    assert values.shape == (60, asked.steps)
    assert values[:, 0] == pytest.approx(loads[:, :3].sum(axis=1) / 900e6)
    assert scatter == pytest.approx(np.full(60, 1 / 300), rel=0.25), "counts: the variance of a rate is its mean over seconds"

    batch = Batch(tuple(map(str, range(60))), asked.start, asked.step, values)
    options = engine.Options(asked.horizon)
    fleet = engine.learn(batch, options)
    model = Model(asked, options, fleet, pooling.learn(engine.forecast(batch, fleet, options).errors, 0))
    names = ["shard_id", "values", "scatter"]
    columns = [pa.array(np.arange(60, dtype=np.int32)), arrays(values.astype(np.float32)), pa.array(scatter.astype(np.float32))]
    made = forecast_batch(pa.RecordBatch.from_arrays(columns, names), model)
    means = matrix(made.column("mean"), 288).reshape(60, 96, 3)
    assert (means == means[:, :, :1]).all()
    ahead = draw.poisson(np.tile(level[:288], (60, 1)) * (whole.mean(axis=1) / level.mean())[:, None]) / 300
    for name, share in zip(QUANTILES, (0.05, 0.10, 0.50, 0.90, 0.95, 0.99), strict=True):
        assert np.mean(ahead <= matrix(made.column(name), 288)) == pytest.approx(share, abs=0.04), name
    common = made.column("spread_common")
    assert len(common[0]) == 288


def test_matrices_survive_as_columns() -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    assert arrays(values).to_pylist() == values.tolist()
    column = arrays(values[:, 0].astype(np.float32))
    np.testing.assert_array_equal(matrix(column.slice(1), 4), values[1:, 0])
