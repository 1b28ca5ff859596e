"""The frontier as a picture: imbalance against bytes moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import FuncFormatter

from foreshard.drawing import BLUE, GREY, VERMILION, figure_file
from foreshard.placement.explanation.frontier import Point
from foreshard.placement.explanation.wording import size


def draw_frontier(points: Sequence[Point], path: Path) -> None:
    """A PNG; each point is named by the bounded_load that gives it, the policy's own is marked."""
    with figure_file(path, (6.4, 4.0)) as figure:
        panel = figure.subplots()
        moved, imbalance = [float(p.bytes) for p in points], [100.0 * p.imbalance for p in points]
        panel.step(moved, imbalance, where="post", color=GREY, linestyle="--", linewidth=1.0)
        panel.plot(moved, imbalance, "o", color=BLUE, label="a plan that no other beats in both")
        own = [(x, y) for x, y, p in zip(moved, imbalance, points, strict=True) if p.is_policy]
        if own:
            panel.plot(*zip(*own, strict=True), "s", color=VERMILION, markersize=9, label="the policy as it is")
        for x, y, point in zip(moved, imbalance, points, strict=True):
            panel.annotate(f"{point.bounded_load:.3g}", (x, y), textcoords="offset points", xytext=(6, 6), fontsize=8)
        panel.set_xlabel("bytes moved")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: size(value)))
        panel.set_ylabel("imbalance (%)")
        panel.set_ylim(bottom=0)
        panel.set_xlim(left=0 if max(moved, default=0.0) > 0 else None)
        panel.set_title("Imbalance against bytes moved; numbers are bounded_load")
        panel.legend(loc="upper right", frameon=False)
