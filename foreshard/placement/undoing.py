"""Moves that no order of waves can carry out are taken back, so that a plan holds only what can be done."""

from __future__ import annotations

import numpy as np

from foreshard.placement.changes import moves_to
from foreshard.placement.cluster import Cluster, Ints
from foreshard.placement.movement import Moves
from foreshard.placement.waves import Waves, in_waves
from foreshard.placement.working import Draft

_ROUNDS = 4


def carried_out(cluster: Cluster, draft: Draft) -> tuple[Moves, Waves, tuple[str, ...]]:
    """The draft's moves with their waves, all of which can be carried out, and why others were taken back.

    The draft is changed: shards whose moves are barred stay as they are. Time that of `in_waves` per round, of which there are
    at most four.
    """
    left: dict[int, str] = {}
    for turn in range(_ROUNDS):
        moves = moves_to(cluster, draft)
        waves = in_waves(cluster, moves)
        barred = np.flatnonzero(waves.wave < 0)
        if not barred.size:
            break
        shards = np.unique(moves.shard[barred]) if turn < _ROUNDS - 1 else np.unique(moves.shard)
        left.update({int(moves.shard[m]): waves.reason[int(m)] for m in barred})
        _restore(cluster, draft, shards)
    else:
        moves = moves_to(cluster, draft)
        waves = in_waves(cluster, moves)
    return *in_order(moves, waves), tuple(left[s] for s in sorted(left))


def parted(cluster: Cluster, draft: Draft, rows: Ints, moves: Moves, waves: Waves) -> tuple[Moves, Waves]:
    """The moves of the shards themselves where the planned ones are of bundles, each in its bundle's wave.

    `draft`: of the shards; `rows` (S,): the bundle's row in `moves`. A shard that joins its bundle does so in its last wave.
    """
    of_target = {(int(s), int(n)): int(w) for s, n, w in zip(moves.shard, moves.target, waves.wave, strict=True)}
    last = np.zeros(int(rows.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(last, moves.shard, waves.wave)
    own = moves_to(cluster, draft)
    wave = [of_target.get((int(rows[s]), int(n)), int(last[rows[s]])) for s, n in zip(own.shard, own.target, strict=True)]
    return in_order(own, Waves(np.array(wave, dtype=np.int64), {}))


def in_order(moves: Moves, waves: Waves) -> tuple[Moves, Waves]:
    """Both by wave, within a wave as they were."""
    order = np.argsort(waves.wave, kind="stable")
    return _reordered(moves, order), Waves(waves.wave[order], {})


def _restore(cluster: Cluster, draft: Draft, shards: Ints) -> None:
    """Puts shards back to what they hold now, replicas on dead nodes apart."""
    held = cluster.held.widened(draft.node.shape[1])
    live = np.append(cluster.nodes.live, False)  # position -1 is an unused place
    for shard in shards:
        stays = live[held.node[shard]]
        draft.node[shard] = np.where(stays, held.node[shard], -1)
        draft.kind[shard] = np.where(stays, held.kind[shard], 0)
        weight = np.where(stays, held.weight[shard], 0.0)
        draft.weight[shard] = weight / weight.sum() if weight.any() else weight
        draft.origin[shard], draft.goal[shard] = draft.node[shard], -1
        draft.step[shard], draft.gain[shard] = -1, 0.0


def _reordered(moves: Moves, order: Ints) -> Moves:
    columns = {name: column[order] for name, column in moves._asdict().items()}
    return Moves(**columns)
