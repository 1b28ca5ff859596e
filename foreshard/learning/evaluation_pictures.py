"""The pictures of an evaluation, as PNG files: forecasts against what came, coverage by level and day, errors by horizon.

Loads, errors and losses begin at zero; shares are shown where they lie, beside the declared ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.dates import DateFormatter, DayLocator
from matplotlib.ticker import MaxNLocator, PercentFormatter

from foreshard.drawing import BLACK, BLUE, GREY, ORANGE, VERMILION, figure_file, hours_axis, legend
from foreshard.forecast.batch import LEVELS
from foreshard.learning.drift import Day, Drift, coverage_bounds
from foreshard.learning.evaluation import Evaluation, Figures, ShardScores, series_of

_SHOWN, _WORST_SHOWN = 6, 4
_DAILY = ((0.90, ORANGE, (0, (4, 2))), (0.95, BLUE, "solid"), (0.99, BLACK, (0, (1, 1.2))))


def forecasts_against_actual(path: Path, shards: Sequence[tuple[str, Figures, ShardScores]]) -> Path:
    """One panel a shard, (why it is shown, its figures, its intervals), on its own scale; a PNG of 1320 pixels' width."""
    columns = 1 if len(shards) <= 2 else 2
    rows = math.ceil(len(shards) / columns)
    with figure_file(path, (12, 1.3 + 2.7 * rows)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False)
        for panel, (why, figures, scores) in zip(panels.flat, shards, strict=False):
            _draw_shard(panel, why, figures, scores)
        for panel in panels.flat[len(shards) :]:
            panel.set_axis_off()
        ahead = max(max(scores.steps_ahead) for _, _, scores in shards)
        title = f"What was forecast up to {ahead} steps ahead, and what came"
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        figure.supylabel("load (weighted requests per second), each shard on its own scale", fontsize=10)
        legend(figure, panels[0, 0])
    return path


def _draw_shard(panel: Any, why: str, figures: Figures, scores: ShardScores) -> None:
    low, high, top = (scores.quantiles[LEVELS.index(level)] for level in (0.05, 0.95, 0.99))
    times: Any = scores.times
    panel.fill_between(times, low, high, color=BLUE, alpha=0.2, linewidth=0, label="forecast, 5% to 95%")
    panel.plot(times, top, color=VERMILION, linewidth=1.1, linestyle=(0, (1, 1.2)), label="forecast, 99%")
    panel.plot(times, scores.mean, color=BLUE, linewidth=1.8, label="forecast, mean")
    panel.plot(times, scores.actual, color=BLACK, linewidth=1.2, marker="o", markersize=1.8, label="actual")
    covered = figures.at(0.95)[1]
    skill = "" if figures.skill is None else f", skill {figures.skill:.0%}"
    panel.set_title(
        f"shard {figures.name}, {why}: " + ("never in doubt" if covered is None else f"95% held {covered:.1%}") + skill
    )
    panel.set_ylim(bottom=0)
    hours_axis(panel, (times[-1] - times[0]).total_seconds() / 3600)


def coverage(path: Path, evaluation: Evaluation, drift: Drift) -> Path:
    """Left by level, with the interval that draws of whole days give; right by day, with the day that drift began."""
    with figure_file(path, (12, 4.6)) as figure:
        by_level, by_day = figure.subplots(1, 2, width_ratios=(2, 3))
        _draw_levels(by_level, evaluation)
        _draw_days(by_day, evaluation.days, drift)
        title = f"How often outcomes stayed below the quantiles, {evaluation.first} to {evaluation.last}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        legend(figure, by_day)
    return path


def _draw_levels(panel: Any, evaluation: Evaluation) -> None:
    known = [(place, level) for place, level in enumerate(LEVELS) if evaluation.whole.covered[place] is not None]
    panel.axhline(0, color=GREY, linewidth=1.2, linestyle=":")
    for at, (place, level) in enumerate(known):
        observed = float(evaluation.whole.covered[place] or 0.0)
        low, high = (100 * (bound - level) for bound in coverage_bounds(evaluation.days, level))
        panel.plot([at, at], [low, high], color=BLUE, linewidth=6, alpha=0.25, solid_capstyle="butt")
        panel.plot([at], [100 * (observed - level)], color=BLUE, marker="o", markersize=6)
        panel.annotate(f"{observed:.1%}", (at, 100 * (observed - level)), (9, -3), textcoords="offset points", fontsize=9)
    panel.set_xticks(range(len(known)), [f"{level:.0%}" for _, level in known])
    panel.set_xlim(-0.5, len(known))
    panel.set_xlabel("declared level")
    panel.set_ylabel("observed minus declared (points)")
    panel.set_title("by level, with the interval by days")


