"""What a draft changes: the moves from the layout at hand to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np

from foreshard.model import Goal, MoveKind
from foreshard.placement.cluster import FULL, HOT, Cluster, Holdings, Ints
from foreshard.placement.movement import GOALS, KINDS, Moves
from foreshard.placement.working import Draft

_MOVE, _REPLICATE, _WIDEN, _DROP = (KINDS.index(k) for k in (MoveKind.MOVE, MoveKind.REPLICATE, MoveKind.WIDEN, MoveKind.DROP))
_REPAIR, _DRAIN, _CONSOLIDATE, _REPLICATED = (
    GOALS.index(g) for g in (Goal.REPAIR, Goal.DRAIN, Goal.CONSOLIDATE, Goal.REPLICATE)
)


@dataclass
class _Rows:
    """Columns of Moves in the making."""

    rows: list[tuple[int, int, int, int, int, int, int, float, int]] = field(default_factory=list)

    def table(self) -> Moves:
        ordered = sorted(self.rows, key=lambda r: (r[6], r[1], r[3], r[2]))
        columns = list(zip(*ordered, strict=True)) if ordered else [()] * 9
        types = (np.int8, np.int64, np.int64, np.int64, np.int8, np.int64, np.int8, np.float64, np.int64)
        return Moves(*(np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)))


def moves_to(cluster: Cluster, draft: Draft) -> Moves:
    """The moves, by goal, then shard. A replica that comes and one that goes of one shard are one move where they can be.

    The draft's rows are the cluster's shards. Time O(S × K² + changes).
    """
    rows = _Rows()
    for shard in changed_shards(cluster.held, draft.held):
        _shard_moves(cluster, draft, int(shard), rows)
    return rows.table()


def changed_shards(before: Holdings, after: Holdings) -> Ints:
    """Positions of shards that are held elsewhere, or as another kind."""
    found: Ints = np.flatnonzero(_changed(before.node, before.kind, after.node, after.kind))
    return found


@numba.njit(cache=True, nogil=True)
def _changed(node, kind, new_node, new_kind):  # type: ignore[no-untyped-def]
    changed = np.zeros(node.shape[0], dtype=np.bool_)
    for s in range(node.shape[0]):
        count = 0
        for k in range(new_node.shape[1]):
            if new_node[s, k] < 0:
                continue
            count += 1
            same = False
            for j in range(node.shape[1]):
                same |= node[s, j] == new_node[s, k] and kind[s, j] == new_kind[s, k]
            changed[s] |= not same
        for j in range(node.shape[1]):
            count -= node[s, j] >= 0
        changed[s] |= count != 0
    return changed


def _shard_moves(cluster: Cluster, draft: Draft, shard: int, rows: _Rows) -> None:
    size = cluster.shards.size[shard]
    held = cluster.held
    before = {int(n): int(held.kind[shard, k]) for k, n in enumerate(held.node[shard]) if n >= 0}
    after = {int(n): k for k, n in enumerate(draft.node[shard]) if n >= 0}
    gone = {n for n in before if n not in after}
    for node, place in after.items():
        if before.get(node) == HOT and draft.kind[shard, place] == FULL:
            grows = max(0, int(size[FULL] - size[HOT]))
            rows.rows.append((_WIDEN, shard, -1, node, FULL, grows, *_why(draft, shard, place)))
    added = {n: k for n, k in after.items() if n not in before}
    for node, source in _paired(cluster, draft, shard, before, added, gone):
        place, kind = added[node], int(draft.kind[shard, added[node]])
        gone.discard(source)
        what = _MOVE if source >= 0 else _REPLICATE
        rows.rows.append((what, shard, source, node, kind, int(size[kind]), *_why(draft, shard, place)))
    for source in sorted(gone):
        rows.rows.append((_DROP, shard, source, -1, before[source], 0, _why_dropped(cluster, source), 1.0, -1))


def _paired(
    cluster: Cluster, draft: Draft, shard: int, before: dict[int, int], added: dict[int, int], gone: set[int]
) -> list[tuple[int, int]]:
    """Each node that gets a replica with the live one it takes over from, or −1: its origin, else any left of its kind."""
    spare = sorted(n for n in gone if cluster.nodes.live[n])
    pairs: list[tuple[int, int]] = []
    for node, place in sorted(added.items()):
        origin = int(draft.origin[shard, place])
        if origin in spare:
            spare.remove(origin)
            pairs.append((node, origin))
        else:
            pairs.append((node, -1))
    for i, (node, source) in enumerate(pairs):
        alike = [n for n in spare if before[n] == draft.kind[shard, added[node]]]
        # A further replica of a hot shard is one more, even where another goes for a reason of its own.
        if source < 0 and alike and draft.goal[shard, added[node]] != _REPLICATED:
            spare.remove(alike[0])
            pairs[i] = (node, alike[0])
    return pairs


def _why(draft: Draft, shard: int, place: int) -> tuple[int, float, int]:
    goal = int(draft.goal[shard, place])
    # Without a goal of its own a shard of a bundle goes to where the others are.
    return (goal if goal >= 0 else _REPAIR), float(draft.gain[shard, place]), int(draft.step[shard, place])


def _why_dropped(cluster: Cluster, source: int) -> int:
    if not cluster.nodes.live[source]:
        return _REPAIR
    return _CONSOLIDATE if cluster.nodes.accepts[source] else _DRAIN
