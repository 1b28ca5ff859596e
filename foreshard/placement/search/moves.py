"""Carrying out a move of several units at once: the checks that need more than the nodes' records, and the update."""

from __future__ import annotations

import numpy as np

from foreshard.placement.assignment import Ints
from foreshard.placement.search.exchange import cost_after
from foreshard.placement.search.kernel import inlined, kernel
from foreshard.placement.search.packing import GROUP, HOME, INITIAL, MARKED, PERMIT, Packed
from foreshard.placement.search.state import (
    CLEAN,
    COST,
    LOWEST,
    MOST_MOVED,
    WRITTEN,
    State,
    add,
    count,
    count_moved,
    lacking,
    link,
    travel,
    unlink,
)


@inlined
def holds(p: Packed, s: State, conflict: int, n: int) -> int:
    """How many units of a conflict class node n holds: O(1), or O(members) of a small class."""
    row = p.class_row[conflict]
    if row >= 0:
        return int(s.present[row, n])
    number = 0
    for i in range(p.class_start[conflict], p.class_start[conflict + 1]):
        if s.node[p.class_member[i]] == n:
            number += 1
    return number


@inlined
def admits(p: Packed, u: int, n: int) -> bool:
    """Whether node n may hold unit u at all."""
    return bool(p.may_hold[p.labels[u, PERMIT], n] or p.labels[u, HOME] == n)


@kernel
def missing(p: Packed, s: State, u: int, a: int, b: int) -> int:
    """What unit u's group and those near it lack after u went from node a to b, if nothing was lacking before."""
    w = p.watched[p.labels[u, GROUP]]
    number = max(0, p.min_zones[w] - s.zones[w]) + lacking(p, s, w, p.neighbourhood[b])
    if s.in_neighbourhood[w, p.neighbourhood[a]] == 0:
        for i in range(p.followed_start[w], p.followed_start[w + 1]):
            number += lacking(p, s, p.followed[i], p.neighbourhood[a])
    return int(number)


@kernel
def worse(p: Packed, s: State, unit: Ints, source: Ints, target: Ints, size: int) -> bool:
    """Whether the counts, already those of after the move, break constraints of zones or nearness that held, or break more."""
    for i in range(size):
        if p.labels[unit[i], MARKED] == 1:
            if s.flags[CLEAN] == 1:
                if missing(p, s, unit[i], source[i], target[i]) > 0:
                    return True
            elif newly_missing(p, s, unit, source, target, size, i):
                return True
    return False


@kernel
def newly_missing(p: Packed, s: State, unit: Ints, source: Ints, target: Ints, size: int, i: int) -> bool:
    """`worse` for the i-th unit where constraints were broken before: each is compared with what it was."""
    w = p.watched[p.labels[unit[i], GROUP]]
    short = p.min_zones[w] - s.zones[w]
    if short > 0:
        recount(p, s, unit, target, source, size)
        before = p.min_zones[w] - s.zones[w]
        recount(p, s, unit, source, target, size)
        if short > before:
            return True
    for j in range(p.near_start[w], p.near_start[w + 1]):
        if newly_apart(p, s, unit, source, target, size, w, p.near[j], p.neighbourhood[target[i]]):
            return True
    for j in range(p.followed_start[w], p.followed_start[w + 1]):
        if newly_apart(p, s, unit, source, target, size, p.followed[j], w, p.neighbourhood[source[i]]):
            return True
    return False


@kernel
def newly_apart(p: Packed, s: State, unit: Ints, source: Ints, target: Ints, size: int, g: int, h: int, k: int) -> bool:
    """Whether group g is without group h in neighbourhood k since the move."""
    if s.in_neighbourhood[g, k] == 0 or s.in_neighbourhood[h, k] > 0:
        return False
    recount(p, s, unit, target, source, size)
    before = s.in_neighbourhood[g, k] > 0 and s.in_neighbourhood[h, k] == 0
    recount(p, s, unit, source, target, size)
    return not before


