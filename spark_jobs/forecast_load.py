"""Forecasts the load of every shard from the newest complete hour on, and what its queries will ask for."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from foreshard.lake import job
from foreshard.settings import Settings


def main() -> int:
    return job.run("forecast_load", job.parser(__doc__ or "").parse_args(), work)


def work(spark: Any, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from foreshard.forecast.publish import forecast_load
    from foreshard.local.postgres import resolve_url
    from foreshard.routing import store
    from foreshard.transition import lease

    url = resolve_url(settings)
    with lease.sole_writer(url, settings.pool_id, "forecast_load"):
        return forecast_load(spark, settings, store.isolated_entities(url, settings.pool_id))


if __name__ == "__main__":
    sys.exit(main())
