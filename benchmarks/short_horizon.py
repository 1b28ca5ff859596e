"""What one interval of the short-horizon forecast costs, beside one pass over the same arrays.

`python -m benchmarks.short_horizon [--shards 1000000]`
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np

from foreshard.forecast.short_horizon import ShortHorizon


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=1_000_000)
    parser.add_argument("--intervals", type=int, default=12)
    arguments = parser.parse_args()
    draw = np.random.default_rng(0)
    slow = draw.uniform(1, 100, arguments.shards).astype(np.float32)
    ahead = np.stack([slow] * 3)
    model = ShortHorizon(arguments.shards, (1, 5, 8))
    updates, forecasts, passes = [], [], []
    for _ in range(arguments.intervals):
        load = slow * draw.uniform(0.5, 1.5, arguments.shards).astype(np.float32)
        began = time.process_time()
        model.update(load, slow)
        updated = time.process_time()
        model.predict(ahead)
        done = time.process_time()
        np.add(load, slow)
        updates.append(updated - began)
        forecasts.append(done - updated)
        passes.append(time.process_time() - done)
    one = statistics.median(passes)
    for name, found in (("update", updates), ("forecast of three horizons with quantiles", forecasts), ("one pass", passes)):
        seconds = statistics.median(found[-3:])
        print(f"{name:42} {1000 * seconds:8.1f} ms {seconds / one:8.0f} passes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
