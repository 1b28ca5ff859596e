"""Key → slot → first-ranked nodes, one call and batched, beside uhashring; and the ranking of a million shards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from benchmarks.placement_environments import Absent, answer, python_with
from benchmarks.placement_figures import Clock, Figure
from benchmarks.placement_pools import node_names
from foreshard.hashing import node_hashes
from foreshard.ranking import Ranking, first_ranked

NODES, SLOT_BITS, PREFIX = 200, 16, "customer-"
SINGLE, BATCH, THREADS = 1_000_000, 20_000_000, 2


def figures() -> list[Figure]:
    """Keys are `customer-N`, 10 to 17 bytes; 65,536 slots, 200 nodes, three first-ranked nodes a key."""
    ranking = Ranking(node_names(NODES), np.ones(NODES), SLOT_BITS)
    return [_one_call(ranking), *_batched(ranking), *_ranked()]


def _one_call(ranking: Ranking) -> Figure:
    keys = [f"{PREFIX}{i}" for i in range(SINGLE)]
    nodes_of = ranking.nodes_of
    with Clock() as clock:
        for key in keys:
            nodes_of(key)
    try:
        question = {"nodes": NODES, "prefix": PREFIX, "count": SINGLE // 4}
        seconds = answer(python_with("uhashring==2.5"), "placement_uhashring.py", question, 120)["seconds"]
        beside = f"uhashring 2.5: {SINGLE / 4 / seconds / 1e6:.2f}"
    except Absent as error:
        beside = f"uhashring not run: {error}"
    return Figure("key → ranked nodes, one call", SINGLE / clock.cpu / 1e6, "M keys/s", 1.0, True, beside)


def _batched(ranking: Ranking) -> list[Figure]:
    numbers = pa.array(np.arange(BATCH)).cast(pa.string())
    prefix = pa.scalar(PREFIX)
    keys = pa.compute.binary_join_element_wise(prefix, numbers, "")
    ranking.positions_of(keys[:10])
    best = {}
    for threads in (1, THREADS):
        runs = []
        for _ in range(3):
            with Clock() as clock:
                ranking.positions_of(keys, threads=threads)
            runs.append(clock)
        best[threads] = min(runs, key=lambda c: c.wall)
    one, several = best[1], best[THREADS]
    few = keys[: BATCH // 10].to_pylist()
    with Clock() as listed:
        ranking.positions_of(few, threads=THREADS)
    return [
        Figure(
            "key → ranked nodes, batched, 2 threads, wall time",
            BATCH / several.wall / 1e6,
            "M keys/s",
            50.0,
            True,
            f"1 thread: {BATCH / one.wall / 1e6:.0f}; best of 3 runs of {BATCH // 1_000_000} M keys in Arrow",
        ),
        Figure(
            "the same from a Python list", len(few) / listed.wall / 1e6, "M keys/s", beside="most of it makes the Arrow array"
        ),
    ]


def _ranked() -> list[Figure]:
    shards, nodes = 1_000_000, 1_000
    hashes, accepts = node_hashes(node_names(nodes)), np.ones(nodes, dtype=np.bool_)
    mixed = np.random.default_rng(1).uniform(0.5, 4.0, nodes)
    found = []
    for what, weights in (("equal", np.ones(nodes)), ("mixed", mixed)):
        first_ranked(np.arange(10), hashes, weights, accepts, 3)
        with Clock() as clock:
            first_ranked(np.arange(shards), hashes, weights, accepts, 3)
        found.append(clock.figure(f"first three of 1,000 nodes, {what} weights, for 1,000,000 shards", 3.0))
    return found
