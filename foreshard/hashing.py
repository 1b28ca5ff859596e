"""Entity → slot, and the ranking of nodes per shard by weighted rendezvous hashing.

The slot of an entity never changes; Spark (`xxhash64` is seeded 42) and HAProxy compute the same number.
Many keys at once, and the first-ranked nodes of many shards: `foreshard.slots` and `foreshard.ranking`, which compile. This
module doesn't, because Spark's executors import it from an archive, where compiled code can't be kept.
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


def node_hashes(node_ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """What a node's id brings to its score for every shard, shape (nodes,)."""
    return np.array([xxhash.xxh64_intdigest(n.encode("utf-8"), seed=SEED) for n in node_ids], dtype=np.uint64)


def rendezvous_scores(shard_ids: Sequence[int], node_ids: Sequence[str], weights: Sequence[float]) -> npt.NDArray[np.float64]:
    """Score of every node for every shard, shape (shards, nodes); the highest is the shard's first preference.

    Weighted highest-random-weight hashing: score = −weight / ln(u), with u uniform in (0, 1) from the hash of (node, shard).
    A node's share of first places is proportional to its weight, and adding or losing a node moves only its share.
    Source: Thaler and Ravishankar 1998; the weighted form after Schindelhauer and Schomaker 2005. Time O(shards × nodes).
    """
    from foreshard.ranking import scores

    found: npt.NDArray[np.float64] = scores(
        np.asarray(shard_ids, dtype=np.uint64), node_hashes(node_ids), np.asarray(weights, dtype=np.float64)
    )
    return found
