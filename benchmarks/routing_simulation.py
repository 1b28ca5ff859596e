"""Servers with queues, seen by several gateways: each query's latency under a policy. Same seed, same queries and servers."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.routing_policies import Make, Policy
from foreshard.gateway.activity import LOAD_SECONDS
from foreshard.learning.skill import measured_skill

# Periods from which the forecast's skill is measured: the last ones, as far as there are any.
SKILL_PERIODS = 20


@dataclass(frozen=True)
class World:
    """What is simulated. Seconds; `forecast_error` 0.1: within 10 % of the true capacities, evenly drawn."""

    forecast_error: float
    gateways: int = 4
    servers: int = 50
    service_seconds: float = 0.02  # mean, at capacity 1; lognormal
    sigma: float = 1.0
    utilisation: float = 0.85
    capacities: tuple[float, float] = (0.3, 1.7)  # of their mean
    period: float = 10.0
    stale: float = 1.0
    seconds: float = 150.0
    warm_up: float = 50.0

    @property
    def requests(self) -> float:
        """Per second, at all gateways."""
        return self.utilisation * self.servers / self.service_seconds


class _Server:
    """One query at a time, in order of arrival; `capacity` is its speed, which may change within a query."""

    def __init__(self) -> None:
        self.capacity, self.left, self.since = 1.0, 0.0, 0.0
        self.queue: deque[tuple[int, float, float]] = deque()  # gateway, arrival, work
        self.turn = 0  # of the departure that is in the list of events; older ones there count no more
        self.load, self.load_at = 0.0, 0.0
        self.done = self.busy = 0.0  # in this period

    def load_now(self, at: float) -> float:
        return self.load * math.exp((self.load_at - at) / LOAD_SECONDS)


class Simulation:
    def __init__(self, world: World, seed: int, make: Make) -> None:
        self._world, self._draw = world, np.random.default_rng(seed)
        self._policies: list[Policy] = [make(seed * 100 + gateway) for gateway in range(world.gateways)]
        self._servers = [_Server() for _ in range(world.servers)]
        self._departures: list[tuple[float, int, int]] = []
        self._said: Sequence[float] = [0.0] * world.servers
        self._foreseen: list[float] = []
        self._seen: list[tuple[list[float], list[float]]] = []
        self.latencies: list[float] = []
        self.skill = 1.0

    def run(self) -> npt.NDArray[np.float64]:
        """Seconds of each query that came after the warm-up."""
        world = self._world
        number = int(world.requests * world.seconds)
        arrivals = np.cumsum(self._draw.exponential(1.0 / world.requests, number)).tolist()
        gateways = self._draw.integers(0, world.gateways, number).tolist()
        shift = world.sigma**2 / 2.0
        works = (np.exp(self._draw.normal(-shift, world.sigma, number)) * world.service_seconds).tolist()
        next_period = next_report = 0.0
        for arrival, gateway, work in zip(arrivals, gateways, works, strict=True):
            while min(next_period, next_report) <= arrival:
                if next_period <= next_report:
                    self._depart_until(next_period)
                    self._begin_period(next_period)
                    next_period += world.period
                else:
                    self._depart_until(next_report)
                    self._report(next_report)
                    next_report += world.stale
            self._depart_until(arrival)
            self._arrive(arrival, gateway, work)
        return np.array(self.latencies)

    def _arrive(self, at: float, gateway: int, work: float) -> None:
        index = self._policies[gateway].choose(at)
        server = self._servers[index]
        server.load, server.load_at = server.load_now(at) + 1.0 / LOAD_SECONDS, at
        server.queue.append((gateway, at, work))
        if len(server.queue) == 1:
            self._serve(index, at, work)

    def _serve(self, index: int, at: float, work: float) -> None:
        server = self._servers[index]
        server.left, server.since, server.turn = work, at, server.turn + 1
        heapq.heappush(self._departures, (at + work / server.capacity, index, server.turn))

    def _depart_until(self, until: float) -> None:
        departures = self._departures
        while departures and departures[0][0] <= until:
            at, index, turn = heapq.heappop(departures)
            server = self._servers[index]
            if turn != server.turn:
                continue
            gateway, arrival, _ = server.queue.popleft()
            server.done += 1.0
            server.busy += at - server.since
            self._policies[gateway].answered(index, at, at - arrival)
            if arrival >= self._world.warm_up:
                self.latencies.append(at - arrival)
            if server.queue:
                self._serve(index, at, server.queue[0][2])

    def _report(self, at: float) -> None:
        """Gateways hear now what servers said a staleness ago."""
        for policy in self._policies:
            policy.hear(self._said)
        self._said = [server.load_now(at) for server in self._servers]

    def _begin_period(self, at: float) -> None:
        world = self._world
        self._measure(at)
        drawn = self._draw_capacities()
        for index, server in enumerate(self._servers):
            if server.queue:
                left = server.left - (at - server.since) * server.capacity
                server.busy += at - server.since
                server.capacity = drawn[index]
                self._serve(index, at, max(0.0, left))
            server.capacity = drawn[index]
            server.done = server.busy = 0.0
        wrong = 1.0 + world.forecast_error * self._draw.uniform(-1.0, 1.0, world.servers)
        self._foreseen = [float(c) for c in np.array(drawn) * wrong / world.service_seconds]
        for policy in self._policies:
            policy.foresee(self._foreseen, world.requests, self.skill)

    def _draw_capacities(self) -> list[float]:
        low, high = self._world.capacities
        drawn = self._draw.uniform(low, high, self._world.servers)
        return [float(c) for c in drawn / drawn.mean()]  # so that the utilisation is what it is said to be

    def _measure(self, at: float) -> None:
        """The skill of the forecasts so far, from what each server was seen to answer per busy second."""
        if not self._foreseen:
            return
        pairs = [(f, s.done / s.busy) for f, s in zip(self._foreseen, self._servers, strict=True) if s.done and s.busy > 0.0]
        predicted, observed = np.array([p for p, _ in pairs]), np.array([o for _, o in pairs])
        self._seen.append((list(predicted / predicted.mean()), list(observed / observed.mean())))
        del self._seen[:-SKILL_PERIODS]
        self.skill = measured_skill(
            [p for predicted_, _ in self._seen for p in predicted_], [o for _, observed_ in self._seen for o in observed_]
        )
