"""Moves that no order of waves can carry out are taken back, so that a plan holds only what can be done."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foreshard.placement.changes import moves_to
from foreshard.placement.cluster import FULL, Cluster, Ints
from foreshard.placement.movement import Moves
from foreshard.placement.waves import Waves, in_waves
from foreshard.placement.working import Draft

_ROUNDS = 4


class Undone(NamedTuple):
    """A shard that stays on a node (-1: that gets no replica more) because no order of waves lets it leave; positions."""

    shard: int
    source: int
    why: str


def carried_out(cluster: Cluster, draft: Draft) -> tuple[Moves, Waves, tuple[Undone, ...]]:
    """The draft's moves with their waves, all of which can be carried out, and why others were taken back.

    The draft is changed: shards whose moves are barred stay as they are. Time that of `in_waves` per round, of which there are
    at most four.
    """
    left: dict[int, Undone] = {}
    for turn in range(_ROUNDS):
        moves = moves_to(cluster, draft)
        waves = in_waves(cluster, moves)
        barred = np.flatnonzero(waves.wave < 0)
        if not barred.size:
            break
        shards = np.unique(moves.shard[barred]) if turn < _ROUNDS - 1 else np.unique(moves.shard)
        for m in barred:
            left[int(moves.shard[m])] = Undone(int(moves.shard[m]), int(moves.source[m]), waves.reason[int(m)])
        _restore(cluster, draft, shards)
    else:
        moves = moves_to(cluster, draft)
        waves = in_waves(cluster, moves)
    return *in_order(moves, waves), tuple(left[s] for s in sorted(left))


def parted(cluster: Cluster, draft: Draft, planned: Cluster, rows: Ints, moves: Moves, waves: Waves) -> tuple[Moves, Waves]:
    """The moves of the shards themselves where the planned ones are of bundles, each in its bundle's wave.

    `draft`: of the shards, which is changed where they do not join their bundles; `rows` (S,): the bundle's row in `planned`.
    Shards that are not where their bundle is join it in its last wave. They stay where the movement budget does not allow that
    and they lack no replica, and where the bundle could not leave a node that takes no shards.
    """
    apart = _apart(cluster, planned, rows)
    own = moves_to(cluster, draft)
    closed = (own.target >= 0) & ~cluster.nodes.accepts[own.target]
    if closed.any():
        _restore(cluster, draft, np.intersect1d(apart, own.shard[closed]))
        own = moves_to(cluster, draft)
    policy = cluster.policy
    if len(own.shard) > max(policy.max_moves, len(moves.shard)) or own.bytes.sum() > max(
        policy.max_move_bytes, moves.bytes.sum()
    ):
        full = ((cluster.held.kind == FULL) & np.append(cluster.nodes.live, False)[cluster.held.node]).sum(axis=1)
        _restore(cluster, draft, apart[full[apart] >= cluster.shards.least[apart]])
        own = moves_to(cluster, draft)
    wave_of = {(int(s), int(n)): int(w) for s, n, w in zip(moves.shard, moves.target, waves.wave, strict=True)}
    last = dict(zip(moves.shard.tolist(), waves.wave.tolist(), strict=True))  # moves are in the order of their waves
    joins = {int(s): last.get(int(rows[s]), waves.waves + i) for i, s in enumerate(apart)}
    wave = [wave_of.get((int(rows[s]), int(n)), joins.get(int(s), 0)) for s, n in zip(own.shard, own.target, strict=True)]
    return in_order(own, Waves(np.unique(wave, return_inverse=True)[1].reshape(-1).astype(np.int64), {}))


def _apart(cluster: Cluster, planned: Cluster, rows: Ints) -> Ints:
    """Shards that are not held where the layout at hand has their bundle."""
    kinds = [
        {(int(n), int(k)) for n, k in zip(held.node[at], held.kind[at], strict=True) if n >= 0}
        for held, positions in ((cluster.held, range(len(rows))), (planned.held, rows))
        for at in positions
    ]
    mine, theirs = kinds[: len(rows)], kinds[len(rows) :]
    return np.array([s for s in range(len(rows)) if mine[s] != theirs[s]], dtype=np.int64)


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
