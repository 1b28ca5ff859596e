"""What every Spark job does around its own work: arguments, session, one JSON line at the end, one sentence on failure."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from foreshard.errors import ForeshardError
from foreshard.settings import Settings, load

Work = Callable[[Any, Settings, argparse.Namespace], dict[str, Any]]


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with what all jobs take."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--settings", help="the settings file (TOML); default: FORESHARD_SETTINGS, then ./foreshard.toml")
    return made


def hour(value: str) -> datetime:
    """An argument that names a whole UTC hour, ISO 8601; raises argparse's own error otherwise."""
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not an ISO 8601 time, such as 2013-11-28T05:00:00") from None
    parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    if (parsed.minute, parsed.second, parsed.microsecond) != (0, 0, 0):
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole hour")
    return parsed


def run(name: str, arguments: argparse.Namespace, work: Work) -> int:
    """Runs `work(spark, settings, arguments)` and prints its result as one JSON line; returns the exit status."""
    # The session and Great Expectations both take seconds to load; they do so side by side.
    threading.Thread(target=_load_checks, daemon=True).start()
    try:
        settings = load(arguments.settings)
        from foreshard.lake.session import session

        spark = session(settings, name)
    except ForeshardError as error:
        return _failed(name, str(error))
    try:
        print(json.dumps(work(spark, settings, arguments), default=str, sort_keys=True), flush=True)
        return 0
    except ForeshardError as error:
        return _failed(name, str(error))
    except Exception as error:
        if os.environ.get("FORESHARD_TRACEBACK"):
            raise
        return _failed(name, _first_cause(error) + " (set FORESHARD_TRACEBACK=1 for the traceback)")
    finally:
        spark.stop()


def _load_checks() -> None:
    from foreshard.checks.gate import load_library

    load_library()


def _first_cause(error: Exception) -> str:
    """The sentence at the root of an error that came through Spark, without its stack."""
    own = re.search(r"^foreshard\.errors\.ForeshardError: (.+)$", str(error), re.MULTILINE)
    if own:
        return own[1]
    java = getattr(error, "java_exception", None)
    if java is None:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    file = ""
    while java.getCause() is not None:
        file = file or _unreadable_file(str(java.getMessage()))
        java = java.getCause()
    lines = str(java.getMessage() or java.toString()).splitlines()
    cause = lines[0] if lines else str(java.toString())
    return f"cannot read the file {file}: {cause}; repair, rename or remove it and run again" if file else cause


def _unreadable_file(message: str) -> str:
    found = re.search(r"FAILED_READ_FILE\S* Encountered error while reading file (.+?)\.\s", message)
    return found[1] if found else ""


def _failed(name: str, sentence: str) -> int:
    print(f"{name}: {sentence}", file=sys.stderr, flush=True)
    return 1
