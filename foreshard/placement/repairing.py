"""The cheapest way to each shard's least full replicas and pins on the nodes that remain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Holdings, Ints


@dataclass(frozen=True)
class Repair:
    """Bytes that each shard must be copied for whatever the balance, shape (S,), and what of them dead nodes caused, in all."""

    least: Ints
    copied: Bools  # (S,) which shards must be copied, were they of no bytes
    lost: int

    @property
    def total(self) -> int:
        return int(self.least.sum())

    def forced_load(self, cluster: Cluster) -> float:
        """Mean load of the shards that must be copied, at the step where it is highest."""
        return float(cluster.shards.mean[self.copied].sum(axis=0).max(initial=0.0))


def least_repair(cluster: Cluster, usable: Bools, attained: Holdings | None = None) -> Repair:
    """What must be copied when only the `usable` nodes (N,) remain; live ones but for these count as left by choice.

    With a layout `attained`, only as many full replicas and such pins as it has are demanded. Valid because each full replica
    lacking is either a hot one widened or made whole, each at the shard's own size, and pins lacking need a copy each.
    Time O(S × K).
    """
    need, copied = _lacking(cluster, usable, attained)
    lost, _ = _lacking(cluster, cluster.nodes.live, attained)
    return Repair(need, copied, int(np.minimum(lost, need).sum()))


def _lacking(cluster: Cluster, usable: Bools, attained: Holdings | None) -> tuple[Ints, Bools]:
    shards = cluster.shards
    full, hot = _counts(cluster.held, usable)
    size_hot, size_full = shards.size[:, HOT], shards.size[:, FULL]
    cheapest = np.minimum(size_hot, size_full)
    reachable = somewhere = _reachable(cluster, usable)
    if attained is not None:
        full_then, hot_then = _counts(attained, usable)
        reachable, somewhere = np.minimum(reachable, full_then), np.minimum(reachable, full_then + hot_then)
    lacking = np.minimum(np.maximum(0, shards.least - full), np.maximum(0, reachable - full))
    widened = np.minimum(lacking, hot)
    bytes_least = widened * np.minimum(size_full, np.maximum(0, size_full - size_hot)) + (lacking - widened) * size_full
    alone = (shards.parent >= 0) & (full + hot == 0) & (somewhere > 0)
    pinned = _pins_lacking(cluster, usable, attained)
    bytes_least = np.maximum(np.maximum(bytes_least, np.where(alone, cheapest, 0)), pinned * cheapest)
    result: Ints = bytes_least.astype(np.int64)
    return result, (lacking > 0) | alone | (pinned > 0)


def _counts(held: Holdings, usable: Bools) -> tuple[Ints, Ints]:
    """Full and hot replicas of each shard on usable nodes, (S,) each."""
    on = (held.node >= 0) & usable[held.node]
    full: Ints = (on & (held.kind == FULL)).sum(axis=1)
    hot: Ints = (on & (held.kind == HOT)).sum(axis=1)
    return full, hot


def _reachable(cluster: Cluster, usable: Bools) -> Ints:
    """How many nodes could hold the shard: those that accept shards and may hold it, shape (S,)."""
    accepts = cluster.nodes.accepts & usable
    permit = cluster.shards.permit
    counts = np.append((cluster.allowed & accepts).sum(axis=1), accepts.sum())
    result: Ints = counts[np.where(permit < 0, len(counts) - 1, permit)]
    return result


def _pins_lacking(cluster: Cluster, usable: Bools, attained: Holdings | None) -> Ints:
    """Pinned nodes that remain, may hold the shard and hold nothing of it, (S,)."""
    shards = cluster.shards
    counts: Ints = np.zeros(len(shards.ids), dtype=np.int64)
    if not len(shards.pins):
        return counts
    shard = np.repeat(np.arange(len(shards.ids)), np.diff(shards.pin_start))
    allowed = np.vstack([cluster.allowed, np.ones((1, len(usable)), dtype=np.bool_)])
    row = np.where(shards.permit < 0, len(cluster.allowed), shards.permit)[shard]
    lacks = (cluster.nodes.accepts & usable)[shards.pins] & allowed[row, shards.pins]
    lacks &= ~(cluster.held.node[shard] == shards.pins[:, None]).any(axis=1)
    if attained is not None:
        lacks &= (attained.node[shard] == shards.pins[:, None]).any(axis=1)
    np.add.at(counts, shard, lacks)
    return counts
