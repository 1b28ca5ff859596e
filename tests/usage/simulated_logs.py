"""Logs of simulated nodes whose capacity can be known: queues with several servers, and one server that is shared."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Log:
    """`at`: arrival in seconds; `latency` in milliseconds; `operation`: index of the operation."""

    at: Floats
    latency: Floats
    operation: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Server:
    """`servers` 0 shares one server among all present (M/G/1-PS); n ≥ 1 are n servers with one queue (M/G/n).

    `mean_seconds` of service at one server; `spread`: sigma of a log-normal service time, 1 the exponential when negative.
    """

    servers: int
    mean_seconds: float
    spread: float
    costs: tuple[float, ...] = (1.0,)
    shares: tuple[float, ...] = (1.0,)

    @property
    def saturation(self) -> float:
        """Requests per second at which it is always busy."""
        return max(self.servers, 1) / self.mean_seconds

    def run(self, at: Floats, generator: np.random.Generator) -> Log:
        count = len(at)
        operation = generator.choice(len(self.costs), count, p=self.shares)
        mean_cost = float(np.dot(self.costs, self.shares))
        if self.spread < 0:
            shape = generator.exponential(1.0, count)
        else:
            shape = generator.lognormal(-(self.spread**2) / 2, self.spread, count)
        work = shape * self.mean_seconds * np.array(self.costs)[operation] / mean_cost
        done = _shared(at, work) if self.servers == 0 else _queued(at, work, self.servers)
        return Log(at, (done - at) * 1000, operation)

    def stationary_quantile(self, rate: float, quantile: float, seed: int, count: int = 150_000) -> float:
        """The quantile of latency, ms, at one load that never changes."""
        generator = np.random.default_rng(seed)
        log = self.run(np.cumsum(generator.exponential(1 / rate, count)), generator)
        return float(np.quantile(log.latency[count // 10 :], quantile))


def daily(server: Server, peak: float, days: float, generator: np.random.Generator) -> Floats:
    """Arrivals, seconds: a daily cycle up to `peak`, a share of saturation, down to a tenth of it, and hours that differ."""
    seconds = np.arange(0, days * 86_400, 60.0)
    cycle = 0.55 - 0.45 * np.cos(2 * np.pi * seconds / 86_400)
    hours = np.repeat(generator.normal(1, 0.07, int(days * 24) + 1), 60)[: len(seconds)]
    counts = generator.poisson(peak * server.saturation * cycle * hours * 60)
    return np.sort(np.repeat(seconds, counts) + generator.uniform(0, 60, int(counts.sum())))


def _queued(at: Floats, work: Floats, servers: int) -> Floats:
    free = [0.0] * servers
    done = np.empty(len(at))
    for i, (arrival, need) in enumerate(zip(at.tolist(), work.tolist(), strict=True)):
        done[i] = end = max(arrival, heapq.heappop(free)) + need
        heapq.heappush(free, end)
    return done


def _shared(at: Floats, work: Floats) -> Floats:
    """Each of n present jobs gets 1/n of the server: a job leaves when the work done per job has grown by its own."""
    present: list[tuple[float, int]] = []
    done = np.empty(len(at))
    now = given = 0.0
    arrivals, needs = [*at.tolist(), float("inf")], work.tolist()
    for i, arrival in enumerate(arrivals):
        while present:
            leaves = now + (present[0][0] - given) * len(present)
            if leaves > arrival:
                break
            given, job = heapq.heappop(present)
            now = done[job] = leaves
        if i < len(needs):
            if present:
                given += (arrival - now) / len(present)
            now = arrival
            heapq.heappush(present, (given + needs[i], i))
    return done
