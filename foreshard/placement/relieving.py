"""Moves that relieve nodes above their ceiling with the fewest bytes.

From the node furthest above, the replica that takes most off for its bytes goes to the highest-ranked node that has room.
Nothing moves between nodes that are not above their ceiling.
"""

from __future__ import annotations

import heapq

import numba
import numpy as np

from foreshard.model import Goal
from foreshard.placement.movement import GOALS
from foreshard.placement.placing import ROOM, affordable
from foreshard.placement.shifting import by_node, excess, excess_with, is_above, movable, move, share_of
from foreshard.placement.trimming import exchange, give_back
from foreshard.placement.working import apart, fits, highest_with
from foreshard.ranking import score

BALANCE = GOALS.index(Goal.BALANCE)
_LAST_ATTEMPTS = 64  # replicas of a node tried where no taker has room
_TIE = 1e-4  # by how much the largest replica of a node is preferred to one as good for its bytes


@numba.njit(cache=True, nogil=True)
def relieve(f, d, takers, settle_by, budget):  # type: ignore[no-untyped-def]
    """Takes load off every node above its ceiling until it is `settle_by` below, or nothing helps. Returns moves.

    Nodes furthest above come first. Time O(moves × (replicas of the node + takers) × T × F).
    """
    nodes = f.capacity.shape[0]
    starts, units = by_node(d, nodes)
    height = np.zeros(nodes)
    for n in range(nodes):
        if f.live[n] and is_above(f, d, n, f.ceiling[n]):
            height[n] = excess(f, d, n, f.ceiling[n])
    order = np.argsort(-height, kind="mergesort")
    moved = 0
    for i in range(nodes):
        n = order[i]
        if height[n] <= 0.0:
            break
        moved += _relieve_node(f, d, n, units[starts[n] : starts[n + 1]], takers, settle_by, budget)
    return moved


@numba.njit(cache=True, nogil=True)
def _relieve_node(f, d, n, units, takers, settle_by, budget):  # type: ignore[no-untyped-def]
    """First by moves to takers with room; what is left by moves that take more overload off here than they make there.

    Lazy greedy (Minoux 1978): what a replica takes off for its bytes only falls as others leave, so that most are judged once.
    """
    places = d.node.shape[1]
    aim = f.ceiling[n] * (1.0 - settle_by)
    moved = 0
    for last in (False, True):
        queue, attempts = _by_relief(f, d, n, units, aim), 0
        failed = np.full(f.mean.shape[1], np.inf)
        while queue and is_above(f, d, n, aim) and attempts < (_LAST_ATTEMPTS if last else units.shape[0]):
            i = heapq.heappop(queue)[1]
            s, k = units[i] // places, units[i] % places
            worth, relief, share = _worth(f, d, n, s, k, aim)
            if worth <= 0.0 or (queue and worth < -queue[0][0] * (1.0 - 1e-12)):
                if worth > 0.0:
                    heapq.heappush(queue, (-worth, i))
                continue
            attempts += 1
            if d.origin[s, k] == n and not affordable(budget, f.size[s, d.kind[s, k]]):
                continue
            if not last and _no_smaller(f, s, share, failed):
                continue
            target = _target(f, d, s, k, share, takers, relief * (1.0 - 1e-6) if last else 0.0)
            if target >= 0:
                move(f, d, s, k, target, BALANCE, share, budget)
                moved += 1
            elif f.permit[s] < 0 and f.group[s] < 0 and f.need.shape[1] == 0:
                failed = np.minimum(failed, share * f.mean[s])
    moved -= give_back(f, d, n, units, aim, budget)
    exchange(f, d, n, units, aim, budget)
    return moved


@numba.njit(cache=True, nogil=True)
def _no_smaller(f, s, share, failed):  # type: ignore[no-untyped-def]
    """Whether the replica's load is at no step below one for which no taker had room."""
    for t in range(failed.shape[0]):
        if share * f.mean[s, t] < failed[t]:
            return False
    return failed.shape[0] > 0


@numba.njit(cache=True, nogil=True)
def _by_relief(f, d, n, units, aim):  # type: ignore[no-untyped-def]
    """A heap of (−worth, position) of the replicas that may leave node n."""
    places = d.node.shape[1]
    queue = [(0.0, 0) for _ in range(0)]
    for i in range(units.shape[0]):
        s, k = units[i] // places, units[i] % places
        if movable(f, d, s, k, n):
            worth = _worth(f, d, n, s, k, aim)[0]
            if worth > 0.0:
                queue.append((-worth, i))
    heapq.heapify(queue)
    return queue


@numba.njit(cache=True, nogil=True)
def _worth(f, d, n, s, k, aim):  # type: ignore[no-untyped-def]
    """Excess taken off for its bytes, larger replicas slightly preferred where that is equal; the excess; the share moved."""
    share = share_of(f, d, s, k)
    if share <= 0.0:
        return 0.0, 0.0, 0.0
    now = excess(f, d, n, aim)
    relief = now - excess_with(f, d, n, -share, s, aim)
    if relief <= 1e-12 * now:
        return 0.0, 0.0, share
    return relief / (_price(f, d, s, k) + 1.0) * (1.0 + _TIE * relief / (relief + excess(f, d, n, aim * 0.0))), relief, share


@numba.njit(cache=True, nogil=True)
def _price(f, d, s, k):  # type: ignore[no-untyped-def]
    """Bytes that moving the replica adds to the plan: none if it is copied to where it is by this plan."""
    return f.size[s, d.kind[s, k]] if d.origin[s, k] == d.node[s, k] else 0


@numba.njit(cache=True, nogil=True)
def _target(f, d, s, k, share, takers, relief):  # type: ignore[no-untyped-def]
    """The highest-ranked taker with room, -1 for none; where `relief` is above 0, any whose own overload grows by less.

    Of these the one whose overload grows least.
    """
    source = d.node[s, k]
    lonely = apart(f, d, s, source, source)
    best, best_score, least = -1, -1.0, relief
    for i in range(takers.shape[0]):
        n = takers[i]
        if n == source or not fits(f, d, s, n, d.kind[s, k]) or (lonely and not apart(f, d, s, n, source)):
            continue
        if relief > 0.0:
            added = excess_with(f, d, n, share, s, f.ceiling[n]) - excess(f, d, n, f.ceiling[n])
            if added < least:
                best, least = n, added
        elif highest_with(f, d, n, share, s, f.ceiling[n]) <= ROOM:
            preference = score(f.shard_ids[s], f.hashes[n], f.capacity[n])
            if preference > best_score:
                best, best_score = n, preference
    return best
