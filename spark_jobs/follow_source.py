"""Brings every node's serving copies to the newest version of usage_hourly."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from foreshard.lake import job
from foreshard.settings import Settings


def main() -> int:
    return job.run("follow_source", job.parser(__doc__ or "").parse_args(), work)


def work(spark: Any, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import entity_shards
    from foreshard.transition.following import follow_source

    url = resolve_url(settings)
    return follow_source(spark, settings, url, entity_shards.known(url, settings.pool_id))


if __name__ == "__main__":
    sys.exit(main())
