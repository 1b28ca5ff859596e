"""Clusters stated as arrays by hand, and random ones, for tests of what reads arrays alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshard.model import Policy
from foreshard.placement.cluster import FULL, HOT, Cluster, Costs, Groups, Holdings, Nodes, Shards

HOT_FROM = date(2013, 11, 20)


def holdings(rows: Sequence[Mapping[int, int]], weights: Sequence[Mapping[int, float]] | None = None) -> Holdings:
    """From one mapping node → kind per shard; weights are equal unless given."""
    places = max([1, *(len(row) for row in rows)])
    shape = (len(rows), places)
    held = Holdings(np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.int8), np.zeros(shape))
    for s, row in enumerate(rows):
        for k, (n, kind) in enumerate(sorted(row.items())):
            held.node[s, k], held.kind[s, k] = n, kind
            held.weight[s, k] = weights[s][n] if weights else 1.0 / len(row)
    return held


def nodes(capacity: Sequence[float], **given: Any) -> Nodes:
    """Nodes by capacity, all active, each in a zone of its own; `given` replaces fields."""
    count = len(capacity)
    limit = np.asarray(given.pop("limit", np.zeros((count, 0))), dtype=np.float64)
    names = given.pop("zone_names", tuple(f"z{i}" for i in range(count)))
    fields: dict[str, Any] = {
        "ids": tuple(f"n{i}" for i in range(count)),
        "capacity": np.asarray(capacity, dtype=np.float64),
        "target": np.full(count, 0.8),
        "accepts": np.ones(count, dtype=np.bool_),
        "live": np.ones(count, dtype=np.bool_),
        "joining": np.zeros(count, dtype=np.bool_),
        "zone": np.arange(count),
        "zone_names": names,
        "neighbourhood": np.arange(count),
        "limit": limit,
        "soft": limit,
    }
    return Nodes(**fields | given)


def shards(mean: npt.ArrayLike, **given: Any) -> Shards:
    """Shards by mean load (S, T), one full replica each, 10 bytes of recent days and 100 in all; `given` replaces fields."""
    loads = np.asarray(mean, dtype=np.float64)
    count = len(loads)
    fields: dict[str, Any] = {
        "ids": np.arange(count),
        "mean": loads,
        "own_square": np.zeros_like(loads),
        "common": np.zeros((*loads.shape, 0)),
        "recent": np.zeros(count),
        "size": np.tile(np.array([0, 10, 100]), (count, 1)),
        "need": np.zeros((count, 0)),
        "least": np.ones(count, dtype=np.int64),
        "most": np.ones(count, dtype=np.int64),
        "parent": np.full(count, -1),
        "group": np.full(count, -1),
        "permit": np.full(count, -1),
        "move_cost": np.zeros(count),
        "pin_start": np.zeros(count + 1, dtype=np.int64),
        "pins": np.zeros(0, dtype=np.int64),
    }
    return Shards(**fields | given)


def groups(
    distinct: Sequence[bool] = (), min_zones: Sequence[int] | None = None, near: Sequence[Sequence[int]] | None = None
) -> Groups:
    rows = near or [[] for _ in distinct]
    return Groups(
        tuple(f"g{i}" for i in range(len(distinct))),
        np.array(distinct, dtype=np.bool_),
        np.array(min_zones or [1] * len(distinct), dtype=np.int64),
        np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64),
        np.array([g for r in rows for g in r], dtype=np.int64),
    )


def cluster(
    pool: Nodes,
    loads: Shards,
    held: Holdings,
    *,
    group: Groups | None = None,
    allowed: npt.ArrayLike | None = None,
    policy: Policy | None = None,
    pair: npt.ArrayLike | None = None,
) -> Cluster:
    resources = pool.limit.shape[1]
    costs = Costs(
        names=tuple(["storage", "memory", "network"][:resources]),
        transient=np.ones(resources, dtype=np.bool_),
        soft=np.zeros(resources),
        balance_first=np.zeros(0, dtype=np.int64),
        balance_second=np.zeros(0, dtype=np.int64),
        balance_target=np.zeros(0),
        balance=np.zeros(0),
        pair=np.zeros((0, 0)) if pair is None else np.asarray(pair, dtype=np.float64),
    )
    permits = np.zeros((0, len(pool.ids)), dtype=np.bool_) if allowed is None else np.asarray(allowed, dtype=np.bool_)
    return Cluster("p", policy or Policy(), (), HOT_FROM, pool, loads, group or groups(), costs, permits, held, {})


def placement(seed: int, least: Sequence[int], most: Sequence[int], usable: Sequence[int]) -> Holdings:
    """A random layout on the usable nodes: between `least` full replicas and `most` replicas of each shard, random weights."""
    generator = np.random.default_rng(seed)
    rows, weights = [], []
    for low, high in zip(least, most, strict=True):
        count = int(generator.integers(max(1, low), max(1, low, min(high, len(usable))) + 1))
        chosen = generator.permutation(usable)[:count]
        kinds = [FULL if i < low or generator.random() < 0.5 else HOT for i in range(len(chosen))]
        rows.append({int(n): kind for n, kind in zip(chosen, kinds, strict=True)})
        parts = generator.uniform(0.02, 1.0, len(chosen))
        weights.append({int(n): float(w) for n, w in zip(chosen, parts / parts.sum(), strict=True)})
    return holdings(rows, weights)
