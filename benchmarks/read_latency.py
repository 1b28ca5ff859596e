"""How long queries take while a plan is carried out, beside the same load without one, on a real gateway and pipelines.

`python -m benchmarks.read_latency [--rate 40] [--seconds 60] [--rounds 3] [--rows 1500000] [--out FILE]` draws usage, starts
Postgres, four pipelines and a gateway as processes, and asks the gateway at a fixed mean rate under four conditions in turns:

- quiet: nothing else goes on;
- throttled: a quarter of the shards moves, at so many bytes a second that the copy takes `--copy-seconds`, Spark on one core
  and all of the transition niced by 10;
- one core: the same without a rate;
- unthrottled: no rate, Spark on all cores, nothing niced.

Latencies count from the time that a query was meant to be sent; a transition is measured from the start of `foreshard
transition run` to its end. Printed are percentiles over all rounds, and each condition's beside the quiet ones. Answers are
compared with sums known beforehand.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.open_loop import Asked, OpenLoop
from benchmarks.read_platform import SHARDS_MOVED, ReadPlatform

PERCENTILES = (50.0, 99.0, 99.9)
WARM_UP_SECONDS = 10.0


@dataclass(frozen=True)
class Condition:
    """`moves`: whether a plan is carried out; `is_throttled`: at a rate; `is_modest`: on one core and niced."""

    name: str
    moves: bool = True
    is_throttled: bool = False
    is_modest: bool = False


CONDITIONS = (
    Condition("quiet", moves=False),
    Condition("throttled", is_throttled=True, is_modest=True),
    Condition("one core", is_modest=True),
    Condition("unthrottled"),
)


@dataclass
class Measured:
    """Of one condition in one round; `stages`: (seconds since 1970, what began then)."""

    asked: list[Asked]
    stages: list[tuple[float, str]] = field(default_factory=list)

    def percentiles(self) -> list[float]:
        return [float(found) for found in np.percentile([a.seconds * 1000 for a in self.asked], PERCENTILES)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=40, help="queries per second")
    parser.add_argument("--seconds", type=float, default=60, help="of each quiet turn")
    parser.add_argument("--copy-seconds", type=float, default=30, help="that a throttled copy is to take")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_500_000, help="drawn for the source")
    parser.add_argument("--only", help="conditions beside quiet, comma separated; default: all")
    parser.add_argument("--out", help="a file for the figures, as JSON")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="foreshard-benchmark-")).resolve()
    folder.chmod(0o755)  # Postgres has an account of its own
    platform = ReadPlatform(folder, arguments.rows)
    try:
        platform.start()
        figures = measure(platform, arguments)
    finally:
        platform.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(figures, indent=2), "utf-8")
    return 1 if any(found["faults"] for found in figures["conditions"].values()) else 0


def measure(platform: ReadPlatform, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the rounds; prints and returns the figures."""
    only = arguments.only.split(",") if arguments.only else [c.name for c in CONDITIONS]
    conditions = [c for c in CONDITIONS if not c.moves or c.name in only]
    load = OpenLoop(platform.gateway_port, platform.questions, arguments.rate)
    load.ask(_after(WARM_UP_SECONDS), seed=0)
    found: dict[str, list[Measured]] = {condition.name: [] for condition in conditions}
    begun = os.getloadavg()
    for number, condition in itertools.product(range(1, arguments.rounds + 1), conditions):
        began = time.monotonic()
        turn = _turn(platform, load, condition, arguments, seed=number)
        found[condition.name].append(turn)
        p50, p99, _ = turn.percentiles()
        took = time.monotonic() - began
        print(f"round {number}, {condition.name}: {took:.0f} s, p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
    figures = {
        "rate": arguments.rate,
        "source_rows": arguments.rows,
        "shards_moved": SHARDS_MOVED,
        "machine_load_before_and_after": [begun, os.getloadavg()],
        "conditions": {name: summary(turns, found["quiet"]) for name, turns in found.items()},
    }
    show(figures)
    return figures


def _turn(platform: ReadPlatform, load: OpenLoop, condition: Condition, arguments: argparse.Namespace, seed: int) -> Measured:
    if not condition.moves:
        return Measured(load.ask(_after(arguments.seconds), seed))
    from foreshard.transition import store, throttle

    pool_id, plan = platform.settings.pool_id, platform.propose()
    rate = plan.metrics.bytes_moved / arguments.copy_seconds if condition.is_throttled else None
    throttle.set_rate(platform.url, pool_id, rate)
    child = platform.carry_out(plan.plan_id, condition.is_modest)
    asked = load.ask(lambda: not child.is_running(), seed)
    platform.finished(child, f"the {condition.name} transition")
    state = store.read_plan(platform.url, pool_id, plan.plan_id).state
    if state != "done":
        raise SystemExit(f"the {condition.name} transition ended {state}:\n{child.log_path.read_text('utf-8')[-3000:]}")
    events = store.read_events(platform.url, pool_id, plan.plan_id)
    stages = sorted({event.stage: event.at.timestamp() for event in reversed(events)}.items(), key=lambda stage: stage[1])
    return Measured(asked, [(at, stage) for stage, at in stages])


def _after(seconds: float) -> Any:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def summary(turns: Sequence[Measured], quiet: Sequence[Measured]) -> dict[str, Any]:
    """Percentiles over all rounds, their ratios to the quiet ones, and the median of the rounds' own ratios."""
    together, calm = Measured([a for t in turns for a in t.asked]), Measured([a for t in quiet for a in t.asked])
    ratios = [t.percentiles()[1] / q.percentiles()[1] for t, q in zip(turns, quiet, strict=True)]
    faults = [a.fault for a in together.asked if a.fault]
    for fault in faults[:5]:
        print(fault, file=sys.stderr, flush=True)
    names = [f"p{percentile:g}" for percentile in PERCENTILES]
    now, before = together.percentiles(), calm.percentiles()
    return {
        "queries": len(together.asked),
        "faults": len(faults),
        "milliseconds": {name: round(value, 2) for name, value in zip(names, now, strict=True)},
        "of_quiet": {name: round(a / b, 3) for name, a, b in zip(names, now, before, strict=True)},
        "p99_of_quiet_median_of_rounds": round(statistics.median(ratios), 3),
        "p99_of_quiet_by_round": [round(ratio, 3) for ratio in ratios],
        "p99_milliseconds_by_stage": by_stage(turns),
    }


def by_stage(turns: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """The stage that began last before a query was sent → its queries and their p99."""
    seconds: dict[str, list[float]] = {}
    for turn in turns:
        begins = [at for at, _ in turn.stages]
        for asked in turn.asked:
            place = int(np.searchsorted(begins, asked.at, "right"))
            if place:
                seconds.setdefault(turn.stages[place - 1][1], []).append(asked.seconds)
    return {
        stage: {"queries": len(found), "p99": round(float(np.percentile(found, 99)) * 1000, 1)}
        for stage, found in seconds.items()
    }


def show(figures: dict[str, Any]) -> None:
    before, after = (f"{load[0]:.1f}" for load in figures["machine_load_before_and_after"])
    print(
        f"\n{figures['rate']:g} queries per second; times × those of quiet; load of the machine {before} before, {after} after"
    )
    names = [f"p{percentile:g}" for percentile in PERCENTILES]
    heads = "".join(f"{name + ' ms':>10} {name + ' ×':>8}" for name in names)
    print(f"{'':12} {'queries':>8} {'not right':>10}{heads}")
    for name, found in figures["conditions"].items():
        times = "".join(f"{found['milliseconds'][p]:10.1f} {found['of_quiet'][p]:8.2f}" for p in names)
        print(f"{name:12} {found['queries']:8} {found['faults']:10}{times}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
