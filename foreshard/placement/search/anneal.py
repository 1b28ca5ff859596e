"""Simulated annealing: a candidate is drawn, its limit of cost drawn too, and judged against that.

As the limit is known first, most candidates are given up after a few resources (threshold form of the Metropolis rule).
"""

from __future__ import annotations

import math

from foreshard.placement.assignment import Floats
from foreshard.placement.search.candidates import a_target, chain_change, shift_change, swap_change
from foreshard.placement.search.chance import draw
from foreshard.placement.search.kernel import entry
from foreshard.placement.search.moves import carry_out
from foreshard.placement.search.packing import HOME, Packed
from foreshard.placement.search.rearrange import rearrange
from foreshard.placement.search.state import State


@entry
def typical_change(p: Packed, s: State, samples: int) -> float:
    """The mean size of the cost change of a random feasible shift; 0 where none was found."""
    total, number = 0.0, 0
    for _ in range(samples):
        u = p.movable[draw(s.random, len(p.movable))]
        change = shift_change(p, s, u, a_target(p, s, u), math.inf)
        if change < math.inf:
            total += abs(change)
            number += 1
    return total / max(1, number)


@entry
def anneal(p: Packed, s: State, table: Floats, temperature: float, steps: int, swaps: int, chains: int, rooms: int) -> int:
    """Tries `steps` candidates at one temperature and returns how many were taken.

    Of 256 so many are swaps and chains, of 65,536 so many rearrangements.
    """
    unit, target = s.unit, s.target
    taken = 0
    movable = len(p.movable)
    for _ in range(steps):
        if draw(s.random, 65536) < rooms:
            taken += int(rearrange(p, s, temperature * table[draw(s.random, len(table))]))
            continue
        most = temperature * table[draw(s.random, len(table))]
        u = p.movable[draw(s.random, movable)]
        unit[0] = u
        kind = draw(s.random, 256)
        if kind < swaps + chains:
            size = 2
            v = p.movable[draw(s.random, movable)]
            unit[1], target[0] = v, s.node[v]
            if kind < swaps:
                target[1] = s.node[u]
                change = swap_change(p, s, u, v, most)
            else:
                home = p.labels[v, HOME]
                if home >= 0 and home != s.node[v] and draw(s.random, 2) == 0:
                    target[1] = home
                else:
                    target[1] = a_target(p, s, v)
                change = chain_change(p, s, u, v, target[1], most)
        else:
            target[0] = a_target(p, s, u)
            size = 1
            change = shift_change(p, s, u, target[0], most)
        if change <= most and carry_out(p, s, unit, target, size, change, most):
            taken += 1
    return taken
