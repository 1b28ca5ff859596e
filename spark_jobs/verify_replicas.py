"""Verifies the replicas that a plan added again, without copying."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from foreshard.lake import job
from foreshard.settings import Settings


def main() -> int:
    parser = job.parser(__doc__ or "")
    parser.add_argument("--plan", required=True, help="the plan's id, as `foreshard plan show` prints it")
    return job.run("verify_replicas", parser.parse_args(), work)


def work(spark: Any, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import entity_shards
    from foreshard.transition.spark_steps import verify_again

    url = resolve_url(settings)
    return verify_again(settings, url, arguments.plan, entity_shards.known(url, settings.pool_id))


if __name__ == "__main__":
    sys.exit(main())
