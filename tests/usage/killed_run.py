"""Aggregates an hour and kills its own process, as `kill -9` would, before or after the commit to one table.

`python killed_run.py SETTINGS HOUR TABLE before|after`
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from foreshard import settings as configuration
from foreshard.lake import delta, job, log
from foreshard.lake.session import session
from foreshard.usage.aggregate import aggregate


def dying(commit: Callable[..., Any], path_of: Callable[..., str], table: str, when: str) -> Callable[..., Any]:
    def wrapped(*given: Any, **named: Any) -> Any:
        is_it = path_of(*given).endswith(f"/{table}")
        if is_it and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = commit(*given, **named)
        if is_it:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return wrapped


def main() -> None:
    settings = configuration.load(sys.argv[1])
    hour, table, when = job.hour(sys.argv[2]), sys.argv[3], sys.argv[4]
    spark = session(settings, "killed")
    log.commit_files = dying(log.commit_files, lambda before, *_: before.path, table, when)
    delta.append = dying(delta.append, lambda frame, path, *_: path, table, when)
    delta.replace_where = dying(delta.replace_where, lambda frame, path, *_: path, table, when)
    aggregate(spark, settings, hour, hour + timedelta(hours=1))
    spark.stop()


if __name__ == "__main__":
    main()
