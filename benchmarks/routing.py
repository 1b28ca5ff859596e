"""Routing beside rivals and bounds in one run: how fast gateways choose, and how long the slowest queries then take.

`python -m benchmarks.routing [--only decisions,tail,…] [--out figures.json]`. Each benchmark is a file `routing_<name>.py` with
a function `figures() -> list[Figure]`, run in a process of its own; to add one, write the file and put its name into NAMES.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.placement_figures import Figure, table

NAMES = ("decisions", "tail", "publish", "gateway")
PACKAGES = ("numpy", "numba", "xxhash")


def main() -> int:
    arguments = _arguments()
    if arguments.alone:
        figures: list[Figure] = importlib.import_module(f"benchmarks.routing_{arguments.alone}").figures()
        print(json.dumps([asdict(figure) for figure in figures]))
        return 0
    found: dict[str, Any] = {}
    failed = []
    for name in arguments.only:
        print(f"{name} …", file=sys.stderr, flush=True)
        apart = _apart(name)
        if apart is None:
            failed.append(name)
            continue
        found[name] = [asdict(figure) | {"met": figure.met} for figure in apart]
        print(table(name, apart), end="\n\n", flush=True)
    missed = [f"{name}: {figure['what']}" for name, rows in found.items() for figure in rows if figure["met"] is False]
    print(f"missed: {'; '.join(missed) or 'none'}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    if arguments.out:
        document = {"versions": _versions(), "figures": found, "failed": failed}
        Path(arguments.out).write_text(json.dumps(document, indent=2), "utf-8")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(NAMES), help=f"of {', '.join(NAMES)}, separated by commas; default: all")
    parser.add_argument("--out", help="a file for the figures, as JSON")
    parser.add_argument("--alone", choices=NAMES, help="one benchmark in this process, its figures as JSON")
    arguments = parser.parse_args()
    arguments.only = [name for name in arguments.only.split(",") if name]
    if unknown := set(arguments.only) - set(NAMES):
        parser.error(f"--only knows {', '.join(NAMES)}, not {', '.join(sorted(unknown))}")
    return arguments


def _apart(name: str) -> list[Figure] | None:
    """The figures of one benchmark, run in a process of its own; None if it failed, which is said on stderr."""
    one_core = {variable: "1" for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    command = [sys.executable, "-m", "benchmarks.routing", "--alone", name]
    done = subprocess.run(command, env={**os.environ, **one_core}, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return None
    return [Figure(**figure) for figure in json.loads(done.stdout.strip().splitlines()[-1])]


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES}


if __name__ == "__main__":
    sys.exit(main())