def _draw_days(panel: Any, days: Sequence[Day], drift: Drift) -> None:
    noons: Any = [_noon(day) for day in days]
    for level, colour, style in _DAILY:
        shares = [day.covered[LEVELS.index(level)] for day in days]
        known = np.array([np.nan if share is None else share for share in shares], dtype=np.float64)
        if np.isfinite(known).any():
            panel.plot(noons, known, color=colour, linestyle=style, marker="o", markersize=3, label=f"{level:.0%} quantile")
            panel.axhline(level, color=colour, linewidth=0.8, alpha=0.6)
    if drift.since is not None and days[0].day <= drift.since <= days[-1].day:
        panel.axvline(datetime.combine(drift.since, time(), UTC), color=VERMILION, linewidth=1.4, label="drift since")
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panel.set_ylim(top=1.005)
    panel.xaxis.set_major_locator(DayLocator(interval=math.ceil(len(days) / 8)))
    panel.xaxis.set_major_formatter(DateFormatter("%-d %b"))
    panel.set_title("by day, beside what was declared (thin)")


def _noon(day: Day) -> datetime:
    return datetime.combine(day.day, time(12), UTC)


def draw(folder: Path, stored: Any, evaluation: Evaluation, drift: Drift, intervals: int) -> dict[str, Path]:
    """All pictures into a folder: what is seen → file. `intervals`: how many of each shard are shown."""
    chosen = _shown(evaluation)
    series = {found.shard_id: found for found in series_of(stored, [int(figures.name) for _, figures in chosen], intervals)}
    shards = [(why, figures, series[int(figures.name)]) for why, figures in chosen]
    return {
        "forecasts against what came": forecasts_against_actual(folder / "forecasts.png", shards),
        "coverage by level and day": coverage(folder / "coverage.png", evaluation, drift),
        "errors by horizon": by_horizon(folder / "horizon.png", evaluation),
    }


def _shown(evaluation: Evaluation) -> list[tuple[str, Figures]]:
    """The worst shards and the busiest others, each with why it is shown."""
    worst = list(evaluation.worst[:_WORST_SHOWN])
    named = {figures.name for figures in worst}
    others = [figures for figures in evaluation.busiest if figures.name not in named][: _SHOWN - len(worst)]
    return [("among the worst" if n else "the worst", f) for n, f in enumerate(worst)] + [("busy", f) for f in others]


def by_horizon(path: Path, evaluation: Evaluation) -> Path:
    """Left the mean absolute error of the forecast and of the naive one, right the pinball loss at 95 %, by steps ahead."""
    steps = [int(figures.name) for figures in evaluation.steps]
    with figure_file(path, (12, 4.2)) as figure:
        error, loss = figure.subplots(1, 2)
        naive = [np.nan if f.naive_error is None else f.naive_error for f in evaluation.steps]
        if np.isfinite(naive).any():
            error.plot(
                steps, naive, color=ORANGE, linewidth=1.4, linestyle=(0, (4, 2)), marker="s", markersize=3, label="naive"
            )
        error.plot(
            steps, [f.error for f in evaluation.steps], color=BLUE, linewidth=2, marker="o", markersize=3, label="forecast"
        )
        error.set_title("mean absolute error")
        losses = [f.at(0.95)[0] for f in evaluation.steps]
        loss.plot(steps, [np.nan if v is None else v for v in losses], color=BLUE, linewidth=2, marker="o", markersize=3)
        loss.set_title("pinball loss at 95 %")
        for panel in (error, loss):
            panel.set_ylim(bottom=0)
            panel.set_xlabel("steps ahead")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        error.set_ylabel("weighted requests per second")
        figure.suptitle("How errors grow with the horizon", x=0.01, ha="left", fontsize=13, fontweight="bold")
        legend(figure, error)
    return path
