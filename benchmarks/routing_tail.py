"""The 99th percentile of simulated latencies under the router, plain power of two choices, and Peak-EWMA.

4 gateways, 50 servers that serve one query at a time in order of arrival, Poisson arrivals at 85 % utilisation, lognormal
service times (σ 1, mean 20 ms), capacities drawn anew every 10 s evenly from 0.3-1.7 × their mean. Known to gateways: what they
have in flight and what was answered, at once; each server's load, once a second and a second old; the forecast of the
capacities, wrong by up to 10 % or 60 % (evenly drawn). Its skill is measured as in production, on the periods before.
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.placement_figures import Figure
from benchmarks.routing_policies import Make, Ours, PeakEwma, PowerOfTwo
from benchmarks.routing_simulation import Simulation, World

SEEDS = (1, 2, 3, 4, 5)


def figures() -> list[Figure]:
    near, far, slow = World(0.1), World(0.6), World(0.1, service_seconds=0.05, seconds=250.0)

    def ours(seed: int) -> Ours:
        return Ours(near.servers, seed, near.period)

    plain, _ = _p99(near, lambda seed: PowerOfTwo(near.servers, seed), "power of two")
    peak, _ = _p99(near, lambda seed: PeakEwma(near.servers, seed), "Peak-EWMA")
    good, good_skill = _p99(near, ours, "ours, 10 %")
    bad, bad_skill = _p99(far, ours, "ours, 60 %")
    slow_plain, _ = _p99(slow, lambda seed: PowerOfTwo(near.servers, seed), "power of two, queries of 50 ms")
    slow_good, _ = _p99(slow, ours, "ours, queries of 50 ms")
    seconds = f"p99 {_ms(good)} against {_ms(plain)}"
    return [
        *_ratio("p99 against plain power of two choices", good / plain, 0.4, f"{seconds}; skill measured {good_skill:.2f}"),
        *_ratio("p99 against Peak-EWMA", good / peak, 0.6, f"p99 {_ms(good)} against {_ms(peak)}"),
        *_ratio(
            "p99 against plain power of two choices, forecast wrong by up to 60 %",
            bad / plain,
            1.05,
            f"p99 {_ms(bad)} against {_ms(plain)}; skill measured {bad_skill:.2f}",
        ),
        *_ratio("p99 against plain power of two choices, queries of 50 ms", slow_good / slow_plain, None),
    ]


def _p99(world: World, make: Make, name: str) -> tuple[np.ndarray, float]:
    """Of each seed, in seconds, and the mean of the skills at the end."""
    found, skills = [], []
    for seed in SEEDS:
        simulation = Simulation(world, seed, make)
        found.append(float(np.quantile(simulation.run(), 0.99)))
        skills.append(simulation.skill)
        print(f"  {name}, seed {seed}: p99 {found[-1] * 1e3:.0f} ms", file=sys.stderr, flush=True)
    return np.array(found), float(np.mean(skills))


def _ratio(what: str, ratios: np.ndarray, reach: float | None, beside: str = "") -> list[Figure]:
    return [
        Figure(f"{what}, mean of {len(SEEDS)} seeds", float(ratios.mean()), "×", reach, beside=beside),
        Figure(f"{what}, worst seed", float(ratios.max()), "×", reach if reach and reach > 1 else None),
    ]


def _ms(seconds: np.ndarray) -> str:
    return f"{seconds.mean() * 1e3:.0f} ms"
