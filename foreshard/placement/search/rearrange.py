"""Room for one unit where it does not fit: others leave its target first, one by one, each to the cheapest place found.

After the rearrangement of big processes in Gavranović, Buljubašić and Demirović, "Variable neighborhood search for Google
machine reassignment" (2012), with the acceptance rule of the annealing around it. Small units move by themselves.
"""

from __future__ import annotations

import math

from foreshard.placement.search.candidates import removal, shift_change
from foreshard.placement.search.chance import draw
from foreshard.placement.search.exchange import fits
from foreshard.placement.search.kernel import kernel
from foreshard.placement.search.moves import admits, carry_out, holds, take_back
from foreshard.placement.search.packing import CLASS, INITIAL, PERMIT, Packed
from foreshard.placement.search.state import COST, State

# Targets that are looked at for a unit that has to leave, and candidates among which the unit to make room for is chosen.
_LOOKED_AT = 64
_DRAWN = 6


@kernel
def rearrange(p: Packed, s: State, most: float) -> bool:
    """Brings a big or costly unit to a random node, unless that costs more than `most`."""
    u = one_in_need(p, s)
    row = p.labels[u, PERMIT]
    number = p.target_start[row + 1] - p.target_start[row]
    if number == 0:
        return False
    return make_room(p, s, u, p.target[p.target_start[row] + draw(s.random, number)], most)


@kernel
def make_room(p: Packed, s: State, u: int, b: int, most: float) -> bool:
    """Brings unit u to node b and takes everything back if that costs more than `most`.

    O(units of the node · nodes looked at · R).
    """
    a = s.node[u]
    if a == b or not admits(p, u, b) or not could_fit(p, s, u, b):
        return False
    before = s.totals[COST]
    moves = clear_way(p, s, u, b)
    if moves >= 0:
        moves = bring(p, s, u, a, b, moves)
        if s.totals[COST] - before <= most and s.node[u] == b:
            return True
    take_back(p, s, s.log_unit, s.log_source, moves if moves >= 0 else -1 - moves)
    return False


@kernel
def one_in_need(p: Packed, s: State) -> int:
    """The largest of some random units, or the one whose node would gain most by its leaving."""
    u = p.movable[draw(s.random, len(p.movable))]
    by_size = draw(s.random, 2) == 0
    for _ in range(_DRAWN):
        v = p.movable[draw(s.random, len(p.movable))]
        better = p.size[v] > p.size[u] if by_size else removal(p, s, v, s.node[v]) < removal(p, s, u, s.node[u])
        if better:
            u = v
    return int(u)


@kernel
def could_fit(p: Packed, s: State, u: int, b: int) -> bool:
    """Whether unit u would fit on node b without all the units that may leave it, and nothing of its class stays."""
    resources, transient = p.sizes.resources, p.sizes.transient
    home = p.labels[u, INITIAL] == b
    for r in range(resources):
        if home and r < transient:
            continue
        lacking = p.units[u, r] - s.nodes[b, r]
        v = s.first[b]
        while v >= 0 and lacking > 0.0:
            if p.free[v] and not (r < transient and p.labels[v, INITIAL] == b):
                lacking -= p.units[v, r]
            v = s.following[v]
        if lacking > 0.0:
            return False
    return True


@kernel
def clear_way(p: Packed, s: State, u: int, b: int) -> int:
    """Moves units off node b in random order until unit u fits. The number of moves; below zero (-1 - moves) if it failed."""
    nobody = len(p.units) - 1
    number = 0
    v = s.first[b]
    while v >= 0:
        if p.free[v]:
            s.waiting[number] = v
            number += 1
        v = s.following[v]
    moves = 0
    while not fits(p.units, p.labels, s.nodes, p.sizes, b, nobody, u) or holds(p, s, p.labels[u, CLASS], b) > 0:
        if number == 0:
            return -1 - moves
        chosen = draw(s.random, number)
        v = s.waiting[chosen]
        number -= 1
        s.waiting[chosen] = s.waiting[number]
        if helps(p, s, u, v, b) and send_off(p, s, v, b, math.inf):
            s.log_unit[moves], s.log_source[moves] = v, b
            moves += 1
    return moves


@kernel
def helps(p: Packed, s: State, u: int, v: int, b: int) -> bool:
    """Whether unit v holds some of what unit u lacks on node b, or is of its class."""
    if p.labels[u, CLASS] == p.labels[v, CLASS]:
        return True
    home, stays = p.labels[u, INITIAL] == b, p.labels[v, INITIAL] == b
    for r in range(p.sizes.resources):
        if r < p.sizes.transient and (home or stays):
            continue
        if p.units[u, r] > s.nodes[b, r] and p.units[v, r] > 0.0:
            return True
    return False


@kernel
def send_off(p: Packed, s: State, v: int, b: int, most: float) -> bool:
    """Moves unit v from node b to the cheapest of some other nodes, at a cost of at most `most`."""
    row = p.labels[v, PERMIT]
    start, number = p.target_start[row], p.target_start[row + 1] - p.target_start[row]
    if number == 0:
        return False
    at = draw(s.random, number)
    best, lowest = -1, most
    for _ in range(min(number, _LOOKED_AT)):
        n = p.target[start + at]
        at = at + 1 if at + 1 < number else 0
        change = shift_change(p, s, v, n, lowest)
        if change < lowest:
            best, lowest = n, change
    if best < 0:
        return False
    s.unit[0], s.target[0] = v, best
    return carry_out(p, s, s.unit, s.target, 1, lowest, math.inf)


@kernel
def send_to(p: Packed, s: State, v: int, n: int, most: float) -> bool:
    """Moves unit v to node n if that is legal and costs at most `most`."""
    change = shift_change(p, s, v, n, most)
    if change == math.inf:
        return False
    s.unit[0], s.target[0] = v, n
    return carry_out(p, s, s.unit, s.target, 1, change, most)


@kernel
def bring(p: Packed, s: State, u: int, a: int, b: int, moves: int) -> int:
    """Moves unit u from node a to node b, then the units that left b to a where that is cheaper. The number of moves."""
    if not send_to(p, s, u, b, math.inf):
        return moves
    s.log_unit[moves], s.log_source[moves] = u, a
    left = moves
    moves += 1
    for i in range(left):
        v = s.log_unit[i]
        source = s.node[v]
        if send_to(p, s, v, a, 0.0):
            s.log_unit[moves], s.log_source[moves] = v, source
            moves += 1
    return moves
