"""The pictures: whole PNG files of the size promised, in which the data given can be found again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from foreshard.demo.pictures import PipelineLoad, ShardForecast, forecast_against_actual, load_per_pipeline
from foreshard.drawing import BLUE, ORANGE, VERMILION

START = datetime(2013, 12, 1, tzinfo=UTC)
HOURS = [START + timedelta(hours=i) for i in range(24)]
FLAT = np.full(24, 1.0)


def pixels_of(path: Path, colour: str) -> np.ndarray:
    """Rows and columns of the pixels of exactly this colour, shape (n, 2)."""
    image = matplotlib.image.imread(path)[:, :, :3]
    return np.argwhere(np.abs(image - np.array(to_rgb(colour))).max(axis=2) < 0.02)


def shard(shard_id: int, actual: np.ndarray = FLAT, history: int = 48) -> ShardForecast:
    times = [START - timedelta(hours=history - i) for i in range(history)]
    return ShardForecast(shard_id, times, [1.0] * history, HOURS, FLAT * 2, FLAT * 1.5, FLAT * 2.5, FLAT * 3, actual)


def load(node_id: str, before: float, after: float, capacity: float = 4.0) -> PipelineLoad:
    return PipelineLoad(node_id, capacity, FLAT * before, FLAT * after)


@pytest.mark.parametrize(("shards", "height"), [(1, 4.0), (3, 9.4), (4, 6.7), (5, 9.4)])
def test_the_forecast_picture_has_the_size_of_its_panels(tmp_path: Path, shards: int, height: float) -> None:
    path = forecast_against_actual(tmp_path / "pictures" / "forecast.png", [shard(i) for i in range(shards)])
    assert matplotlib.image.imread(path).shape == (round(height * 110), 1320, 4)
    assert [p.name for p in path.parent.iterdir()] == ["forecast.png"]


def test_forecast_and_naive_lie_at_their_heights(tmp_path: Path) -> None:
    path = forecast_against_actual(tmp_path / "forecast.png", [shard(7)])
    legend = 380  # rows below hold the legend's samples
    mean, naive = (float(np.median([row for row, _ in pixels_of(path, c) if row < legend])) for c in (BLUE, ORANGE))
    black = pixels_of(path, "#000000")
    actual = float(np.median([row for row, column in black if row < legend and column > 1200]))
    # Actual is 1, the mean 2 and the naive forecast 3: equal distances, upwards.
    assert mean - naive == pytest.approx(actual - mean, abs=3)
    assert mean - naive > 30


def test_hours_that_have_not_come_are_not_drawn(tmp_path: Path) -> None:
    so_far = np.where(np.arange(24) < 6, 1.0, np.nan)
    whole = forecast_against_actual(tmp_path / "whole.png", [shard(7)])
    part = forecast_against_actual(tmp_path / "part.png", [shard(7, so_far)])
    none = forecast_against_actual(tmp_path / "none.png", [shard(7, np.full(24, np.nan))])
    # Only the panel: its title, which names the error, is in rows above it.
    drawn = [sum(row > 60 for row, column in pixels_of(p, "#000000") if column > 1050) for p in (whole, part, none)]
    assert drawn[0] > drawn[1]
    assert drawn[1] == drawn[2]


def test_loads_are_drawn_as_shares_of_the_capacity(tmp_path: Path) -> None:
    path = load_per_pipeline(tmp_path / "load.png", HOURS, [load("pipeline-a", before=3.0, after=1.0)], target=0.8)
    image = matplotlib.image.imread(path)
    assert image.shape == (round(4.3 * 110), 1320, 4)
    legend = 430
    before, after = (np.median([row for row, _ in pixels_of(path, c) if row < legend]) for c in (VERMILION, BLUE))
    per_row = np.bincount(pixels_of(path, "#000000")[:, 0], minlength=image.shape[0])
    lines = np.flatnonzero(per_row > 1000)  # the capacity and the axis at zero, each across the whole panel
    full, zero = lines.min(), lines.max()
    assert (zero - before) / (zero - full) == pytest.approx(0.75, abs=0.02)
    assert (zero - after) / (zero - full) == pytest.approx(0.25, abs=0.02)


def test_every_pipeline_gets_a_panel_on_the_same_scale(tmp_path: Path) -> None:
    pipelines = [load(f"pipeline-{i}", before=1.0 + i / 2, after=2.0, capacity=4.0) for i in range(7)]
    path = load_per_pipeline(tmp_path / "load.png", HOURS, pipelines, target=0.8)
    assert matplotlib.image.imread(path).shape == (round((1.4 + 2 * 2.9) * 110), 1320, 4)
    after = pixels_of(path, BLUE)
    heights = {row // 4 for row, column in after if row < 380 and column < 1320}
    assert len(heights) <= 2  # the same load and capacity: the same height in all five panels of the row
