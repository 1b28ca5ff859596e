"""How pictures are drawn: colours, axes of time, and files that are whole or not there.

Colours are Okabe and Ito's, which people with any kind of colour blindness tell apart; each line also has a style of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.dates import HourLocator, num2date
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

DPI = 110
BLACK, BLUE, ORANGE, VERMILION, GREY = "#000000", "#0072B2", "#E69F00", "#D55E00", "#666666"
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "timezone": "UTC",
}


def hours_axis(panel: Any, hours: float) -> None:
    """For an axis of so many hours: ticks every six hours to every day; midnight is named by its day."""
    panel.xaxis.set_major_locator(HourLocator(range(0, 24, 6 if hours <= 30 else 12 if hours <= 84 else 24)))
    panel.xaxis.set_major_formatter(FuncFormatter(_tick))
    panel.margins(x=0.01)


def _tick(value: float, _position: int | None = None) -> str:
    moment = num2date(value)
    return str(moment.strftime("%-d %b" if moment.hour == 0 else "%H:%M"))


def legend(figure: Figure, panel: Any) -> None:
    """Below the panels, by the labels of one of them."""
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)


@contextmanager
def figure_file(path: Path, inches: tuple[float, float]) -> Iterator[Figure]:
    """A figure that is written to `path`, whole or not at all, when the block ends well."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=inches, dpi=DPI, layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}")
        figure.savefig(unfinished, format="png")
        os.replace(unfinished, path)
