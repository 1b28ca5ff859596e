"""The cost change of a candidate: a shift, a swap, or a chain of two shifts. It is given up once it exceeds its limit."""

from __future__ import annotations

import math

from foreshard.placement.search.chance import draw
from foreshard.placement.search.exchange import cost_after, fits
from foreshard.placement.search.kernel import inlined
from foreshard.placement.search.moves import admits, holds
from foreshard.placement.search.packing import CLASS, HOME, PERMIT, Packed
from foreshard.placement.search.state import State, travel


@inlined
def removal(p: Packed, s: State, u: int, a: int) -> float:
    """The cost change of node a if unit u left, kept until the node changes."""
    if s.removal_version[u] != s.version[a]:
        nobody = len(p.units) - 1
        after = cost_after(p.units, s.nodes, p.prices, p.sizes, a, u, nobody, math.inf)
        s.removal[u] = after - s.nodes[a, s.nodes.shape[1] - 1]
        s.removal_version[u] = s.version[a]
    return float(s.removal[u])


@inlined
def shift_change(p: Packed, s: State, u: int, b: int, most: float) -> float:
    """The cost change of moving unit u to node b; infinity if it is above `most` or b cannot take it."""
    a = s.node[u]
    nobody = len(p.units) - 1
    if a == b or not admits(p, u, b) or not fits(p.units, p.labels, s.nodes, p.sizes, b, nobody, u):
        return math.inf
    change = removal(p, s, u, a) + travel(p, u, b) - travel(p, u, a)
    now = s.nodes[b, s.nodes.shape[1] - 1]
    change += cost_after(p.units, s.nodes, p.prices, p.sizes, b, nobody, u, most - change + now) - now
    if change > most or holds(p, s, p.labels[u, CLASS], b) > 0:
        return math.inf
    return float(change)


@inlined
def swap_change(p: Packed, s: State, u: int, v: int, most: float) -> float:
    """The cost change of units u and v trading places; infinity if it is above `most` or they cannot."""
    a, b = s.node[u], s.node[v]
    last = s.nodes.shape[1] - 1
    if (
        a == b
        or not fits(p.units, p.labels, s.nodes, p.sizes, a, u, v)
        or not fits(p.units, p.labels, s.nodes, p.sizes, b, v, u)
    ):
        return math.inf
    change = travel(p, u, b) - travel(p, u, a) + travel(p, v, a) - travel(p, v, b) - s.nodes[a, last] - s.nodes[b, last]
    change += cost_after(p.units, s.nodes, p.prices, p.sizes, a, u, v, most - change)
    if change > most:
        return math.inf
    change += cost_after(p.units, s.nodes, p.prices, p.sizes, b, v, u, most - change)
    if change > most or not admits(p, u, b) or not admits(p, v, a):
        return math.inf
    same = int(p.labels[u, CLASS] == p.labels[v, CLASS])
    if holds(p, s, p.labels[u, CLASS], b) > same or holds(p, s, p.labels[v, CLASS], a) > same:
        return math.inf
    return float(change)


@inlined
def chain_change(p: Packed, s: State, u: int, v: int, c: int, most: float) -> float:
    """The cost change of unit u taking the place of unit v, which goes to node c; infinity above `most` or if they cannot."""
    a, b = s.node[u], s.node[v]
    nobody, last = len(p.units) - 1, s.nodes.shape[1] - 1
    distinct = a != b and b != c and c != a
    if not distinct or not fits(p.units, p.labels, s.nodes, p.sizes, c, nobody, v):
        return math.inf
    if not fits(p.units, p.labels, s.nodes, p.sizes, b, v, u):
        return math.inf
    change = travel(p, u, b) - travel(p, u, a) + travel(p, v, c) - travel(p, v, b) - s.nodes[b, last] - s.nodes[c, last]
    change += removal(p, s, u, a)
    change += cost_after(p.units, s.nodes, p.prices, p.sizes, b, v, u, most - change)
    if change > most:
        return math.inf
    change += cost_after(p.units, s.nodes, p.prices, p.sizes, c, nobody, v, most - change)
    if change > most or not admits(p, u, b) or not admits(p, v, c):
        return math.inf
    same = int(p.labels[u, CLASS] == p.labels[v, CLASS])
    if holds(p, s, p.labels[u, CLASS], b) > same or holds(p, s, p.labels[v, CLASS], c) > 0:
        return math.inf
    return float(change)


@inlined
def a_target(p: Packed, s: State, u: int) -> int:
    """A random node that unit u may go to; now and then the one it came from."""
    home = p.labels[u, HOME]
    if home >= 0 and home != s.node[u] and draw(s.random, 32) == 0:
        return int(home)
    row = p.labels[u, PERMIT]
    start = p.target_start[row]
    number = p.target_start[row + 1] - start
    if number == 0:
        return int(s.node[u])
    return int(p.target[start + draw(s.random, number)])
