"""One measured figure beside what it is to reach and a rival's or a bound's, and the table of them."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True)
class Figure:
    """`reach` is the most that `ours` may be, or the least if `at_least`; `beside`: what stands beside it in the same run."""

    what: str
    ours: float
    unit: str = ""
    reach: float | None = None
    at_least: bool = False
    beside: str = ""

    @property
    def met(self) -> bool | None:
        if self.reach is None:
            return None
        # A figure that has to be at its bound may miss it by a rounding error.
        return self.ours >= self.reach if self.at_least else self.ours <= self.reach * (1 + 1e-12)


class Clock:
    """Seconds of wall time and of CPU time, all threads, of what runs inside `with`."""

    wall = 0.0
    cpu = 0.0

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu

    def figure(self, what: str, reach: float | None = None, beside: str = "") -> Figure:
        """CPU time, because other work on the machine lengthens wall time; a solver with one thread has the two alike."""
        return Figure(
            f"{what}, CPU time", self.cpu, "s", reach, beside=beside + f"{'; ' if beside else ''}wall {self.wall:.2f} s"
        )


def peak_memory() -> float:
    """The most memory that this process has held so far, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def table(name: str, figures: Sequence[Figure]) -> str:
    """The figures of one benchmark as a Markdown table."""
    lines = [f"| {name} | measured | to reach | | beside |", "|---|---|---|---|---|"]
    for f in figures:
        reach = "" if f.reach is None else f"{'≥' if f.at_least else '≤'} {shown(f.reach)} {f.unit}".strip()
        verdict = {None: "", True: "met", False: "missed"}[f.met]
        lines.append(f"| {f.what} | {shown(f.ours)} {f.unit} | {reach} | {verdict} | {f.beside} |".replace("  ", " "))
    return "\n".join(lines)


def shown(value: float) -> str:
    """Four digits that count, and whole numbers whole."""
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
