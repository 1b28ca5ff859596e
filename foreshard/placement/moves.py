"""From a finished draft: the ordered moves with their reasons, the layout, and the replicas off their hash preference."""

from __future__ import annotations

from datetime import date

import numpy as np

from foreshard.model import Layout, Move, MoveKind, Replica
from foreshard.placement.draft import BALANCE, RETIRE, Draft, Note
from foreshard.placement.instance import FULL, HOT, NONE
from foreshard.placement.target import peak_with, shares_zone

_UNEXPLAINED = Note(BALANCE, "its shard's other replicas take its place")


def moves_of(draft: Draft) -> tuple[Move, ...]:
    """The moves from the layout at hand to the draft: copies first, by urgency, then what is only retired."""
    staged: list[tuple[int, Move]] = []
    for shard in np.flatnonzero((draft.kind != draft.instance.kind).any(axis=1)):
        staged += _shard_moves(draft, int(shard))
    staged.sort(key=lambda pair: (pair[0], pair[1].shard_id, pair[1].target, pair[1].source))
    return tuple(move for _, move in staged)


def layout_of(draft: Draft) -> Layout:
    """The layout with the draft's replicas and weights, sorted by shard and node, one epoch on."""
    instance = draft.instance
    replicas = [
        Replica(
            instance.shard_ids[s],
            instance.nodes[n].node_id,
            float(draft.weight[s, n]),
            None if draft.kind[s, n] == FULL else instance.hot_from.get((int(s), int(n)), instance.problem.covers_from),
        )
        for s, n in zip(*np.nonzero(draft.kind > NONE), strict=True)
    ]
    return Layout(instance.problem.layout.epoch + 1, tuple(replicas))


def _shard_moves(draft: Draft, shard: int) -> list[tuple[int, Move]]:
    instance = draft.instance
    before, after = instance.kind[shard], draft.kind[shard]
    size = instance.size[shard]
    staged: list[tuple[int, Move]] = []
    removed = {int(n) for n in np.flatnonzero((before > NONE) & (after == NONE))}
    for node in np.flatnonzero((before == HOT) & (after == FULL)):
        note, grows = _note(draft, shard, int(node)), max(0, int(size[FULL] - size[HOT]))
        staged.append((note.stage, _move(draft, MoveKind.WIDEN, shard, -1, int(node), grows, note)))
    for kind in (FULL, HOT):
        added = [int(n) for n in np.flatnonzero((before == NONE) & (after == kind))]
        spare = [n for n in sorted(removed) if before[n] == kind and instance.live[n]]
        for target, source in _paired(draft, shard, added, spare):
            note = _note(draft, shard, target)
            removed.discard(source)
            what = MoveKind.MOVE if source >= 0 else MoveKind.REPLICATE
            staged.append((note.stage, _move(draft, what, shard, source, target, int(size[kind]), note)))
    for source in sorted(removed):
        reason = draft.left.get((shard, source)) or _reason_of_shard(draft, shard)
        staged.append((RETIRE, _move(draft, MoveKind.DROP, shard, source, -1, 0, reason)))
    return staged


def _paired(draft: Draft, shard: int, added: list[int], spare: list[int]) -> list[tuple[int, int]]:
    """Each added node with the one it takes over from, or −1: its recorded origin if there is one, else any that is left."""
    origins = {target: _note(draft, shard, target).origin for target in added}
    pairs = [(target, origins[target]) for target in added if origins[target] in spare]
    left = [n for n in spare if n not in {source for _, source in pairs}]
    for target in added:
        if origins[target] not in spare:
            pairs.append((target, left.pop(0) if left else -1))
    return pairs


def _note(draft: Draft, shard: int, node: int) -> Note:
    return draft.came.get((shard, node)) or _reason_of_shard(draft, shard)


def _reason_of_shard(draft: Draft, shard: int) -> Note:
    """Stages may undo each other's places; then any reason that this shard changed for tells why."""
    notes = [(key, note) for book in (draft.came, draft.left) for key, note in book.items() if key[0] == shard]
    return min(notes, key=lambda pair: (pair[1].stage, pair[0]))[1] if notes else _UNEXPLAINED


def _move(draft: Draft, kind: MoveKind, shard: int, source: int, target: int, size: int, note: Note) -> Move:
    instance = draft.instance
    covers_from: date | None = None
    if target >= 0 and draft.kind[shard, target] == HOT:
        covers_from = instance.problem.covers_from
    return Move(
        kind=kind,
        shard_id=instance.shard_ids[shard],
        source=instance.nodes[source].node_id if source >= 0 else "",
        target=instance.nodes[target].node_id if target >= 0 else "",
        covers_from=covers_from,
        bytes=size,
        reason=note.reason,
    )


def deviations_of(draft: Draft, bound: float) -> tuple[str, ...]:
    """A sentence for each replica that is not on one of its shard's first-ranked accepting nodes, and why not."""
    instance = draft.instance
    if not instance.accepting:
        return ()
    held = (draft.kind > NONE).sum(axis=1)
    off = (draft.kind > NONE) & (instance.rank >= held[:, None])
    return tuple(_deviation(draft, int(s), int(n), bound) for s, n in zip(*np.nonzero(off), strict=True))


def _deviation(draft: Draft, shard: int, node: int, bound: float) -> str:
    instance = draft.instance
    what = f"shard {instance.shard_ids[shard]} on {instance.nodes[node].node_id}"
    if not instance.accepts[node]:
        return f"{what}: the node is draining, and the movement budget is used up"
    free = np.flatnonzero(instance.accepts & (draft.kind[shard] == NONE))
    first = int(free[instance.rank[shard][free].argmin()])
    name = instance.nodes[first].node_id
    what += f" (rank {instance.rank[shard, node] + 1}) rather than {name} (rank {instance.rank[shard, first] + 1})"
    if shares_zone(draft, shard, node)[first]:
        return f"{what}: zone {instance.nodes[first].zone} has a replica of it already"
    part = np.array([[draft.share(shard)[node]]])
    used = float(peak_with(draft, np.array([first]), part, np.array([shard]))[0, 0])
    if used > bound:
        return f"{what}: {name} would be at {used:.2f} of its capacity, its bound is {bound:.2f}"
    if instance.kind[shard, node] == NONE:
        if _note(draft, shard, node).stage == BALANCE:
            return f"{what}: a move to {name} would have relieved less for the bytes copied"
        return f"{what}: {name} had no room when the replica was placed"
    size = int(instance.size[shard, draft.kind[shard, node]])
    return f"{what}: kept, moving it would copy {size:,} bytes without lowering the peak noticeably"
