"""A replay's pictures, as PNG files of 1320 pixels' width: capacity against load, what was moved, the load of each shard.

A long test is drawn in bins, of which the axis tells the length: the highest load and the range of capacities of each bin, so
that no overload is averaged away.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import FuncFormatter, MaxNLocator

from foreshard.drawing import BLACK, BLUE, VERMILION, figure_file, hours_axis, legend
from foreshard.placement.explanation.wording import size
from foreshard.replay.outcome import Outcome
from foreshard.replay.playing import Replay
from foreshard.replay.summary import part
from foreshard.replay.trace import Floats, Ints

_MOST_POINTS = 1_000  # about as many as a panel has pixels that can be told apart
_CLOSE_POINTS = 1_440
_MOST_BARS = 200
_MOST_COLUMNS = 1_300
# Lengths of bins in seconds: parts of a day, so that a daily cycle does not beat against them, and whole days.
_LENGTHS = tuple(60 * n for n in (1, 2, 4, 5, 6, 8, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720))
_DAYS = 86_400
_COARSE = 7_200  # a line or a colour for more than this is of a whole day, or it would show the cycle in a few crude steps
_NAMED_HOURS = 84  # up to here the axis names hours, above days or months


class _Window(NamedTuple):
    """Intervals [first, end) of the test, in bins of `per_bin`."""

    first: int
    end: int
    per_bin: int

    @property
    def begins(self) -> Ints:
        """Where bins begin, counted from `first`."""
        return np.arange(0, self.end - self.first, self.per_bin)

    def of(self, values: Floats, how: np.ufunc) -> Floats:
        found: Floats = how.reduceat(values[self.first : self.end], self.begins)
        return found


def load_and_capacity(path: Path, replayed: Replay, days: float | None = None) -> Path:
    """One panel a policy, on one scale: the load, what the nodes that served could carry, and where some node had too much.

    `days`: only so many around the highest load of the test; default: all of it.
    """
    window = _window(replayed, days, _MOST_POINTS if days is None else _CLOSE_POINTS)
    count = len(replayed.outcomes)
    with figure_file(path, (12, 1.5 + 1.45 * count)) as figure:
        panels = figure.subplots(count, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for panel, (name, outcome) in zip(panels, replayed.outcomes.items(), strict=True):
            _draw_policy(panel, replayed, window, name, outcome)
        each = "" if window.per_bin == 1 else f"; per {_length(replayed, window)}: the highest load, the range of capacity"
        _time_axis(panels[-1], replayed, window, each)
        panels[0].yaxis.set_major_locator(MaxNLocator(4))
        panels[0].set_ylim(bottom=0)
        what = "the whole test" if days is None else f"{days:g} d around the highest load (figures: the whole test)"
        _title(figure, f"{replayed.trace.name}: load and capacity under each policy, {what}")
        figure.supylabel("requests per second", fontsize=10)
        legend(figure, panels[0])
    return path


def close_days(replayed: Replay) -> float | None:
    """For how many days around the highest load a closer picture is worth drawing; None if the test is hardly longer."""
    interval = replayed.trace.interval_seconds
    days = min(7.0, max(1.0, _CLOSE_POINTS * interval / 86_400))
    return days if days < 0.8 * len(replayed.load.test) * interval / 86_400 else None


def _draw_policy(panel: Any, replayed: Replay, window: _Window, name: str, outcome: Outcome) -> None:
    timeline, times = outcome.timeline, _times(replayed, window)
    load = window.of(replayed.load.test.sum(axis=1), np.maximum)
    low, high = (window.of(timeline.capacity, how) for how in (np.minimum, np.maximum))
    above = window.of(timeline.overloaded, np.maximum) / replayed.trace.interval_seconds
    panel.fill_between(times, low, high, step="mid", color=BLUE, alpha=0.3, linewidth=0)
    panel.step(times, high, where="mid", color=BLUE, linewidth=1.2, label="capacity of the nodes that served")
    # A step too: the trace says no more of an interval than its mean.
    panel.step(times, load, where="mid", color=BLACK, linewidth=1.0, label="load")
    panel.fill_between(times, load - above, load, step="mid", color=VERMILION, alpha=0.75, linewidth=0)
    over = above > 0
    # Below the axis, so that a short overload is seen however small its part of the load is.
    marks = {"color": VERMILION, "linestyle": "none", "marker": "|", "markersize": 7, "clip_on": False}
    (below,) = panel.plot(
        times[over], np.zeros(int(over.sum())), **marks, label="some node above its capacity; filled: by so much"
    )
    below.set_in_layout(False)
    panel.set_title(
        f"{name}   {part(outcome.overload_request_share)} of requests above capacity, {outcome.node_hours:,.0f} node-hours"
    )


def moved(path: Path, replayed: Replay) -> Path | None:
    """One panel a policy that moved anything, on one scale: bytes copied in each bin; None, without a file, if none did."""
    moving = {name: o for name, o in replayed.outcomes.items() if o.bytes_moved > 0}
    if not moving:
        return None
    window = _window(replayed, None, _MOST_BARS, _DAYS)
    with figure_file(path, (12, 1.4 + 1.3 * len(moving))) as figure:
        panels = figure.subplots(len(moving), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        times = _times(replayed, window, middle=False)
        width = window.per_bin * replayed.trace.interval_seconds / 86_400
        for panel, (name, outcome) in zip(panels, moving.items(), strict=True):
            panel.bar(times, window.of(outcome.timeline.moved, np.add), width, align="edge", color=BLUE, linewidth=0)
            total = f"{size(outcome.bytes_moved)} in {outcome.moves:,} copies, {outcome.reconfigurations:,} reconfigurations"
            panel.set_title(f"{name}   {total}")
        panels[0].yaxis.set_major_locator(MaxNLocator(3))
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _position: size(value)))
        _time_axis(panels[-1], replayed, window)
        still = [name for name in replayed.outcomes if name not in moving]
        never = f"; {', '.join(still)} moved nothing" if still else ""
        _title(figure, f"{replayed.trace.name}: bytes copied per {_length(replayed, window)}{never}")
    return path


def shards(path: Path, replayed: Replay) -> Path:
    """Shards × time, the whole trace: mean load of each shard in each bin, busiest shard on top, on a logarithmic scale."""
    trace = replayed.trace
    per_bin = _per_bin(len(trace.requests), _MOST_COLUMNS, trace.interval_seconds, coarse=_COARSE)
    begins = np.arange(0, len(trace.requests), per_bin)
    counts = np.diff(np.append(begins, len(trace.requests)))
    mean = np.add.reduceat(trace.rates, begins, axis=0) / counts[:, None]
    mean = mean[:, np.argsort(-mean.sum(axis=0), kind="stable")]
    lowest, highest = _colour_bounds(mean)
    with figure_file(path, (12, 5.2)) as figure:
        panel = figure.subplots()
        first, end = _at(replayed, -replayed.load.test_start), _at(replayed, len(replayed.load.test))
        extent = (date2num(first), date2num(end), mean.shape[1] + 0.5, 0.5)
        # Nearest, as a shard without load beside one with it is no shard with half of it.
        shown = panel.imshow(
            np.ma.masked_less_equal(mean.T, 0.0),
            aspect="auto",
            interpolation="nearest",
            norm=LogNorm(lowest, highest),
            cmap="viridis",
            extent=extent,
        )
        panel.xaxis_date()
        panel.grid(False)
        panel.set_facecolor("#E4E4E4")
        panel.axvline(date2num(_at(replayed, 0)), color=VERMILION, linewidth=1.8, label="the test begins")
        panel.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, borderaxespad=0.2)
        _dates(panel, first, end)
        panel.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.set_ylabel("shards, the busiest first")
        bar = figure.colorbar(shown, ax=panel, pad=0.01, extend="min" if mean[mean > 0].min() < lowest else "neither")
        bar.set_label("requests per second (grey: none)")
        bins = f", mean of each {_duration(per_bin * trace.interval_seconds)}" if per_bin > 1 else ""
        _title(figure, f"{trace.name}: load of each shard over the whole trace{bins}")
    return path


def _colour_bounds(mean: Floats) -> tuple[float, float]:
    """The range of colours: down to a ten-thousandth of the highest, below which nothing matters."""
    highest = float(mean.max())
    lowest = max(float(mean[mean > 0].min()), highest * 1e-4)
    return (lowest, highest) if lowest < highest else (highest / 2, highest)


def _window(replayed: Replay, days: float | None, most: int, coarse: int = _COARSE) -> _Window:
    first, end = 0, len(replayed.load.test)
    if days is not None:
        length = min(end, max(1, round(days * 86_400 / replayed.trace.interval_seconds)))
        peak = int(replayed.load.test.sum(axis=1).argmax())
        first = min(max(0, peak - length // 2), end - length)
        end = first + length
    return _Window(first, end, _per_bin(end - first, most, replayed.trace.interval_seconds, coarse))


def _per_bin(intervals: int, most: int, interval_seconds: int, coarse: int) -> int:
    """Intervals in a bin, so that there are about `most` bins at most; a bin longer than `coarse` seconds is of whole days."""
    least = math.ceil(intervals / most)
    if least == 1:
        return 1
    for length in _LENGTHS:
        if length <= coarse and length % interval_seconds == 0 and length >= least * interval_seconds:
            return length // interval_seconds
    return max(1, math.ceil(least * interval_seconds / _DAYS) * _DAYS // interval_seconds)


def _at(replayed: Replay, interval: int) -> datetime:
    """The start of an interval, counted from the test's first."""
    seconds = (replayed.load.test_start + interval) * replayed.trace.interval_seconds
    return replayed.trace.start.astimezone(UTC) + timedelta(seconds=seconds)


