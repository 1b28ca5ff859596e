"""What an exchange does to one node: unit `leaving` goes, unit `coming` comes. Every move is made of such exchanges.

Both functions are O(R + B + T·F). They take arrays one by one: a call that passes whole tuples of arrays would cost more than
the work that it asks for.
"""

from __future__ import annotations

import math

from foreshard.placement.assignment import Floats, Ints
from foreshard.placement.search.kernel import inlined, kernel
from foreshard.placement.search.packing import INITIAL, Sizes


@inlined
def fits(units: Floats, labels: Ints, nodes: Floats, sizes: Sizes, n: int, leaving: int, coming: int) -> bool:
    """Whether no resource of node n then exceeds its limit, or exceeds it more than now.

    A unit that comes back to its initial node finds its transient room held; one that leaves it gives none free.
    """
    held = 0.0 if labels[leaving, INITIAL] == n else 1.0
    asked = 0.0 if labels[coming, INITIAL] == n else 1.0
    for r in range(sizes.transient):
        more = asked * units[coming, r] - held * units[leaving, r]
        if more > nodes[n, r] and more > 0.0:
            return False
    for r in range(sizes.transient, sizes.resources):
        more = units[coming, r] - units[leaving, r]
        if more > nodes[n, r] and more > 0.0:
            return False
    return True


@kernel
def cost_after(
    units: Floats, nodes: Floats, prices: Floats, sizes: Sizes, n: int, leaving: int, coming: int, most: float
) -> float:
    """The cost of node n then; infinity once it is clear that it exceeds `most`."""
    resources, _, balances, steps, factors = sizes
    cost = 0.0
    for b in range(resources, resources + balances):
        spare = nodes[n, resources + b] + (units[coming, b] - units[leaving, b])
        if spare > 0.0:
            cost += prices[b] * spare
    first_step = resources + balances
    for t in range(steps):
        mean, own = first_step + t, first_step + steps + t
        variance = max(0.0, nodes[n, resources + own] + (units[coming, own] - units[leaving, own]))
        first_factor = first_step + 2 * steps + t * factors
        for i in range(first_factor, first_factor + factors):
            common = nodes[n, resources + i] + (units[coming, i] - units[leaving, i])
            variance += common * common
        excess = nodes[n, resources + mean] + (units[coming, mean] - units[leaving, mean])
        excess += prices[first_step + 1] * math.sqrt(variance)
        if excess > 0.0:
            cost += prices[first_step] * excess
    for r in range(resources):
        above = nodes[n, resources + r] + (units[coming, r] - units[leaving, r])
        if above > 0.0:
            cost += prices[r] * above
            if cost > most:
                return math.inf
    return cost
