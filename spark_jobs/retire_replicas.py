"""Carries a plan on from its verified copies: cutting over, and dropping old copies in the end. Starts no Spark session."""

from __future__ import annotations

import json
import sys

from foreshard.errors import ForeshardError
from foreshard.lake import job
from foreshard.settings import load

_PATIENCE_SECONDS = 3600.0


def main() -> int:
    parser = job.parser(__doc__ or "")
    parser.add_argument("--plan", required=True, help="the plan's id, as `foreshard plan show` prints it")
    arguments = parser.parse_args()
    try:
        from foreshard.transition.steps import carry_on

        done = carry_on(load(arguments.settings), arguments.plan, "retire_replicas", seconds=_PATIENCE_SECONDS, wait_seconds=60)
    except ForeshardError as error:
        print(f"retire_replicas: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"plan_id": arguments.plan, "is_over": done.is_over, "next": done.decision.sentence}))
    return 0 if done.is_over else 1


if __name__ == "__main__":
    sys.exit(main())