def _times(replayed: Replay, window: _Window, middle: bool = True) -> Floats:
    """Of the bins, as matplotlib counts days."""
    interval = replayed.trace.interval_seconds
    seconds = (window.begins + (window.per_bin / 2 if middle else 0)) * interval
    found: Floats = float(date2num(_at(replayed, window.first))) + seconds / 86_400
    return found


def _time_axis(panel: Any, replayed: Replay, window: _Window, each: str = "") -> None:
    panel.xaxis_date()
    _dates(panel, _at(replayed, window.first), _at(replayed, window.end), each)


def _dates(panel: Any, first: datetime, end: datetime, each: str = "") -> None:
    hours = (end - first).total_seconds() / 3600
    if hours <= _NAMED_HOURS:
        hours_axis(panel, hours)
    else:
        locator = AutoDateLocator(minticks=5, maxticks=12)
        panel.xaxis.set_major_locator(locator)
        panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panel.set_xlim(date2num(first), date2num(end))
    panel.set_xlabel(f"time (UTC{each})")


def _length(replayed: Replay, window: _Window) -> str:
    return _duration(window.per_bin * replayed.trace.interval_seconds)


def _duration(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit or (seconds >= unit and seconds % unit == 0):
            return name[:-1] if seconds == unit else f"{seconds / unit:.3g} {name}"
    return f"{seconds:g} s"


def _title(figure: Any, text: str) -> None:
    # A dollar sign in a trace's name begins no formula.
    figure.suptitle(text, x=0.01, ha="left", fontsize=12, fontweight="bold", parse_math=False)
