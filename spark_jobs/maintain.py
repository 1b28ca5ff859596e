"""Compacts the tables, drops days past their retention and removes files that no version needs any more."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from foreshard.lake import job
from foreshard.settings import Settings


def main() -> int:
    parser = job.parser(__doc__ or "")
    parser.add_argument("--minutes", type=float, default=30.0, help="begin no further table after so many minutes")
    return job.run("maintain", parser.parse_args(), work)


def work(spark: Any, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import entity_shards
    from foreshard.upkeep.run import maintain

    url = resolve_url(settings)
    return maintain(spark, settings, url, arguments.minutes, entity_shards.known(url, settings.pool_id))


if __name__ == "__main__":
    sys.exit(main())
