"""Running one of the project's Spark jobs on this machine, as spark-submit would be called by hand."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foreshard.errors import ForeshardError
from foreshard.local.niceness import lowered
from foreshard.local.spark import environment, submit_command
from foreshard.settings import Settings


def job_script(name: str) -> Path:
    """The path of a job's script in the checkout."""
    return Path(__file__).resolve().parents[2] / "spark_jobs" / f"{name}.py"


def submit(
    settings: Settings,
    job: str,
    arguments: Sequence[str],
    log: Path | None = None,
    conf: Mapping[str, str] | None = None,
    nice: int = 0,
) -> dict[str, Any]:
    """Runs the job to its end and returns the JSON object of its last line.

    `conf` is more Spark configuration; `nice` above 0 is the job's niceness. What Spark itself prints goes to `log` (default:
    home/logs/<job>.log).
    Raises ForeshardError with the job's own sentence.
    """
    chosen = [] if settings.path is None else ["--settings", str(settings.path)]
    command = submit_command(settings, job_script(job), [*chosen, *arguments], conf=conf)
    if nice:
        command = lowered(command, nice)
    target = log or settings.home / "logs" / f"{job}.log"
    target.parent.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, **environment()}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, start_new_session=nice > 0)
    target.write_text(done.stderr + done.stdout, "utf-8")
    if done.returncode != 0:
        # spark-submit passes all that the job writes to its own standard output.
        lines = [*done.stderr.splitlines(), *done.stdout.splitlines()]
        said = [line for line in lines if line.startswith(f"{job}: ")]
        raise ForeshardError(said[-1] if said else f"{job} failed; see {target}")
    lines = done.stdout.strip().splitlines()
    result: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return result
