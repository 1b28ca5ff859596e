"""What benchmarks of several parts share: each part is a file with `figures() -> list[Figure]`, run in a process of its own.

So each part's peak of memory is its own, and what one has compiled or loaded does not help the next.
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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.placement_figures import Figure, table

# What is measured is one core's work, unless a part says otherwise itself.
_ONE_CORE = {variable: "1" for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def main(subject: str, parts: Sequence[str], packages: Sequence[str], description: str | None) -> int:
    """Runs the files `benchmarks/<subject>_<part>.py` and prints their tables; 1 if one of them failed.

    `packages`: whose versions the file of `--out` tells.
    """
    arguments = _arguments(parts, description)
    if arguments.alone:
        figures: list[Figure] = importlib.import_module(f"benchmarks.{subject}_{arguments.alone}").figures()
        print(json.dumps([asdict(figure) for figure in figures]))
        return 0
    found: dict[str, Any] = {}
    failed = []
    for part in arguments.only:
        print(f"{part} …", file=sys.stderr, flush=True)
        apart = _apart(subject, part)
        if apart is None:
            failed.append(part)
            continue
        found[part] = [asdict(figure) | {"met": figure.met} for figure in apart]
        print(table(part, apart), end="\n\n", flush=True)
    missed = [f"{part}: {figure['what']}" for part, rows in found.items() for figure in rows if figure["met"] is False]
    print(f"missed: {'; '.join(missed) or 'none'}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    if arguments.out:
        versions = {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages}
        document = {"versions": versions, "figures": found, "failed": failed}
        Path(arguments.out).write_text(json.dumps(document, indent=2), "utf-8")
    return 1 if failed else 0


def _arguments(parts: Sequence[str], description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(parts), help=f"of {', '.join(parts)}, separated by commas; default: all")
    parser.add_argument("--out", help="a file for the figures, as JSON")
    parser.add_argument("--alone", choices=parts, help="one part in this process, its figures as JSON")
    arguments = parser.parse_args()
    arguments.only = [part for part in arguments.only.split(",") if part]
    if unknown := set(arguments.only) - set(parts):
        parser.error(f"--only knows {', '.join(parts)}, not {', '.join(sorted(unknown))}")
    return arguments


def _apart(subject: str, part: str) -> list[Figure] | None:
    """The figures of one part, run in a process of its own; None if it failed, which is said on stderr."""
    command = [sys.executable, "-m", f"benchmarks.{subject}", "--alone", part]
    done = subprocess.run(command, env={**os.environ, **_ONE_CORE}, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return None
    return [Figure(**figure) for figure in json.loads(done.stdout.strip().splitlines()[-1])]
