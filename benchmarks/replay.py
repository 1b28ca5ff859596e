"""What prediction is worth on recorded loads: every policy on every trace of a folder, each with the one set of defaults.

`python -m benchmarks.replay [--traces folder] [--only taxi-hourly,…] [--out figures.json] [--markdown table.md]`. Each trace is
replayed in a process of its own, and its table is printed as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.placement_figures import Clock, peak_memory
from benchmarks.replay_tables import frontier_table, summary, summary_figures, trace_table

# Times are those of one core.
_ONE_CORE = {variable: "1" for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
TRACES = Path(__file__).resolve().parents[2] / "shared" / "traces"


def main() -> int:
    arguments = _arguments()
    if arguments.alone:
        print(json.dumps(_replayed(arguments.alone, arguments.frontier, arguments.report)))
        return 0
    folders = _chosen(arguments.traces, arguments.only)
    found: dict[str, dict[str, Any]] = {}
    for name, document in _all(folders, arguments):
        if document is not None:
            found[name] = document
            print(_tables(document), end="\n\n", flush=True)
    # In the order of the folders, whichever came first.
    found = {name: found[name] for name in folders if name in found}
    figures = {name: summary_figures(document) for name, document in found.items()}
    table = summary(figures)
    print(table)
    missed = [f"{name}: {figure.what}" for name, of in figures.items() for figure in of if figure.met is False]
    print(f"\nmissed: {'; '.join(missed) or 'none'}")
    failed = [name for name in folders if name not in found]
    if failed:
        print(f"failed: {', '.join(failed)}")
    if arguments.out:
        judged = {name: [vars(figure) | {"met": figure.met} for figure in of] for name, of in figures.items()}
        document = {"traces": found, "figures": judged, "failed": failed}
        Path(arguments.out).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", "utf-8")
    if arguments.markdown:
        parts = [table, *(f"## {name}\n\n{_tables(document)}" for name, document in found.items())]
        Path(arguments.markdown).write_text("\n\n".join(parts) + "\n", "utf-8")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=TRACES, help="a folder of trace folders; default: ../shared/traces")
    parser.add_argument("--only", default="", help="names of trace folders, separated by commas; default: all")
    parser.add_argument("--frontier", action="store_true", help="each policy at several settings as well")
    parser.add_argument("--report", type=Path, help="a folder in which each trace gets a page with pictures")
    parser.add_argument("--jobs", type=int, default=1, help="how many traces are replayed at once; default: 1")
    parser.add_argument("--out", help="a file for all figures, as JSON")
    parser.add_argument("--markdown", help="a file for the tables")
    parser.add_argument("--alone", type=Path, help="one trace's folder in this process, its figures as JSON")
    return parser.parse_args()


def _chosen(traces: Path, only: str) -> dict[str, Path]:
    """Trace folders by name. Ends the program with one sentence if there are none."""
    inside = sorted(traces.iterdir()) if traces.is_dir() else []
    folders = {folder.name: folder for folder in inside if (folder / "trace.json").is_file()}
    if not folders:
        sys.exit(f"there are no traces in {traces}; give a folder that has trace folders in it: make replay TRACES=folder")
    names = [name for name in only.split(",") if name] or list(folders)
    if unknown := [name for name in names if name not in folders]:
        sys.exit(f"no trace {', '.join(unknown)} in {traces}; there are {', '.join(folders)}")
    return {name: folders[name] for name in names}


def _all(folders: dict[str, Path], arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Each trace's name and figures, as they come."""
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        runs = {pool.submit(_apart, folder, arguments): name for name, folder in folders.items()}
        for run in as_completed(runs):
            yield runs[run], run.result()


def _apart(folder: Path, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The figures of one trace, replayed in a process of its own; None if it failed, which is said on stderr."""
    print(f"{folder.name} …", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.replay", "--alone", str(folder)]
    command += ["--frontier"] if arguments.frontier else []
    command += ["--report", str(arguments.report)] if arguments.report else []
    done = subprocess.run(command, env={**os.environ, **_ONE_CORE}, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return None
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _replayed(folder: Path, frontier: bool, report: Path | None) -> dict[str, Any]:
    """One trace under every policy: the command's document, and what the trace is and what the replay took."""
    from foreshard.commands.replay import document
    from foreshard.errors import ForeshardError
    from foreshard.replay.own_data import read_own_or_trace
    from foreshard.replay.playing import frontier as frontier_of
    from foreshard.replay.playing import replay

    try:
        trace = read_own_or_trace(folder)
        with Clock() as clock:
            replayed = replay(trace)
        points = frontier_of(replayed) if frontier else None
        if report is not None:
            from foreshard.replay.report import write_report

            write_report(replayed, report / folder.name, points)
    except ForeshardError as error:
        sys.exit(f"{folder.name}: {error}")
    tested = len(replayed.load.test) * trace.interval_seconds / 86_400
    about = {"entities": trace.entities, "shards": len(trace.shard_ids), "test_days": tested, "cpu_seconds": clock.cpu}
    return document(replayed, points) | about | {"seconds": clock.wall, "peak_memory_gb": peak_memory()}


def _tables(document: dict[str, Any]) -> str:
    curves = frontier_table(document)
    return trace_table(document) + (f"\n\n{curves}" if curves else "")


if __name__ == "__main__":
    sys.exit(main())
