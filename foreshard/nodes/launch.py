"""Becomes a node's process: takes the node's lock, records who it is, then runs the command in its own place.

The lock lasts as long as the process, whoever starts or kills it, so that no node ever runs twice and a record left by a
killed process is known to be one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import time
from pathlib import Path

import psutil

LOCK, RECORD = "lock", "process.json"
ALREADY_RUNS, NO_PROGRAM = 75, 127
# Somebody who looks whether the node runs holds the lock for a moment.
_ATTEMPTS, _PAUSE_SECONDS = 20, 0.05


def launch(folder: Path, command: list[str]) -> int:
    """Becomes the command; else returns ALREADY_RUNS if the node has a process, NO_PROGRAM if there is none to run."""
    if shutil.which(command[0]) is None:  # before anything is recorded of a process that would not last
        print(f"there is no program {command[0]}", file=sys.stderr)
        return NO_PROGRAM
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
    else:
        return ALREADY_RUNS
    os.set_inheritable(lock, True)
    me = psutil.Process()
    record = folder / f"{RECORD}.{me.pid}"
    record.write_text(json.dumps({"pid": me.pid, "started": me.create_time()}), "utf-8")
    record.replace(folder / RECORD)
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(launch(Path(sys.argv[1]), sys.argv[2:]))
