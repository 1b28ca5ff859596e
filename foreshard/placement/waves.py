"""Moves in waves: copied side by side while everything old is held, switched by one publication, then retired.

No instant breaks a hard constraint that held before it: limits of transient resources count copies while the old is held,
those of others and all constraints between replicas hold in each published state. A node's copies in flight are bounded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foreshard.placement.cluster import Cluster, Ints
from foreshard.placement.movement import KINDS, Moves
from foreshard.placement.wave_checks import DISTINCT, LEAST, MOST, NEAR, ROOM, SHARED_ROOM, SOURCE, TARGET, ZONES
from foreshard.placement.wave_kernel import place_in_waves
from foreshard.placement.wave_tables import tables_of

# What fits in one order may block itself in another. What was left over is put first, as long as that is something new; then
# orders by chance are, by turns with drops going first or not: so many in all, fewer where each takes its time.
ORDERS, MANY_MOVES, ORDERS_OF_MANY = 24, 2_000, 6
_DROP = len(KINDS) - 1
_CLOSED, _BARRED, _PINNED = 101, 102, 103


class Waves(NamedTuple):
    """The wave of each of M moves, 0 first, -1 for one that cannot be carried out; `reason`: why not, by position."""

    wave: Ints
    reason: dict[int, str]

    @property
    def waves(self) -> int:
        return int(self.wave.max(initial=-1)) + 1


def in_waves(cluster: Cluster, moves: Moves) -> Waves:
    """List scheduling by urgency: by goal, in each by the earliest step, drops in the first wave that allows them.

    A move goes into the first wave where a copy of it has room and the state published afterwards is no worse than the one
    before; moves that only work together (an exchange between full nodes) share a wave. A node sends and receives at most
    `max_moves_in_flight` copies and `max_bytes_in_flight` bytes in a wave, sent and received together; a larger move is alone
    there. Where some are left over, other orders are tried and the one that leaves the fewest is kept.
    Deterministic, in about O(replicas + waves × pending moves) per order.
    """
    count = len(moves.shard)
    if not count:
        return Waves(np.zeros(0, dtype=np.int64), {})
    why, which = _barred(cluster, moves), np.full(count, -1, dtype=np.int64)
    open_moves = np.flatnonzero(why == 0)
    wave = np.full(count, -1, dtype=np.int64)
    if open_moves.size:
        urgent = open_moves[_by_urgency(moves, open_moves)]
        wave[urgent], why[urgent], which[urgent] = _best_order(cluster, _picked(moves, urgent))
    return Waves(
        wave, {int(m): _sentence(cluster, moves, int(m), int(why[m]), int(which[m])) for m in np.flatnonzero(wave < 0)}
    )


def _picked(moves: Moves, at: Ints) -> Moves:
    return Moves._make(column[at] for column in moves)


def _by_urgency(moves: Moves, of: Ints) -> Ints:
    step = np.where(moves.step[of] < 0, np.iinfo(np.int64).max, moves.step[of])
    return np.lexsort((moves.source[of], moves.target[of], moves.shard[of], step, moves.goal[of]))


def _best_order(cluster: Cluster, moves: Moves) -> tuple[Ints, Ints, Ints]:
    """Wave, reason code and resource of each move, in the order that leaves the fewest; moves are given by urgency."""
    count = len(moves.shard)
    early = np.zeros(count, dtype=np.bool_)
    stuck = 0
    best = found = _in_order(cluster, moves, np.arange(count), drops_first=True)
    for _ in range(ORDERS if count <= MANY_MOVES else ORDERS_OF_MANY):
        left = found[0] < 0
        if not (best[0] < 0).any():
            break
        if stuck or early[left].all():
            order, stuck = np.random.default_rng(stuck).permutation(count), stuck + 1
        else:
            early |= left
            order = np.argsort(~early, kind="stable")
        found = _in_order(cluster, _picked(moves, order), order, drops_first=stuck % 2 == 0)
        if (found[0] < 0).sum() < (best[0] < 0).sum():
            best = found
    return best


def _in_order(cluster: Cluster, moves: Moves, order: Ints, drops_first: bool) -> tuple[Ints, Ints, Ints]:
    tables, tally = tables_of(cluster, moves)
    drops = np.flatnonzero((moves.kind == _DROP) & drops_first)
    wave, which, why = np.full(order.size, -1), np.full(order.size, -1), np.zeros(order.size, dtype=np.int64)
    place_in_waves(tables, tally, np.arange(order.size), drops, wave, why, which, np.zeros(order.size, dtype=np.int64))
    back = np.argsort(order)
    return wave[back], why[back], which[back]


def _barred(cluster: Cluster, moves: Moves) -> Ints:
    """Codes of moves that no order allows, shape (M,), 0 for the rest."""
    nodes, shards = cluster.nodes, cluster.shards
    why = np.zeros(len(moves.shard), dtype=np.int64)
    comes, leaves = moves.target >= 0, moves.source >= 0
    why[comes & ~nodes.accepts[moves.target]] = _CLOSED
    permit = shards.permit[moves.shard]
    limited = comes & (permit >= 0)
    barred = np.flatnonzero(limited)[~cluster.allowed[permit[limited], moves.target[limited]]]
    why[barred] = _BARRED
    pinned = np.repeat(np.arange(len(shards.ids)), np.diff(shards.pin_start)) * len(nodes.ids) + shards.pins
    keeps = leaves & nodes.live[moves.source] & np.isin(moves.shard * len(nodes.ids) + moves.source, pinned)
    why[keeps] = _PINNED
    return why


def _sentence(cluster: Cluster, moves: Moves, move: int, code: int, which: int) -> str:
    """Why a move cannot be carried out."""
    ids = cluster.nodes.ids
    shard = f"shard {cluster.shards.ids[moves.shard[move]]}"
    source = ids[moves.source[move]] if moves.source[move] >= 0 else ""
    target = ids[moves.target[move]] if moves.target[move] >= 0 else ""
    resource = cluster.costs.names[which] if code in (ROOM, SHARED_ROOM) else ""
    group = cluster.shards.group[moves.shard[move]]
    together = f"the shards of group {cluster.groups.ids[group]}" if group >= 0 else ""
    what = f"{shard} cannot go to {target}" if target else f"{shard} cannot leave {source}"
    reasons = {
        _CLOSED: f"{target} takes no shards",
        _BARRED: f"the shard must not be on {target}",
        _PINNED: f"the shard is pinned to {source}",
        SOURCE: f"{source} does not hold it",
        TARGET: f"{target} holds it already",
        ROOM: f"{target} has no room for its {resource} until something leaves, and what would leave waits for room elsewhere",
        SHARED_ROOM: f"{target} would be above its limit of {resource}, and no moves that leave it fit into the same wave",
        DISTINCT: f"{together} must be on distinct nodes, and one on {target} does not leave",
        MOST: "it would have more replicas than allowed, and none of them is dropped",
        LEAST: "it would have too few replicas, and none is made first",
        ZONES: f"{together} would be in fewer zones than they must be",
        NEAR: f"{together} or one near them would be without the other in a neighbourhood",
    }
    return f"{what}: {reasons.get(code, 'it waits for moves that wait for it')}"
