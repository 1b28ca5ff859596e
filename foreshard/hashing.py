"""Entity → slot, and the ranking of nodes per shard by weighted rendezvous hashing.

The slot of an entity never changes; Spark (`xxhash64` is seeded 42) and HAProxy compute the same number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

SEED = 42


def entity_slot(entity_id: str, slot_bits: int) -> int:
    """The slot of an entity, 0 ≤ slot < 2**slot_bits."""
    return xxhash.xxh64_intdigest(entity_id.encode("utf-8"), seed=SEED) & ((1 << slot_bits) - 1)


def rendezvous_scores(shard_ids: Sequence[int], node_ids: Sequence[str], weights: Sequence[float]) -> npt.NDArray[np.float64]:
    """Score of every node for every shard, shape (shards, nodes); the highest is the shard's first preference.

    Weighted highest-random-weight hashing: score = −weight / ln(u), with u uniform in (0, 1) from the hash of (node, shard).
    A node's share of first places is proportional to its weight, and adding or losing a node moves only its share.
    Source: Thaler and Ravishankar 1998; the weighted form after Schindelhauer and Schomaker 2005. Time O(shards × nodes).
    """
    node_hash = np.array([xxhash.xxh64_intdigest(n.encode("utf-8"), seed=SEED) for n in node_ids], dtype=np.uint64)
    mixed = _mix(np.asarray(shard_ids, dtype=np.uint64)[:, None] ^ node_hash[None, :])
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / float(1 << 53)
    scores: npt.NDArray[np.float64] = -np.asarray(weights, dtype=np.float64)[None, :] / np.log(uniform)
    return scores


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64: a bijection of 64 bits in which every output bit depends on every input bit."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
