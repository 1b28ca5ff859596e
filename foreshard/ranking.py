"""The ranking of nodes per shard, fast: the first-ranked of many shards, one pair in other compiled code, and key → nodes.

There is one definition of the score, `score`; everything else here orders nodes by it, equal scores by position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import repeat

import numba
import numpy as np
import numpy.typing as npt
import xxhash

from foreshard.errors import ForeshardError
from foreshard.hashing import SEED, node_hashes
from foreshard.slots import Keys, for_keys, in_parts, slot_at

# Of 2**53 equally likely values of u.
_STEPS = float(1 << 53)
_LARGEST = 1.0 - 1.0 / _STEPS
# Below 1 by more than the rounding errors of a score, so that no node which could enter is passed over.
_SLACK = 1.0 - 2.0**-48


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _hash53(shard_id: int, node_hash: np.uint64) -> float:
    """The hash of (node, shard) as a whole number below 2**53: the finaliser of splitmix64, a bijection of 64 bits in which
    every output bit depends on every input bit, less its last 11 bits."""
    x = (np.uint64(shard_id) ^ node_hash) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.float64(np.int64((x ^ (x >> np.uint64(31))) >> np.uint64(11)))


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _log(u: float) -> float:
    """The natural logarithm of 0 < u ≤ 1, after FreeBSD's e_log.c (fdlibm), to within one unit of the last place.

    Libraries differ in the last bit, by version and by processor; sums and products don't.
    """
    fraction, power = math.frexp(u)
    if fraction < 0.7071067811865476:
        fraction *= 2.0
        power -= 1
    g = fraction - 1.0
    s = g / (2.0 + g)
    z = s * s
    w = z * z
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    odd = 1.818357216161805012e-01 + w * 1.479819860511658591e-01
    odd = z * (6.666666666666735130e-01 + w * (2.857142874366239149e-01 + w * odd))
    half = 0.5 * g * g
    high, low = power * 6.93147180369123816490e-01, power * 1.90821492927058770002e-10
    return high - ((half - (s * (half + (even + odd)) + low)) - g)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def score(shard_id: int, node_hash: np.uint64, weight: float) -> float:
    """Score of one node for one shard, −weight / ln(u); the highest is the shard's first preference. See rendezvous_scores.

    The same bits on every machine. For other compiled code; `node_hash` is one of `hashing.node_hashes`. Time O(1).
    """
    u = min((_hash53(shard_id, node_hash) + 0.5) / _STEPS, _LARGEST)  # near 1 the half is rounded up
    return -weight / _log(u)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def rank_of(
    shard_id: int,
    node: int,
    node_hash: npt.NDArray[np.uint64],
    weights: npt.NDArray[np.float64],
    accepts: npt.NDArray[np.bool_],
) -> int:
    """How many accepting nodes a shard prefers to this one, 0 for its first preference. Time O(nodes)."""
    own = score(shard_id, node_hash[node], weights[node])
    before = 0
    for other in range(len(node_hash)):
        if accepts[other] and other != node:
            theirs = score(shard_id, node_hash[other], weights[other])
            before += theirs > own or (theirs == own and other < node)
    return before


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def scores(
    shard_ids: npt.NDArray[np.uint64], node_hash: npt.NDArray[np.uint64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Score of every node for every shard, shape (S, N). Time and memory O(S × N)."""
    out = np.empty((len(shard_ids), len(node_hash)))
    for i in range(len(shard_ids)):
        for j in range(len(node_hash)):
            out[i, j] = score(shard_ids[i], node_hash[j], weights[j])
    return out


@numba.njit(cache=True, nogil=True)
def _enter(best, places, got, value, position):  # type: ignore[no-untyped-def]
    """Puts a node into the list of the best so far, behind equals; the last falls out if it's full."""
    at = min(got, len(best) - 1)
    while at > 0 and value > best[at - 1]:
        best[at], places[at] = best[at - 1], places[at - 1]
        at -= 1
    best[at], places[at] = value, position


@numba.njit(cache=True, nogil=True)
def _first(shard_ids, node_hash, weights, positions, out):  # type: ignore[no-untyped-def]
    """The first-ranked nodes of each shard into `out` (S, count), 1 ≤ count ≤ N.

    −ln(u) ≥ 1 − u, so a node's score is at most weight / (1 − u): most nodes are passed over without a logarithm.
    """
    count = out.shape[1]
    best, short = np.empty(count), np.empty(len(node_hash))
    for i in range(len(shard_ids)):
        for j in range(len(node_hash)):  # a loop of its own, because the compiler makes vectors of it
            short[j] = _STEPS - 0.5 - _hash53(shard_ids[i], node_hash[j])
        got, entry = 0, -1.0
        for j in range(len(node_hash)):
            if weights[j] < entry * short[j]:
                continue
            value = score(shard_ids[i], node_hash[j], weights[j])
            if got < count or value > best[count - 1]:
                _enter(best, out[i], got, value, positions[j])
                got = min(got + 1, count)
                if got == count:
                    entry = best[count - 1] * _SLACK / _STEPS


