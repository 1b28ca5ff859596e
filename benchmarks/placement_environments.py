"""Environments of their own for rivals that the project does not depend on, made under var/ when first needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[1] / "var" / "benchmark-placement"
NEWER = ("python3.12", "python3.13", "python3.14")


class Absent(Exception):
    """A rival that cannot be had here, and why."""


def python_with(requirement: str, least: tuple[int, int] = (3, 11)) -> Path:
    """The interpreter of an environment in which `requirement` (name==version) is installed; raises Absent with the reason."""
    folder = HOME / requirement.replace("==", "-")
    python, stamp = folder / "bin" / "python", folder / "installed"
    if stamp.exists() and _version(str(python)) >= least:
        return python
    base = sys.executable if sys.version_info[:2] >= least else _newer(least)
    _run([base, "-m", "venv", "--clear", str(folder)], f"an environment for {requirement}")
    _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement], requirement)
    stamp.touch()
    return python


def answer(python: Path, script: str, question: Any, seconds: float) -> Any:
    """What benchmarks/`script` writes as JSON, run by that interpreter with `question` as JSON on its standard input."""
    path = Path(__file__).with_name(script)
    try:
        done = subprocess.run(
            [str(python), str(path)], input=json.dumps(question), capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Absent(f"{script} took more than {seconds:.0f} s") from error
    if done.returncode != 0:
        raise Absent(f"{script} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _newer(least: tuple[int, int]) -> str:
    """A Python of at least that version: on the PATH, of pyenv, or of uv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [found for name in NEWER if (found := shutil.which(name))]
    candidates += sorted(str(path) for name in NEWER for path in pyenv.glob(f"*/bin/{name}"))
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv:
        wanted = ".".join(map(str, least))
        found = subprocess.run([uv, "python", "find", wanted], capture_output=True, text=True, check=False)
        candidates.append(found.stdout.strip())
    for candidate in candidates:
        if candidate and _version(candidate) >= least:
            return candidate
    raise Absent(f"no Python {least[0]}.{least[1]} or later on the PATH, of pyenv or of uv")


def _version(python: str) -> tuple[int, int]:
    """Its version, (0, 0) if it does not run."""
    try:
        code = "import sys; print(*sys.version_info[:2])"
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        major, minor = found.stdout.split()
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0, 0
    return int(major), int(minor)


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Absent(f"{what} could not be installed: {' '.join(done.stderr.strip().splitlines()[-1:])}")