@kernel
def recount(p: Packed, s: State, unit: Ints, source: Ints, target: Ints, size: int) -> None:
    """Moves the units in the counts of classes, zones and neighbourhoods alone."""
    for i in range(size):
        count(p, s, unit[i], source[i], -1)
        count(p, s, unit[i], target[i], 1)


@kernel
def count_leaving(p: Packed, s: State, unit: Ints, source: Ints, target: Ints, size: int) -> float:
    """Moves the units in the counts of moved units; the change of what the most moved group costs."""
    before = s.flags[MOST_MOVED]
    for i in range(size):
        initial = p.labels[unit[i], INITIAL]
        if initial >= 0:
            change = int(target[i] != initial) - int(source[i] != initial)
            if change != 0:
                count_moved(p, s, p.labels[unit[i], GROUP], change)
    return float(p.group_move_cost * (s.flags[MOST_MOVED] - before))


@kernel
def carry_out(p: Packed, s: State, unit: Ints, target: Ints, size: int, change: float, most: float) -> bool:
    """Moves `unit[:size]`, distinct, to `target[:size]`, unless the cost then grows by more than `most` or groups lack more.

    `change` is the cost change without the most moved group's. What nodes and conflict classes allow is checked before.
    """
    source = s.source
    for i in range(size):
        source[i] = s.node[unit[i]]
    group_change = count_leaving(p, s, unit, source, target, size)
    if change + group_change > most:
        count_leaving(p, s, unit, target, source, size)
        return False
    recount(p, s, unit, source, target, size)
    if worse(p, s, unit, source, target, size):
        recount(p, s, unit, target, source, size)
        count_leaving(p, s, unit, target, source, size)
        return False
    apply(p, s, unit, source, target, size, group_change)
    keep_best(s)
    return True


@kernel
def apply(p: Packed, s: State, unit: Ints, source: Ints, target: Ints, size: int, group_change: float) -> None:
    """Moves the units in everything but the counts."""
    s.totals[COST] += group_change
    for i in range(size):
        relocate(p, s, unit[i], source[i], target[i])
    for i in range(size):
        reprice(p, s, source[i])
        reprice(p, s, target[i])


@kernel
def take_back(p: Packed, s: State, unit: Ints, source: Ints, number: int) -> None:
    """Undoes `number` moves of single units, last first, without checks: what was there before was legal."""
    for i in range(number - 1, -1, -1):
        s.unit[0], s.source[0], s.target[0] = unit[i], s.node[unit[i]], source[i]
        group_change = count_leaving(p, s, s.unit, s.source, s.target, 1)
        recount(p, s, s.unit, s.source, s.target, 1)
        apply(p, s, s.unit, s.source, s.target, 1, group_change)


@kernel
def relocate(p: Packed, s: State, u: int, a: int, b: int) -> None:
    """Moves unit u from node a to node b in all sums but counts and node costs."""
    s.totals[COST] += travel(p, u, b) - travel(p, u, a)
    add(p, s, u, a, -1.0)
    add(p, s, u, b, 1.0)
    unlink(s, u, a)
    link(s, u, b)
    s.node[u] = b
    if s.flags[WRITTEN] < len(s.journal):
        s.journal[s.flags[WRITTEN]] = u
    s.flags[WRITTEN] += 1


@kernel
def reprice(p: Packed, s: State, n: int) -> None:
    """Works out the cost of node n anew."""
    nobody, last = len(p.units) - 1, s.nodes.shape[1] - 1
    cost = cost_after(p.units, s.nodes, p.prices, p.sizes, n, nobody, nobody, np.inf)
    s.totals[COST] += cost - s.nodes[n, last]
    s.nodes[n, last] = cost
    s.version[n] += 1


@kernel
def keep_best(s: State) -> None:
    """Writes the placement to `best` if it is the cheapest so far: O(units moved since the last best)."""
    if s.totals[COST] < s.totals[LOWEST]:
        s.totals[LOWEST] = s.totals[COST]
        if s.flags[WRITTEN] > len(s.journal):
            for u in range(len(s.node)):
                s.best[u] = s.node[u]
        else:
            for i in range(s.flags[WRITTEN]):
                s.best[s.journal[i]] = s.node[s.journal[i]]
        s.flags[WRITTEN] = 0
