"""Takes units away from where they break a constraint, before costs are looked at."""

from __future__ import annotations

import math

from foreshard.placement.search.candidates import shift_change
from foreshard.placement.search.chance import draw
from foreshard.placement.search.kernel import entry, kernel
from foreshard.placement.search.moves import admits, carry_out, holds
from foreshard.placement.search.packing import CLASS, GROUP, INITIAL, MARKED, PERMIT, Packed
from foreshard.placement.search.rearrange import make_room
from foreshard.placement.search.state import COST, LOWEST, State

_PASSES = 4
_TRIALS = 24


@entry
def repair(p: Packed, s: State) -> int:
    """Moves units off full nodes, nodes that may not hold them or hold their class twice, and into missing zones.

    Each goes to the cheapest node that takes it, or, where none does, to one where room can be made. The number of units moved;
    if there are any, the placement becomes the best one, whatever it costs. O(units moved · N · R).
    """
    moved = 0
    for _ in range(_PASSES):
        before = moved
        for i in range(len(p.movable)):
            u = p.movable[i]
            if misplaced(p, s, u):
                moved += int(settle(p, s, u, False))
            elif zones_missing(p, s, u):
                moved += int(settle(p, s, u, True))
        if moved == before:
            break
    if moved > 0:
        s.totals[LOWEST] = s.totals[COST]
        for u in range(len(s.node)):
            s.best[u] = s.node[u]
    return moved


@kernel
def misplaced(p: Packed, s: State, u: int) -> bool:
    """Whether unit u may not be on its node, is there twice, or uses what the node has too little of."""
    n = s.node[u]
    if not admits(p, u, n) or holds(p, s, p.labels[u, CLASS], n) > 1:
        return True
    home = p.labels[u, INITIAL] == n
    for r in range(p.sizes.resources):
        if s.nodes[n, r] < 0.0 and p.units[u, r] > 0.0 and not (home and r < p.sizes.transient):
            return True
    return False


@kernel
def zones_missing(p: Packed, s: State, u: int) -> bool:
    """Whether unit u's group is in too few zones, and u not alone in its own."""
    if p.labels[u, MARKED] == 0:
        return False
    w = p.watched[p.labels[u, GROUP]]
    return bool(s.zones[w] < p.min_zones[w] and s.in_zone[w, p.zone[s.node[u]]] > 1)


@kernel
def settle(p: Packed, s: State, u: int, new_zone: bool) -> bool:
    """Moves unit u to the cheapest node that takes it (in a zone without its group), or to one where room can be made."""
    row = p.labels[u, PERMIT]
    start, number = p.target_start[row], p.target_start[row + 1] - p.target_start[row]
    best, lowest = -1, math.inf
    for i in range(start, start + number):
        n = p.target[i]
        if not new_zone or s.in_zone[p.watched[p.labels[u, GROUP]], p.zone[n]] == 0:
            change = shift_change(p, s, u, n, lowest)
            if change < lowest:
                best, lowest = n, change
    if best >= 0:
        s.unit[0], s.target[0] = u, best
        return carry_out(p, s, s.unit, s.target, 1, lowest, math.inf)
    if not new_zone and number > 0:
        for _ in range(_TRIALS):
            if make_room(p, s, u, p.target[start + draw(s.random, number)], math.inf):
                return True
    return False
