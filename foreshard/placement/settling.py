"""Brings every shard to its wanted replicas: dead nodes emptied, lost full replicas made anew, draining nodes emptied, pins
kept, then further replicas of hot shards and fewer of cold ones. Only repair may go beyond the movement budget."""

from __future__ import annotations

import numba

from foreshard.model import Goal
from foreshard.placement.cluster import FULL, HOT
from foreshard.placement.movement import GOALS
from foreshard.placement.placing import add, affordable, choose, drop, dropped_back, pay, relocate, widen
from foreshard.placement.working import place_of
from foreshard.ranking import score

REPAIR, DRAIN, REPLICATE = GOALS.index(Goal.REPAIR), GOALS.index(Goal.DRAIN), GOALS.index(Goal.REPLICATE)


@numba.njit(cache=True, nogil=True)
def settle(f, d, wanted, least, most, extra_kind, budget):  # type: ignore[no-untyped-def]
    """Time O(changes × N × T × F + S × K²)."""
    for s in range(d.node.shape[0]):
        _drop_dead(f, d, s, budget)
    if not f.accepts.any():
        return
    for s in range(d.node.shape[0]):
        _repair(f, d, s, wanted[s], least[s], most[s], budget)
        if least[s] == 0 and wanted[s] > 0 and _count(f, d, s, HOT, False) == 0:
            _make_own(f, d, s, extra_kind[s], budget)
    if f.pinned.shape[0]:
        for s in range(d.node.shape[0]):
            _pin(f, d, s, wanted[s], budget)
    for s in range(d.node.shape[0]):
        _leave_unfit(f, d, s, wanted[s], least[s], extra_kind[s], budget)
    for s in range(d.node.shape[0]):
        _add_extras(f, d, s, wanted[s], extra_kind[s], budget)
    for s in range(d.node.shape[0]):
        _drop_extras(f, d, s, wanted[s], least[s], budget)


@numba.njit(cache=True, nogil=True)
def _drop_dead(f, d, s, budget):  # type: ignore[no-untyped-def]
    for k in range(d.node.shape[1]):
        if d.node[s, k] >= 0 and not f.live[d.node[s, k]]:
            drop(f, d, s, k)
            dropped_back(f, d, s)
            pay(budget, 0)


@numba.njit(cache=True, nogil=True)
def _count(f, d, s, kind, accepting):  # type: ignore[no-untyped-def]
    """Replicas of at least this kind, on accepting nodes that may hold the shard or on any live one."""
    count = 0
    for k in range(d.node.shape[1]):
        if d.node[s, k] >= 0 and d.kind[s, k] >= kind and (not accepting or _may_stay(f, s, d.node[s, k])):
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _may_stay(f, s, n):  # type: ignore[no-untyped-def]
    return f.accepts[n] and (f.permit[s] < 0 or f.allowed[f.permit[s], n])


@numba.njit(cache=True, nogil=True)
def _widest(f, d, s):  # type: ignore[no-untyped-def]
    """The place of the highest-ranked hot replica that may become full, -1 for none."""
    best, best_score = -1, -1.0
    for k in range(d.node.shape[1]):
        n = d.node[s, k]
        if n < 0 or d.kind[s, k] != HOT or not _may_stay(f, s, n) or not _has_room_to_widen(f, d, s, n):
            continue
        preference = score(f.shard_ids[s], f.hashes[n], f.capacity[n])
        if preference > best_score:
            best, best_score = k, preference
    return best


@numba.njit(cache=True, nogil=True)
def _has_room_to_widen(f, d, s, n):  # type: ignore[no-untyped-def]
    part = 1.0 - min(1.0, f.size[s, HOT] / f.size[s, FULL]) if f.size[s, FULL] > 0 else 0.0
    for r in range(f.need.shape[1]):
        if part * f.need[s, r] > 0.0 and d.used[n, r] + d.leaving[n, r] + part * f.need[s, r] > f.limit[n, r]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _grows(f, s):  # type: ignore[no-untyped-def]
    return max(0, f.size[s, FULL] - f.size[s, HOT])


@numba.njit(cache=True, nogil=True)
def _repair(f, d, s, wanted, least, most, budget):  # type: ignore[no-untyped-def]
    """Full replicas up to the least, whatever the budget says. A hot one is widened where that leaves one move fewer."""
    have = _count(f, d, s, FULL, False)
    while have < least:
        place = _widest(f, d, s)
        node = -1
        if place < 0 or _count(f, d, s, HOT, False) < wanted:
            node = choose(f, d, s, FULL, -1.0, -1)
        if node >= 0 and _count(f, d, s, HOT, False) >= most:
            if not _replace(f, d, s, node):
                return
            pay(budget, f.size[s, FULL])
        elif node >= 0:
            add(f, d, s, node, FULL, REPAIR, -1, 1.0)
            pay(budget, f.size[s, FULL])
        elif place >= 0:
            widen(f, d, s, place, REPAIR)
            pay(budget, _grows(f, s))
        else:
            return
        have += 1


@numba.njit(cache=True, nogil=True)
def _replace(f, d, s, node):  # type: ignore[no-untyped-def]
    """A full replica on the node in place of a hot one, first of one that may not stay; whether there was any."""
    place = -1
    for k in range(d.node.shape[1]):
        if d.node[s, k] >= 0 and d.kind[s, k] == HOT and (place < 0 or not _may_stay(f, s, d.node[s, k])):
            place = k
    if place >= 0:
        relocate(f, d, s, place, node, FULL, REPAIR, -1, 1.0)
    return place >= 0


