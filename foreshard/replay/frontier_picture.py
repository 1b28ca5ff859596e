"""Overload against node-hours: one curve a policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter

from foreshard.drawing import BLACK, BLUE, GREY, ORANGE, VERMILION, figure_file
from foreshard.replay.playing import Point, Replay
from foreshard.replay.summary import MOST_OVERLOAD

# Okabe and Ito's remaining colours; a marker of its own each, so that no policy is told by its colour alone.
_SKY, _GREEN, _PURPLE = "#56B4E9", "#009E73", "#CC79A7"
_LOOKS = {
    "static_peak": (GREY, "s"),
    "static_mean": (GREY, "v"),
    "reactive": (VERMILION, "o"),
    "hash_elastic": (ORANGE, "D"),
    "hourly_scale_out": (_PURPLE, "^"),
    "point_margin": (_SKY, "P"),
    "foreshard": (BLUE, "*"),
    "hybrid": (_GREEN, "X"),
    "oracle": (BLACK, "h"),
}
# Below this part of the requests the axis of overload is linear, so that none at all has a place.
_LINEAR_PERCENT = 0.001


def frontier(path: Path, replayed: Replay, points: Mapping[str, tuple[Point, ...]]) -> Path:
    """A PNG. `points`: each policy at its settings; the one with which it was replayed is drawn large."""
    with figure_file(path, (9.6, 5.2)) as figure:
        panel = figure.subplots()
        panel.axhline(100 * MOST_OVERLOAD, color=GREY, linewidth=1.1, linestyle=":")
        for name, outcome in replayed.outcomes.items():
            colour, marker = _LOOKS.get(name, (BLACK, "."))
            curve = sorted(points.get(name, ()), key=lambda p: (p.node_hours, -p.overload_request_share))
            x, y = [p.node_hours for p in curve], [100 * p.overload_request_share for p in curve]
            panel.plot(x, y, color=colour, linewidth=1.2, marker=marker, markersize=4, alpha=0.75)
            large = 13 if marker == "*" else 9
            own = (outcome.node_hours, 100 * outcome.overload_request_share)
            panel.plot(
                *own, marker, color=colour, markersize=large, markeredgecolor="white", label=name, clip_on=False, zorder=3
            )
        several = any(len(curve) > 1 for curve in points.values())
        _axes(panel, "large: as replayed, small: at other settings" if several else "each policy at its one setting")
        figure.legend(loc="outside right upper", frameon=False, title="policy", alignment="left")
        title = f"{replayed.trace.name}: overload against node-hours"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", parse_math=False)
    return path


def _axes(panel: Any, which: str) -> None:
    panel.set_yscale("symlog", linthresh=_LINEAR_PERCENT, linscale=0.5)
    top = max(panel.get_ylim()[1], 200 * MOST_OVERLOAD)
    panel.set_ylim(0, top)
    panel.set_yticks([0, *(t for t in (0.001, 0.01, 0.1, 1, 10, 100) if t <= top)])
    panel.minorticks_off()
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g} %"))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:,.0f}"))
    panel.set_xlim(left=0)
    panel.set_xlabel(f"node-hours in the test ({which})")
    panel.set_ylabel(f"requests above capacity (dotted: {100 * MOST_OVERLOAD:g} %)")