def first_ranked(
    shard_ids: npt.ArrayLike,
    node_hash: npt.NDArray[np.uint64],
    weights: npt.ArrayLike,
    accepts: npt.ArrayLike,
    count: int,
    *,
    threads: int = 1,
) -> npt.NDArray[np.int32]:
    """Positions of each shard's `count` highest-ranked accepting nodes, best first, shape (S, count); -1 where there are fewer.

    The order of `rendezvous_scores`, equal scores by position. `node_hash` (N,) of `hashing.node_hashes`, `weights` (N,) finite
    and not negative (else ForeshardError), `accepts` (N,). Time O(S × N), two nanoseconds a pair; memory O(S + N).
    """
    ids = np.asarray(shard_ids).astype(np.uint64, copy=False)
    weight, accepting = np.asarray(weights, dtype=np.float64), np.flatnonzero(np.asarray(accepts, dtype=np.bool_))
    if not (np.isfinite(weight) & (weight >= 0)).all():
        worst = int(np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))[0])
        raise ForeshardError(f"the node at position {worst} has weight {weight[worst]}; give a finite one that is not negative")
    out = np.full((len(ids), count), -1, dtype=np.int32)
    filled = out[:, : len(accepting)]
    if filled.size == 0:
        return out
    nodes = (node_hash[accepting], weight[accepting], accepting.astype(np.int32))
    in_parts(lambda a, b: _first(ids[a:b], *nodes, filled[a:b]), len(ids), threads, at_least=1_000)
    return out


@numba.njit(cache=True, nogil=True)
def _look_up(text, starts, mask, table, out):  # type: ignore[no-untyped-def]
    """The row of `table` for the slot of each key."""
    address = text.ctypes.data
    for i in range(len(out)):
        slot = slot_at(address, starts, i, mask)
        for r in range(table.shape[1]):
            out[i, r] = table[slot, r]


class Ranking:
    """Entity → its slot's first-ranked nodes, worked out once for every slot.

    >>> Ranking(["a", "b", "c"], [1.0, 1.0, 2.0], slot_bits=10, count=2).nodes_of("AA1")
    ('c', 'b')
    """

    __slots__ = ("_mask", "_nodes", "node_ids", "slot_bits", "table")

    def __init__(self, node_ids: Sequence[str], weights: Sequence[float], slot_bits: int, count: int = 3) -> None:
        """Ranks `count` nodes, or all if there are fewer, of 2**slot_bits slots; `weights` as in first_ranked.

        Time O(2**slot_bits × nodes); memory O(2**slot_bits × count).
        """
        self.node_ids = tuple(node_ids)
        self.slot_bits = slot_bits
        every = np.ones(len(self.node_ids), dtype=np.bool_)
        ranked = min(count, len(self.node_ids))
        #: Positions in `node_ids`, shape (2**slot_bits, ranked).
        self.table = first_ranked(np.arange(1 << slot_bits), node_hashes(self.node_ids), weights, every, ranked)
        self._mask = (1 << slot_bits) - 1
        names = np.array(self.node_ids, dtype=object)
        columns = [names[self.table[:, r]].tolist() for r in range(ranked)]
        self._nodes: list[tuple[str, ...]] = list(zip(*columns, strict=True)) if ranked else list(repeat((), 1 << slot_bits))

    def nodes_of(self, entity_id: str) -> tuple[str, ...]:
        """The ids of its slot's first-ranked nodes, best first. Time O(length of the id)."""
        return self._nodes[xxhash.xxh64_intdigest(entity_id.encode(), SEED) & self._mask]

    def positions_of(self, entity_ids: Keys, *, threads: int | None = None) -> npt.NDArray[np.int32]:
        """The same for many, as positions in `node_ids`, shape (keys, ranked). Keys and threads as in `slots.entity_slots`."""
        out = np.empty((len(entity_ids), self.table.shape[1]), dtype=np.int32)
        mask = np.uint64(self._mask)
        for_keys(entity_ids, out, lambda text, starts, rows: _look_up(text, starts, mask, self.table, rows), threads)
        return out
