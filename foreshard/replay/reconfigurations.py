"""The largest changes that a policy asked for: when, how many nodes, how much to copy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from foreshard.placement.cluster import FULL, HOT, NONE, Holdings
from foreshard.replay.playing import Replay
from foreshard.replay.policy import Wish
from foreshard.replay.pool import Pool
from foreshard.replay.simulation import Decision
from foreshard.replay.trace import Floats, Ints


class Reconfiguration(NamedTuple):
    """`bytes_asked`: to copy, had all that was asked for before been complete; copies under way make it more or less."""

    policy: str
    at: datetime
    nodes_before: int
    nodes_after: int
    shards: int  # whose replicas change; weights may change besides
    copies: int
    bytes_asked: float


def largest(replayed: Replay, policy: str, most: int) -> list[Reconfiguration]:
    """At most so many of a policy's reconfigurations, the one with the most bytes first; ties by time."""
    found = changes(replayed, policy)
    return sorted(found, key=lambda r: (-r.bytes_asked, r.at))[:most]


def changes(replayed: Replay, policy: str) -> list[Reconfiguration]:
    """A policy's reconfigurations in order of time; none of a policy without decisions. Time O(decisions × replicas)."""
    decisions: Sequence[Decision] = replayed.decisions.get(policy, ())
    trace = replayed.trace
    begins = trace.start.astimezone(UTC) + timedelta(seconds=replayed.load.test_start * trace.interval_seconds)
    found = []
    for i in range(1, len(decisions)):
        before, after = decisions[i - 1].wish, decisions[i].wish
        if _same(before, after):
            continue
        copies, asked = _asked(before.held, after.held, replayed.pool)
        at = begins + timedelta(seconds=decisions[i].second)
        nodes = int(before.nodes.sum()), int(after.nodes.sum())
        shards = int((_kinds(before.held, replayed.pool) != _kinds(after.held, replayed.pool)).any(axis=1).sum())
        found.append(Reconfiguration(policy, at, *nodes, shards, int(copies.sum()), float(asked.sum())))
    return found


def _same(a: Wish, b: Wish) -> bool:
    return (
        np.array_equal(a.nodes, b.nodes)
        and np.array_equal(a.held.node, b.held.node)
        and np.array_equal(a.held.kind, b.held.kind)
        and np.array_equal(a.held.weight, b.held.weight)
    )


def _asked(before: Holdings, after: Holdings, pool: Pool) -> tuple[Ints, Floats]:
    """Copies and bytes to copy of each shard, both of shape (S,): a full replica where a hot one was copies what it lacks."""
    was, now = _kinds(before, pool), _kinds(after, pool)
    part = np.zeros(max(NONE, HOT, FULL) + 1)
    part[HOT], part[FULL] = pool.defaults.hot_bytes_share, 1.0
    lacking = np.maximum(part[now] - part[was], 0.0)
    return (lacking > 0).sum(axis=1), lacking.sum(axis=1) * pool.bytes_full


def _kinds(held: Holdings, pool: Pool) -> Ints:
    """What each node holds of each shard, shape (S, N)."""
    found = np.full((len(held.node), pool.nodes), NONE, dtype=np.int64)
    shard, place = np.nonzero(held.node >= 0)
    found[shard, held.node[shard, place]] = held.kind[shard, place]
    return found
