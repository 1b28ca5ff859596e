"""The demo's pictures, as PNG files: the forecast against what came, and every pipeline's load before and after the plan.

Every axis begins at zero, and panels that are compared share their scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import PercentFormatter

from foreshard.drawing import BLACK, BLUE, GREY, ORANGE, VERMILION, figure_file, hours_axis, legend

Series = Sequence[float] | npt.NDArray[np.float64]

HISTORY_PER_STEP = 2  # hours of history shown for each hour of forecast


@dataclass(frozen=True)
class ShardForecast:
    """One shard's series in weighted requests per second. `history` ends where the forecast begins.

    `mean`, `q05`, `q95` and `naive` have one value per step; `actual` too, NaN for a step that has not come yet.
    """

    shard_id: int
    history_times: Sequence[datetime]
    history: Series
    times: Sequence[datetime]
    mean: Series
    q05: Series
    q95: Series
    naive: Series
    actual: Series


@dataclass(frozen=True)
class PipelineLoad:
    """One pipeline over the same hours: what it carries under the old layout and under the new one; NaN where unknown."""

    node_id: str
    capacity: float  # weighted requests per second, as the loads
    before: Series
    after: Series

    def peak(self, loads: Series) -> float:
        """The highest utilisation, as a fraction of the capacity."""
        return float(np.nanmax(np.asarray(loads, dtype=np.float64))) / self.capacity


def forecast_against_actual(path: Path, shards: Sequence[ShardForecast]) -> Path:
    """Draws one panel per shard, busiest first, on one scale; writes a PNG of 1320 pixels' width and returns its path."""
    columns = 1 if len(shards) <= 3 else 2
    rows = math.ceil(len(shards) / columns)
    with figure_file(path, (12, 1.3 + 2.7 * rows)) as figure:
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for panel, shard in zip(panels.flat, shards, strict=False):
            _draw_forecast(panel, shard)
        for panel in panels.flat[len(shards) :]:
            panel.set_axis_off()
        panels[0, 0].set_ylim(bottom=0)
        figure.suptitle(_forecast_title(shards), x=0.01, ha="left", fontsize=13, fontweight="bold")
        figure.supylabel("load (weighted requests per second)", fontsize=10)
        legend(figure, panels[0, 0])
    return path


def _forecast_title(shards: Sequence[ShardForecast]) -> str:
    first = shards[0].times[0].strftime("%-d %B %Y %H:%M")
    count = "The busiest shard" if len(shards) == 1 else f"The {len(shards)} busiest shards"
    return f"{count}: forecast for the {len(shards[0].times)} hours from {first} UTC, and what came"


def _draw_forecast(panel: Any, shard: ShardForecast) -> None:
    shown = HISTORY_PER_STEP * len(shard.times)
    history_times, history = list(shard.history_times)[-shown:], list(shard.history)[-shown:]
    panel.plot(history_times, history, color=BLACK, linewidth=1.3)
    panel.fill_between(shard.times, shard.q05, shard.q95, color=BLUE, alpha=0.2, linewidth=0, label="forecast, 5% to 95%")
    panel.plot(shard.times, shard.naive, color=ORANGE, linewidth=1.4, linestyle=(0, (4, 2)), label="naive forecast")
    panel.plot(shard.times, shard.mean, color=BLUE, linewidth=2, label="forecast, mean")
    # Joined to the history's last point, for the actual load is one series.
    times, actual = [*history_times[-1:], *shard.times], [*history[-1:], *shard.actual]
    panel.plot(times, actual, color=BLACK, linewidth=1.3, marker="o", markersize=2.6, label="actual")
    panel.axvline(shard.times[0], color=GREY, linewidth=1, linestyle=":")
    panel.set_title(f"shard {shard.shard_id}   {_error(shard)}")
    hours_axis(panel, (times[-1] - history_times[0]).total_seconds() / 3600 if history_times else len(times))


def _error(shard: ShardForecast) -> str:
    actual = np.asarray(shard.actual, dtype=np.float64)
    if not np.isfinite(actual).any():
        return ""
    own = float(np.nanmean(np.abs(np.asarray(shard.mean) - actual)))
    naive = float(np.nanmean(np.abs(np.asarray(shard.naive) - actual)))
    return f"mean absolute error {own:.2g}, naive {naive:.2g}"


def load_per_pipeline(path: Path, times: Sequence[datetime], pipelines: Sequence[PipelineLoad], target: float) -> Path:
    """Draws one panel per pipeline on one scale of utilisation; `target` is the policy's target utilisation, a fraction.

    Writes a PNG of 1320 pixels' width and returns its path.
    """
    columns = min(5, len(pipelines))
    rows = math.ceil(len(pipelines) / columns)
    with figure_file(path, (12, 1.4 + 2.9 * rows)) as figure:
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for panel, pipeline in zip(panels.flat, pipelines, strict=False):
            _draw_load(panel, times, pipeline, target)
        for panel in panels.flat[len(pipelines) :]:
            panel.set_axis_off()
        panels[0, 0].set_ylim(bottom=0)
        panels[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        figure.suptitle(_load_title(pipelines), x=0.01, ha="left", fontsize=13, fontweight="bold")
        figure.supylabel("load (% of the pipeline's capacity)", fontsize=10)
        legend(figure, panels[0, 0])
    return path


def _load_title(pipelines: Sequence[PipelineLoad]) -> str:
    before = max(pipelines, key=lambda p: p.peak(p.before))
    after = max(pipelines, key=lambda p: p.peak(p.after))
    return (
        f"The busiest pipeline's peak goes from {before.peak(before.before):.0%} of its capacity ({before.node_id}) "
        f"to {after.peak(after.after):.0%} ({after.node_id})"
    )


def _draw_load(panel: Any, times: Sequence[datetime], pipeline: PipelineLoad, target: float) -> None:
    before, after = (np.asarray(loads, dtype=np.float64) / pipeline.capacity for loads in (pipeline.before, pipeline.after))
    panel.fill_between(times, before, 1, where=before > 1, interpolate=True, color=VERMILION, alpha=0.3, linewidth=0)
    panel.axhline(1, color=BLACK, linewidth=1.4, label="capacity")
    panel.axhline(target, color=GREY, linewidth=1.2, linestyle=":", label=f"target, {target:.0%}")
    panel.plot(times, before, color=VERMILION, linewidth=1.6, linestyle=(0, (4, 1.5)), label="before, by the old layout")
    panel.plot(times, after, color=BLUE, linewidth=2, label="after, by the new layout")
    peaks = f"peak {pipeline.peak(pipeline.before):.0%} → {pipeline.peak(pipeline.after):.0%}"
    panel.set_title(f"{pipeline.node_id}\ncapacity {pipeline.capacity:.3g} requests/s\n{peaks}")
    hours_axis(panel, len(times))
