"""Forecasts beside rivals in one run, at rolling origins, each seeing only what came before: the table of how good they are.

`python -m benchmarks.forecast [--m4 FILE] [--traces DIR] [--out figures.json]`; the environment variables FORESHARD_M4 and
FORESHARD_TRACES name the same. Without either, series are drawn. SPL95 is the pinball loss at 0.95, MASE the absolute error,
both divided by the series' mean absolute change from day to day within the context. Times are CPU time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

# ruff: noqa: E402 - one core for everybody has to be set before any library counts the cores.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

from benchmarks import forecast_data, forecast_figures, forecast_rivals, forecast_table
from benchmarks import forecast_metrics as metrics
from benchmarks.forecast_data import DataSet, NoData
from benchmarks.forecast_figures import Result
from benchmarks.forecast_rivals import Contestant

KINDS = ("naive", "prophet", "stats", "lightgbm", "ours", "families")


def main() -> int:
    arguments = _arguments()
    try:
        sets = _sets(arguments)
    except NoData as error:
        print(error, file=sys.stderr)
        return 1
    contestants, absent = _contestants(arguments)
    results: dict[str, dict[str, Result]] = {}
    figures: dict[str, Any] = {}
    for data in sets:
        results[data.name], skipped, failed = compete(data, contestants, arguments.limit)
        absent += [f"{data.name}: {line}" for line in failed]
        if results[data.name]:
            figures[data.name] = forecast_figures.of_set(data, results[data.name], skipped)
            print(forecast_table.of_set(figures[data.name], arguments.markdown), end="\n\n", flush=True)
    results = {name: found for name, found in results.items() if found}
    over_all = forecast_figures.pooled(results) if results else {}
    agreement = _agreement(sets[0], arguments, absent) if sets else None
    reached = forecast_figures.targets(figures, over_all, agreement)
    if len(results) > 1:
        print(forecast_table.of_all(over_all, arguments.markdown), end="\n\n")
    if reached:
        print(forecast_table.of_targets(reached, arguments.markdown), end="\n\n")
    for line in absent:
        print(f"not run: {line}")
    if arguments.out:
        found = {"versions": _versions(), "sets": figures, "all": over_all, "batched_prophet": agreement, "targets": reached}
        found["not_run"] = absent
        Path(arguments.out).write_text(json.dumps(found, indent=2), "utf-8")
    return 0


def compete(data: DataSet, contestants: Sequence[Contestant], limit: float) -> tuple[dict[str, Result], int, list[str]]:
    """Every contestant at every origin of a set; also how many contexts did not count, and who could not run, and why."""
    tasks, skipped = [], 0
    for batch, actual in data.tasks():
        kept = np.flatnonzero(data.counted(batch))
        skipped += len(batch) - len(kept)
        batch = batch.take(kept)
        tasks.append((batch, actual[kept], metrics.seasonal_scale(batch.values, data.day), kept))
    results, failed = {}, []
    for contestant in contestants:
        # Imports, compilation and first calls cost once a process, not once a series.
        few = tasks[0][0].take(range(min(5 if contestant.most is None else 1, len(tasks[0][0]))))
        parts, forecasts = [], []
        try:
            contestant.run(few, data.horizon, data.country, limit)
            for batch, actual, scale, kept in tasks:
                found = contestant.run(batch, data.horizon, data.country, limit / len(tasks))
                parts.append(metrics.score(kept, actual, found.mean, found.quantiles, scale))
                forecasts.append(found)
        except Exception as error:  # one contestant that breaks does not end the run; it is named at its end
            failed.append(f"{contestant.name}: {type(error).__name__}: {error}")
            continue
        seconds = sum(f.seconds for f in forecasts)
        tried, lost = sum(f.tried for f in forecasts), sum(f.failed for f in forecasts)
        results[contestant.name] = Result(metrics.joined(parts), seconds, tried, lost, contestant.is_rival)
        print(f"{data.name}: {contestant.name}: {tried} forecasts in {seconds:.2f} CPU s", file=sys.stderr, flush=True)
    return results, skipped, failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--m4", default=os.environ.get("FORESHARD_M4"), help="the hourly M4 series as Parquet: unique_id, ds, y"
    )
    parser.add_argument(
        "--traces", default=os.environ.get("FORESHARD_TRACES"), help="a folder of folders with trace.parquet and trace.json"
    )
    parser.add_argument("--sets", help="only these, by name, separated by commas")
    parser.add_argument("--rivals", default=",".join(KINDS), help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--grain", type=int, default=60, help="minutes to which finer traces are summed; default: 60")
    parser.add_argument("--most", type=int, default=60, help="series of a set for what fits one at a time; default: 60")
    parser.add_argument("--limit", type=float, default=120.0, help="CPU seconds a set for the same; default: 120")
    parser.add_argument(
        "--quick", action="store_true", help="the first 60 series and last two origins of each set, 10 one at a time"
    )
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    parser.add_argument("--out", help="a file for the figures, as JSON")
    arguments = parser.parse_args()
    arguments.rivals = [kind for kind in arguments.rivals.split(",") if kind]
    unknown = set(arguments.rivals) - set(KINDS)
    if unknown:
        parser.error(f"--rivals knows {', '.join(KINDS)}, not {', '.join(sorted(unknown))}")
    if arguments.quick:
        arguments.most = min(arguments.most, 10)
    return arguments


def _sets(arguments: argparse.Namespace) -> list[DataSet]:
    """The sets asked for, the small ones only by name; raises NoData with what can be named."""
    named = arguments.sets.split(",") if arguments.sets else None
    loaders: dict[str, Callable[[], DataSet]] = {}
    if arguments.m4:
        loaders["m4_hourly"] = lambda: forecast_data.m4_hourly(Path(arguments.m4))
    if arguments.traces:
        folders = sorted(p.parent for p in Path(arguments.traces).glob("*/trace.json"))
        if not folders:
            raise NoData(f"{arguments.traces} has no folder with a trace.json; --traces takes the folder above them")
        grain = timedelta(minutes=arguments.grain)
        loaders |= {f.name: lambda f=f: forecast_data.trace(f, grain) for f in folders}  # type: ignore[misc]
    if not loaders:
        loaders["drawn"] = forecast_data.drawn
    if named and set(named) - set(loaders):
        raise NoData(f"--sets: {', '.join(sorted(set(named) - set(loaders)))} not among {', '.join(loaders)}")
    sets = []
    for name in named or loaders:
        try:
            data = loaders[name]()
        except NoData as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if named or len(data.ids) >= forecast_data.LEAST_SERIES:
            sets.append(data.first(60, 2) if arguments.quick else data)
        else:
            print(f"left out unless named in --sets: {name}, {len(data.ids)} series", file=sys.stderr)
    return sets


def _contestants(arguments: argparse.Namespace) -> tuple[list[Contestant], list[str]]:
    """Those that can be imported, and a line for each kind that cannot."""

    def ours() -> list[Contestant]:
        from benchmarks import forecast_ours

        return forecast_ours.contestants(arguments.most, alone="families" in arguments.rivals)

    makers: list[tuple[set[str], str, Callable[[], list[Contestant]]]] = [
        ({"ours", "families"}, "foreshard", ours),
        ({"naive"}, "seasonal naives", forecast_rivals.naives),
        ({"lightgbm"}, "LightGBM (pip install foreshard[ml])", lambda: [forecast_rivals.lightgbm()]),
        ({"stats"}, "statsforecast (pip install foreshard[stats])", lambda: forecast_rivals.statistical(arguments.most)),
        ({"prophet"}, "Prophet", lambda: [forecast_rivals.prophet(arguments.most)]),
    ]
    found, absent = [], []
    for kinds, name, make in makers:
        if kinds & set(arguments.rivals):
            try:
                found += make()
            except (ImportError, OSError) as error:
                absent.append(f"{name}: {error}")
    return found, absent


def _agreement(data: DataSet, arguments: argparse.Namespace, absent: list[str]) -> dict[str, Any] | None:
    """The batched Prophet beside the library, where both are in the run."""
    if not {"prophet", "ours"} <= set(arguments.rivals):
        return None
    try:
        from benchmarks import forecast_agreement

        return forecast_agreement.compare(data, arguments.most)
    except ImportError as error:
        absent.append(f"batched_prophet beside Prophet: {error}")
        return None


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _versions() -> dict[str, str]:
    packages = ("numpy", "prophet", "statsforecast", "mlforecast", "lightgbm")
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages if _is_installed(p)}


if __name__ == "__main__":
    sys.exit(main())