@numba.njit(cache=True, nogil=True)
def _make_own(f, d, s, kind, budget):  # type: ignore[no-untyped-def]
    """The one replica that an isolated entity must have of its own, whatever the budget says."""
    node = choose(f, d, s, kind, -1.0, -1)
    if node >= 0:
        add(f, d, s, node, kind, REPAIR, -1, 1.0)
        pay(budget, f.size[s, kind])


@numba.njit(cache=True, nogil=True)
def _pin(f, d, s, wanted, budget):  # type: ignore[no-untyped-def]
    for n in range(f.pinned.shape[1]):
        if not f.pinned[s, n] or not f.accepts[n]:
            continue
        k = place_of(d, s, n)
        if k >= 0 and d.kind[s, k] == HOT and affordable(budget, _grows(f, s)):
            widen(f, d, s, k, REPAIR)
            pay(budget, _grows(f, s))
        elif k < 0:
            _pin_new(f, d, s, n, wanted, budget)


@numba.njit(cache=True, nogil=True)
def _pin_new(f, d, s, n, wanted, budget):  # type: ignore[no-untyped-def]
    from_place = -1
    if _count(f, d, s, HOT, False) >= wanted:
        for k in range(d.node.shape[1]):
            if d.node[s, k] >= 0 and not f.pinned[s, d.node[s, k]] and (from_place < 0 or d.kind[s, k] == FULL):
                from_place = k
    if not _pinned_fits(f, d, s, n) or not affordable(budget, f.size[s, FULL]):
        return
    if from_place >= 0:
        relocate(f, d, s, from_place, n, FULL, REPAIR, -1, 1.0)
    elif place_of(d, s, -1) >= 0:
        add(f, d, s, n, FULL, REPAIR, -1, 1.0)
    else:
        return
    pay(budget, f.size[s, FULL])


@numba.njit(cache=True, nogil=True)
def _pinned_fits(f, d, s, n):  # type: ignore[no-untyped-def]
    for r in range(f.need.shape[1]):
        if f.need[s, r] > 0.0 and d.used[n, r] + d.leaving[n, r] + f.need[s, r] > f.limit[n, r]:
            return False
    return f.permit[s] < 0 or f.allowed[f.permit[s], n]


@numba.njit(cache=True, nogil=True)
def _leave_unfit(f, d, s, wanted, least, extra_kind, budget):  # type: ignore[no-untyped-def]
    """Moves or drops what is on draining nodes and on nodes that the shard avoids, full replicas first."""
    for kind in (FULL, HOT):
        for k in range(d.node.shape[1]):
            n = d.node[s, k]
            if n < 0 or d.kind[s, k] != kind or _may_stay(f, s, n):
                continue
            goal = REPAIR if f.accepts[n] else DRAIN
            if kind == FULL and _count(f, d, s, FULL, True) < least:
                _leave_full(f, d, s, k, goal, budget)
            elif _count(f, d, s, HOT, True) < wanted:
                new_kind = min(kind, extra_kind)
                target = choose(f, d, s, new_kind, -1.0, n)
                if target >= 0 and affordable(budget, f.size[s, new_kind]):
                    relocate(f, d, s, k, target, new_kind, goal, -1, 1.0)
                    pay(budget, f.size[s, new_kind])
            elif affordable(budget, 0):
                drop(f, d, s, k)
                dropped_back(f, d, s)
                pay(budget, 0)


@numba.njit(cache=True, nogil=True)
def _leave_full(f, d, s, k, goal, budget):  # type: ignore[no-untyped-def]
    target = choose(f, d, s, FULL, -1.0, d.node[s, k])
    if target >= 0:
        if affordable(budget, f.size[s, FULL]):
            relocate(f, d, s, k, target, FULL, goal, -1, 1.0)
            pay(budget, f.size[s, FULL])
        return
    place = _widest(f, d, s)
    if place >= 0 and affordable(budget, _grows(f, s)):
        widen(f, d, s, place, goal)
        pay(budget, _grows(f, s))
        drop(f, d, s, k)
        dropped_back(f, d, s)


@numba.njit(cache=True, nogil=True)
def _add_extras(f, d, s, wanted, kind, budget):  # type: ignore[no-untyped-def]
    if _count(f, d, s, HOT, False) >= wanted:
        return
    step = 0
    for t in range(f.mean.shape[1]):
        if f.mean[s, t] > f.mean[s, step]:
            step = t
    while _count(f, d, s, HOT, False) < wanted:
        node = choose(f, d, s, kind, -1.0, -1)
        if node < 0 or place_of(d, s, -1) < 0 or not affordable(budget, f.size[s, kind]):
            return
        add(f, d, s, node, kind, REPLICATE, step, 1.0)
        pay(budget, f.size[s, kind])


@numba.njit(cache=True, nogil=True)
def _drop_extras(f, d, s, wanted, least, budget):  # type: ignore[no-untyped-def]
    """Retires replicas beyond the wanted number: hot before full, then the lowest-ranked; pinned ones stay."""
    while _count(f, d, s, HOT, False) > wanted:
        worst, worst_kind, worst_score = -1, 9, 0.0
        for k in range(d.node.shape[1]):
            n = d.node[s, k]
            if n < 0 or (f.pinned.shape[0] and f.pinned[s, n]):
                continue
            if d.kind[s, k] == FULL and _count(f, d, s, FULL, True) - (1 if _may_stay(f, s, n) else 0) < least:
                continue
            kind = d.kind[s, k] if _may_stay(f, s, n) else 0
            preference = score(f.shard_ids[s], f.hashes[n], f.capacity[n])
            if kind < worst_kind or (kind == worst_kind and preference < worst_score):
                worst, worst_kind, worst_score = k, kind, preference
        if worst < 0 or not affordable(budget, 0):
            return
        drop(f, d, s, worst)
        dropped_back(f, d, s)
        pay(budget, 0)
