"""Who chooses a server in the simulation: the router itself, plain power of two choices, and Peak-EWMA."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from foreshard.gateway.activity import Outcome
from foreshard.gateway.decision import Decision
from foreshard.gateway.query import Query
from foreshard.gateway.router import Router
from foreshard.model import Node, Replica
from foreshard.routing.snapshot import PredictedLoad, Snapshot

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_QUERY = Query("entity", "service", "operation", _BEGIN, _BEGIN + timedelta(hours=1))


class Policy(Protocol):
    """One gateway's choice of a server; times are the simulation's seconds."""

    def foresee(self, capacities: Sequence[float], requests: float, skill: float) -> None:
        """What the forecast says of the period that begins: requests per second of each server and of all queries."""

    def hear(self, loads: Sequence[float]) -> None:
        """What the servers said of their loads, requests per second."""

    def choose(self, at: float) -> int: ...

    def answered(self, server: int, at: float, seconds: float) -> None: ...


class Ours:
    """`foreshard.gateway.router.Router`, told of each period by an epoch."""

    def __init__(self, servers: int, seed: int, period: float) -> None:
        self._at = 0.0
        self._period, self._epoch = period, 0
        self._router = Router(seed=seed, monotonic=lambda: self._at)
        self._ids = [str(server) for server in range(servers)]
        self._sent: list[list[Decision]] = [[] for _ in range(servers)]

    def foresee(self, capacities: Sequence[float], requests: float, skill: float) -> None:
        begin = _BEGIN + timedelta(seconds=self._period * self._epoch)
        self._epoch += 1
        nodes = tuple(Node(i, c, url="http://" + i) for i, c in zip(self._ids, capacities, strict=True))
        replicas = tuple(Replica(0, i, c / sum(capacities)) for i, c in zip(self._ids, capacities, strict=True))
        predicted = (PredictedLoad(0, begin, requests),)
        self._router.adopt(
            Snapshot(
                "pool", self._epoch, self._epoch - 1, 0, int(self._period), 7, 90, nodes, replicas, (), predicted, (), skill
            )
        )

    def hear(self, loads: Sequence[float]) -> None:
        for node_id, load in zip(self._ids, loads, strict=True):
            self._router.observe(node_id, load=load)

    def choose(self, at: float) -> int:
        self._at = at
        decision = self._router.route(_QUERY, now=_BEGIN + timedelta(seconds=at))
        self._router.started(decision)
        server = int(decision.node_id)
        self._sent[server].append(decision)
        return server

    def answered(self, server: int, at: float, seconds: float) -> None:
        self._at = at
        self._router.finished(self._sent[server].pop(), Outcome(False, seconds))


class PowerOfTwo:
    """As Envoy's and HAProxy's least requests of two random servers, which know what they themselves have in flight."""

    def __init__(self, servers: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._servers = range(servers)
        self.in_flight = [0] * servers

    def foresee(self, capacities: Sequence[float], requests: float, skill: float) -> None: ...

    def hear(self, loads: Sequence[float]) -> None: ...

    def choose(self, at: float) -> int:
        one, other = self._random.sample(self._servers, 2)
        chosen = one if self.cost(one, at) <= self.cost(other, at) else other
        self.in_flight[chosen] += 1
        return chosen

    def cost(self, server: int, at: float) -> float:
        return self.in_flight[server]

    def answered(self, server: int, at: float, seconds: float) -> None:
        self.in_flight[server] -= 1


class PeakEwma(PowerOfTwo):
    """As in Finagle and linkerd: two at random by latency × (in flight + 1); latency jumps to peaks and decays in 10 s."""

    DECAY_SECONDS = 10.0
    PENALTY = float(1 << 16)  # of a server with queries in flight that has not answered yet

    def __init__(self, servers: int, seed: int) -> None:
        super().__init__(servers, seed)
        self._latency = [0.0] * servers
        self._stamp = [0.0] * servers

    def cost(self, server: int, at: float) -> float:
        self._observe(server, at, 0.0)
        latency, in_flight = self._latency[server], self.in_flight[server]
        return self.PENALTY + in_flight if latency == 0.0 and in_flight else latency * (in_flight + 1)

    def answered(self, server: int, at: float, seconds: float) -> None:
        super().answered(server, at, seconds)
        self._observe(server, at, seconds)

    def _observe(self, server: int, at: float, seconds: float) -> None:
        old = self._latency[server]
        weight = math.exp((self._stamp[server] - at) / self.DECAY_SECONDS)
        self._latency[server] = seconds if seconds > old else old * weight + seconds * (1.0 - weight)
        self._stamp[server] = at


Make = Callable[[int], Policy]
