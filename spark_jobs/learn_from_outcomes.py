"""Scores the published forecasts against what came, and corrects nodes whose load differs from what was predicted."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import Any

from foreshard.lake import job
from foreshard.settings import Settings


def main() -> int:
    return job.run("learn_from_outcomes", job.parser(__doc__ or "").parse_args(), work)


def work(spark: Any, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from foreshard.learning.outcomes import learn
    from foreshard.local.postgres import resolve_url
    from foreshard.routing import store
    from foreshard.transition import lease

    url = resolve_url(settings)
    snapshot = store.current(url, settings.pool_id)
    holder = f"learn_from_outcomes on {socket.gethostname()}, process {os.getpid()}"
    with lease.held(url, f"{settings.pool_id}/learn", holder, ttl_seconds=60, wait_seconds=300):
        return learn(spark, settings, dict(snapshot.isolated) if snapshot else {})


if __name__ == "__main__":
    sys.exit(main())
