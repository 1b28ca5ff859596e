"""Replicas that are not where their shard's ranking would have them, and why not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.hashing import node_hashes
from foreshard.placement.cluster import Bools, Cluster, Floats, Holdings, Ints
from foreshard.placement.explanation.obstacles import Try, obstacles
from foreshard.placement.explanation.standing import Standing
from foreshard.placement.explanation.wording import number, ordinal, size
from foreshard.ranking import first_ranked


@dataclass(frozen=True)
class Deviations:
    """D replicas off their ranking, in the order of their shards; positions in the cluster. Sentences for the first of them."""

    shard: Ints  # (D,)
    node: Ints  # (D,) where it is
    preferred: Ints  # (D,) a node that the shard ranks higher and that does not hold it
    sentences: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.shard)


def deviations(
    cluster: Cluster,
    held: Holdings,
    ceiling: Floats | None = None,
    most: int = 20,
    copied: frozenset[tuple[int, int]] | None = None,
) -> Deviations:
    """Every replica on a live node that is not one of the first accepting nodes in its shard's ranking.

    A shard with k replicas on live nodes should be on its k first-ranked ones. `ceiling`: loads above which nodes are relieved,
    shape (N, T), the cluster's own unless given. `most`: so many sentences are written. `copied`: as in Standing; what the
    layout at hand of the cluster does not have unless given. Time O(S × N) for the ranking.
    """
    live = (held.node >= 0) & cluster.nodes.live[np.maximum(held.node, 0)]
    nodes = cluster.nodes
    first = first_ranked(cluster.shards.ids, node_hashes(nodes.ids), nodes.capacity, nodes.accepts, held.node.shape[1])
    wanted = np.where(np.arange(first.shape[1])[None, :] < live.sum(axis=1)[:, None], first, -1)
    off = live & ~_contained(held.node, wanted)
    missing = (wanted >= 0) & ~_contained(wanted, np.where(live, held.node, -1))
    # The first replica off its ranking is set against the first node missing, and so on; there may be fewer such nodes.
    row, place = np.nonzero(off)
    nth = _nth(row)
    preferred = np.full(off.shape, -1, dtype=np.int64)
    at, column = np.nonzero(missing)
    preferred[at, _nth(at)] = wanted[at, column]
    better = preferred[row, nth]
    if copied is None:
        here = zip(row[:most].tolist(), held.node[row[:most], place[:most]].tolist(), strict=True)
        copied = frozenset((s, n) for s, n in here if n not in cluster.held.node[s])
    standing = Standing(cluster, held, copied)
    if ceiling is not None:
        standing.__dict__["ceiling"] = ceiling
    sentences = tuple(
        _sentence(standing, int(s), int(k), int(p)) for s, k, p in zip(row[:most], place[:most], better[:most], strict=True)
    )
    return Deviations(row, held.node[row, place].astype(np.int64), better, sentences)


def why_not_preferred(standing: Standing, row: int, place: int, preferred: int) -> str:
    """What keeps a replica off a node that its shard ranks higher."""
    tried = Try(standing, row, place, preferred)
    found = obstacles(tried)
    if found:
        return found[0].sentence
    if (row, tried.source) in standing.copied:
        return f"the plan copies it here; with the whole plan done {tried.node} would have room for it too"
    return f"it stays where it is, because moving it would copy {size(tried.bytes)} and relieve no node above its bound"


def _sentence(standing: Standing, row: int, place: int, preferred: int) -> str:
    nodes = standing.cluster.nodes
    here = int(standing.held.node[row, place])
    shard = f"shard {standing.cluster.shards.ids[row]} is on {nodes.ids[here]}"
    if preferred < 0:
        return f"{shard}, with more replicas than there are nodes that accept shards"
    if not nodes.accepts[here]:
        return f"{shard}, which is draining: the movement budget or the room elsewhere did not reach for it"
    ranking = standing.ranked(row).tolist()
    own, better = ordinal(ranking.index(here) + 1), ordinal(ranking.index(preferred) + 1)
    cause = why_not_preferred(standing, row, place, preferred)
    return (
        f"{shard}, its {own} choice of {number(len(ranking), 'node')}, and not on {nodes.ids[preferred]}, its {better}: {cause}"
    )


def _contained(values: np.ndarray, among: np.ndarray) -> Bools:
    """Whether each value of a row is one of that row of the other table; rows are short."""
    found: Bools = (values[:, :, None] == among[:, None, :]).any(axis=2)
    return found


def _nth(row: Ints) -> Ints:
    """How many entries of the same row come before each; rows are sorted."""
    starts = np.searchsorted(row, row, side="left")
    counted: Ints = np.arange(len(row)) - starts
    return counted
