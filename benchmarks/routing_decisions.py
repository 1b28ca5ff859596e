"""How many decisions a second one core makes, and how long the slowest take: 256 shards × 3 replicas, 50 pipelines.

Every decision checks the versions that a token asks for and weighs reported and predicted loads. CPU time, because other work
on the machine lengthens wall time; the latter is told beside it. Rival: least requests of two random replicas, as in Envoy, in
the same Python without any check.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.placement_figures import Figure
from foreshard.gateway.activity import Outcome
from foreshard.gateway.query import Query
from foreshard.gateway.router import Router
from foreshard.hashing import entity_slot
from foreshard.model import Node, Replica
from foreshard.routing.snapshot import PredictedLoad, Snapshot
from foreshard.slots import entity_slots

SLOT_BITS, REPLICAS, PIPELINES = 8, 3, 50
ENTITIES = 20_000
ROUNDS, DECISIONS = 7, 100_000
BATCH = 1_000_000
NOW = datetime(2026, 1, 1, 5, 30, tzinfo=UTC)
START = NOW - timedelta(days=1)
VERSION = 7
_ANSWER = Outcome(False, latency_seconds=0.004, load=40.0, applied_version=VERSION)


def figures() -> list[Figure]:
    router, in_flight = _router(), [0] * PIPELINES
    queries = [Query(f"entity-{i:06d}", "service", "operation", START, NOW) for i in range(ENTITIES)]
    assert router.table is not None
    holders: list[list[int]] = [[] for _ in range(1 << SLOT_BITS)]
    for replica in router.table.snapshot.replicas:
        holders[replica.shard_id].append(int(replica.node_id))

    def ours(i: int) -> None:
        router.route(queries[i % ENTITIES], now=NOW, minimum_version=VERSION)

    def whole(i: int) -> None:
        decision = router.route(queries[i % ENTITIES], now=NOW, minimum_version=VERSION)
        router.started(decision)
        router.finished(decision, _ANSWER)

    def rival(i: int) -> None:
        one, other = random.sample(holders[entity_slot(queries[i % ENTITIES].entity_id, SLOT_BITS)], 2)
        in_flight[one if in_flight[one] <= in_flight[other] else other] += 1

    rates = {
        name: [_rate(choose) for _ in range(ROUNDS)] for name, choose in (("ours", ours), ("whole", whole), ("rival", rival))
    }
    slow = {name: _slowest(choose) for name, choose in (("ours", ours), ("rival", rival))}
    cpu, wall = max(rates["ours"])
    least = min(rate for rate, _ in rates["ours"])
    load = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.0f}"
    beside = f"worst of {ROUNDS} rounds {least:,.0f}; wall {wall:,.0f}; {load}; rival {max(rates['rival'])[0]:,.0f}"
    fastest, wall_fastest = _batches(router, queries)
    return [
        Figure("Router.route, decisions, CPU time, best round", cpu, "/s", 300_000, True, beside),
        Figure("Router.route, started and finished", max(rates["whole"])[0], "/s"),
        *(
            Figure(
                f"Router.route, {name}, best round",
                ours_.min(),
                "µs",
                reach,
                beside=f"median round {np.median(ours_):.3g} µs; rival {rivals.min():.3g} µs, {np.median(rivals):.3g} µs",
            )
            for name, ours_, rivals, reach in zip(
                ("p50", "p99", "p99.9"), slow["ours"], slow["rival"], (None, None, 20.0), strict=True
            )
        ),
        Figure("Router.route_many, queries, CPU time", fastest, "/s", 10_000_000, True, f"wall {wall_fastest:,.0f}"),
    ]


def _router() -> Router:
    draw = random.Random(1)
    nodes = tuple(Node(str(i), 100.0, url=f"http://10.0.0.{i}:8080") for i in range(PIPELINES))
    replicas, predicted = [], []
    for shard in range(1 << SLOT_BITS):
        for node, weight in zip(draw.sample(range(PIPELINES), REPLICAS), (0.4, 0.35, 0.25), strict=True):
            replicas.append(Replica(shard, str(node), weight))
        predicted += [PredictedLoad(shard, NOW.replace(hour=h, minute=0), draw.uniform(1.0, 19.0)) for h in range(24)]
    router = Router(seed=1)
    router.adopt(
        Snapshot("pool", 1, 0, SLOT_BITS, 3600, 7, 90, nodes, tuple(replicas), (), tuple(predicted), (), 0.8, (("3", 1.2),))
    )
    for node in nodes:
        router.observe(node.node_id, load=draw.uniform(10.0, 60.0), applied=dict.fromkeys(range(1 << SLOT_BITS), VERSION))
    return router


def _rate(choose: Callable[[int], None]) -> tuple[float, float]:
    """Decisions per second of CPU time and of wall time."""
    wall, cpu = time.perf_counter(), time.thread_time()
    for i in range(DECISIONS):
        choose(i)
    return DECISIONS / (time.thread_time() - cpu), DECISIONS / (time.perf_counter() - wall)


def _slowest(choose: Callable[[int], None]) -> np.ndarray:
    """p50, p99 and p99.9 of single decisions, microseconds of wall time, shape (3, rounds).

    Reading the CPU clock would cost as much as half a decision, and the tail of both is what else the machine does.
    """
    rounds, clock = [], time.perf_counter_ns
    for _ in range(3 * ROUNDS):
        taken = np.zeros(DECISIONS // 3)
        for i in range(len(taken)):
            begin = clock()
            choose(i)
            taken[i] = clock() - begin
        rounds.append(np.quantile(taken, (0.5, 0.99, 0.999)) / 1e3)
    print(f"  p99.9 of each round: {', '.join(f'{r[2]:.1f}' for r in rounds)} µs", file=sys.stderr)
    return np.array(rounds).T


def _batches(router: Router, queries: list[Query]) -> tuple[float, float]:
    """Queries per second of CPU time and of wall time, the best of the rounds; compiled before."""
    slots = np.tile(entity_slots([q.entity_id for q in queries], SLOT_BITS), BATCH // ENTITIES)
    rates = []
    for _ in range(ROUNDS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        batch = router.route_many(slots, range_start=START, now=NOW, minimum_version=VERSION)
        rates.append((BATCH / (time.process_time() - cpu), BATCH / (time.perf_counter() - wall)))
        assert batch.chosen.min() >= 0
    return max(rates[1:])
