"""Moves that no order of waves can carry out are taken back, so that a plan holds only what can be done."""

from __future__ import annotations

import numpy as np

from foreshard.placement.changes import moves_to
from foreshard.placement.cluster import Cluster, Ints
from foreshard.placement.movement import Moves
from foreshard.placement.waves import Waves, in_waves
from foreshard.placement.working import Draft

_ROUNDS = 4


def carried_out(cluster: Cluster, draft: Draft, bundle: Ints) -> tuple[Moves, Waves, tuple[str, ...]]:
    """The draft's moves with their waves, all of which can be carried out, and why others were taken back.

    The draft is changed: shards whose moves are barred stay as they are, with all of their bundle; `bundle`, shape (S,), is the
    same for shards that share their nodes. Time that of `in_waves` per round, of which there are
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
        _restore(cluster, draft, np.flatnonzero(np.isin(bundle, bundle[shards])))
    else:
        moves = moves_to(cluster, draft)
        waves = in_waves(cluster, moves)
    order = np.argsort(waves.wave, kind="stable")
    return _reordered(moves, order), Waves(waves.wave[order], {}), tuple(left[s] for s in sorted(left))


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
    return Moves(*(column[order] for column in moves))
