"""Drops the copies that a published plan no longer routes to. Whole partitions go, so no Spark session is started."""

from __future__ import annotations

import json
import sys

from foreshard.errors import ForeshardError
from foreshard.lake import job
from foreshard.settings import load


def main() -> int:
    parser = job.parser(__doc__ or "")
    parser.add_argument("--plan", required=True, help="the plan's id, as `foreshard plan show` prints it")
    arguments = parser.parse_args()
    try:
        from foreshard.transition.steps import retire

        print(json.dumps({"plan_id": arguments.plan, "retired": retire(load(arguments.settings), arguments.plan)}))
        return 0
    except ForeshardError as error:
        print(f"retire_replicas: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
