"""Scores the published forecasts against what came, and corrects nodes whose load differs from what was predicted."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from foreshard.lake import job
from foreshard.settings import Settings


def main() -> int:
    return job.run("learn_from_outcomes", job.parser(__doc__ or "").parse_args(), work)


def work(spark: Any, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from foreshard.learning.correction import relative
    from foreshard.learning.outcomes import learn
    from foreshard.local.postgres import resolve_url
    from foreshard.routing import corrections, pool, store
    from foreshard.transition import lease

    url = resolve_url(settings)
    with lease.sole_writer(url, settings.pool_id, "learn_from_outcomes"):
        done = learn(spark, settings, store.isolated_entities(url, settings.pool_id))
        corrections.write_learnt(url, settings.pool_id, relative(done["corrections"]))
        shadow_mode = pool.read_pool(url, settings.pool_id).shadow_mode
        # Plans are still made with what was learnt.
        return {**done, "not_written": f"{shadow_mode}: nothing is written for gateways"} if shadow_mode else done


if __name__ == "__main__":
    sys.exit(main())
