"""Takes in the files of some landing hours: records, quarantine, hourly usage, load per slot and observed query patterns."""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from typing import Any

from foreshard.lake import job
from foreshard.settings import Settings


def main() -> int:
    parser = job.parser(__doc__ or "")
    parser.add_argument("--from", dest="start", type=job.hour, required=True, help="first landing hour, ISO 8601 UTC")
    parser.add_argument("--to", dest="end", type=job.hour, required=True, help="the hour after the last one")
    arguments = parser.parse_args()
    if arguments.end <= arguments.start:
        parser.error("--to must be after --from")
    return job.run("aggregate", arguments, work)


def work(spark: Any, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import lease, store
    from foreshard.usage import volume
    from foreshard.usage.aggregate import aggregate

    url = resolve_url(settings)
    is_one_hour = arguments.end - arguments.start == timedelta(hours=1)
    usual = volume.usual_rows(url, settings.pool_id, arguments.start) if is_one_hour else {}
    with lease.sole_writer(url, settings.pool_id, "aggregate"):
        result = aggregate(spark, settings, arguments.start, arguments.end, usual)
    if is_one_hour:
        volume.record(url, settings.pool_id, arguments.start, result.counts)
    store.mark_files_applied(url, settings.pool_id, result.files["usage_record"], result.versions["usage_hourly"])
    return result.as_document()


if __name__ == "__main__":
    sys.exit(main())
