"""Copies the replicas that a plan adds at a pinned version of the source, and verifies them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from foreshard.lake import job
from foreshard.settings import Settings


def main() -> int:
    parser = job.parser(__doc__ or "")
    parser.add_argument("--plan", required=True, help="the plan's id, as `foreshard plan show` prints it")
    return job.run("warm_up_replicas", parser.parse_args(), work)


def work(spark: Any, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from foreshard.errors import Refused
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import entity_shards, store
    from foreshard.transition.spark_steps import warm_up

    url = resolve_url(settings)
    try:
        return warm_up(spark, settings, url, arguments.plan, entity_shards.known(url, settings.pool_id))
    except Refused as refused:
        # Another run may have ended the plan while this job waited for its turn: then nothing is wrong.
        if store.read_plan(url, settings.pool_id, arguments.plan).state != "done":
            raise
        return {"plan_id": arguments.plan, "rows": 0, "replicas": 0, "next": str(refused)}


if __name__ == "__main__":
    sys.exit(main())
