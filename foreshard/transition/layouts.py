"""The layouts that a transition publishes on its way from one layout to the next: after each wave, and at each step of one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from foreshard.model import Layout, Replica
from foreshard.transition.picture import MoveView

Key = tuple[int, str]


def layout_after(base: Layout, final: Layout, moves: Iterable[MoveView], waves: Collection[int], epoch: int) -> Layout:
    """The layout once the moves of these waves are carried out, and no others.

    A replica has its final weight and coverage once all moves of its shard are carried out, or when it is new; until then the
    others have those that they had, and the weights of the shard are made to sum to 1. Time O(replicas + moves).
    """
    gone: set[Key] = set()
    come: set[Key] = set()
    unfinished: set[int] = set()
    for move in moves:
        if move.wave not in waves:
            unfinished.add(move.shard_id)
            continue
        if move.copies:
            come.add((move.shard_id, move.target))
        if move.retires:
            gone.add((move.shard_id, move.source))
    before, after = _by_key(base), _by_key(final)
    made = []
    for key in sorted((before.keys() | come) - (gone - come)):
        is_final = key in after and (key in come or key[0] not in unfinished)
        made.append(after[key] if is_final else before[key])
    mixed = {shard for shard, _ in come | gone} & unfinished
    sums = _sums(Layout(epoch, tuple(made)))
    return Layout(epoch, tuple(replace(r, weight=r.weight / sums[r.shard_id]) if r.shard_id in mixed else r for r in made))


def blend(before: Layout, after: Layout, share: float, epoch: int) -> Layout:
    """The layout at a step of the cut-over: of a shard whose replicas change, 1 − `share` of the queries go by the old weights.

    Shards that only get other weights have them at once, and a hot replica that becomes full is full at once, because its copy
    is. At share 1 it is `after`.
    """
    if share >= 1:
        return Layout(epoch, after.replicas)
    old, new = _by_key(before), _by_key(after)
    touched = {shard for shard, _ in old.keys() ^ new.keys()}
    old_sum, new_sum = _sums(before), _sums(after)
    made = []
    for key in sorted(old.keys() | new.keys()):
        replica = new.get(key) or old[key]
        if key[0] in touched:
            # Weights are relative to those of the same shard; each side counts as one whole.
            weight = 0.0
            if key in old:
                weight += (1 - share if key[0] in new_sum else 1.0) * old[key].weight / old_sum[key[0]]
            if key in new:
                weight += (share if key[0] in old_sum else 1.0) * new[key].weight / new_sum[key[0]]
            replica = Replica(*key, weight, replica.covers_from)
        made.append(replica)
    return Layout(epoch, tuple(made))


def _by_key(layout: Layout) -> dict[Key, Replica]:
    return {(r.shard_id, r.node_id): r for r in layout.replicas}


def _sums(layout: Layout) -> Mapping[int, float]:
    found: dict[int, float] = {}
    for replica in layout.replicas:
        found[replica.shard_id] = found.get(replica.shard_id, 0.0) + replica.weight
    return found
