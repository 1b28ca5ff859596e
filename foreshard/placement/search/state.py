"""Where every unit is, with the sums that a candidate move is judged by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foreshard.placement.assignment import Floats, Ints
from foreshard.placement.search.chance import Words
from foreshard.placement.search.exchange import cost_after
from foreshard.placement.search.kernel import entry, inlined, kernel
from foreshard.placement.search.packing import CLASS, GROUP, INITIAL, MARKED, Packed

Counts = npt.NDArray[np.int32]
COST, LOWEST = 0, 1
MOST_MOVED, CLEAN, WRITTEN = 0, 1, 2


class State(NamedTuple):
    """A placement and its sums. Each thread has its own."""

    node: Ints  # (U + 1,) of nobody: -1
    nodes: Floats  # (N, columns) records, see `packing`
    totals: Floats  # (2,): the cost now, the lowest cost so far
    best: Ints  # (U + 1,) the placement at the lowest cost
    present: Counts  # (rows, N) units of each large conflict class per node
    in_zone: Counts  # (W, zones) units of each watched group per zone
    zones: Counts  # (W,) zones with a unit
    in_neighbourhood: Counts  # (W, neighbourhoods)
    moved: Counts  # (G,) units away from their initial node
    moved_groups: Counts  # (U + 1,) groups by that number
    flags: Ints  # (3,): the largest number moved of a group; 1 where no group's constraint is broken; moves since the best
    journal: Ints  # (U + 1,) the units moved since the best placement, as far as they fit
    removal: Floats  # (U + 1,) cost change of its node if a unit left
    removal_version: Ints  # (U + 1,) version of the node that `removal` was worked out at
    version: Ints  # (N,) counts changes
    first: Ints  # (N,) first unit of a node, -1: none
    following: Ints  # (U + 1,) next unit on the same node
    preceding: Ints  # (U + 1,)
    random: Words  # (1,)
    unit: Ints  # (8,) scratch: the units of a move, where they are and where they go
    source: Ints  # (8,)
    target: Ints  # (8,)
    waiting: Ints  # (U + 1,) scratch: the units of a node
    log_unit: Ints  # (2U + 2,) scratch: moves to be taken back
    log_source: Ints  # (2U + 2,)


def new_state(p: Packed, node: Ints, random: Words) -> State:
    """The state of placement `node`, shape (U,), in O(U + N) and the size of the counts."""
    units, nodes, watched = len(p.units), len(p.empty), len(p.min_zones)
    state = State(
        node=np.append(node, -1),
        nodes=p.empty.copy(),
        totals=np.zeros(2),
        best=np.append(node, -1),
        present=np.zeros((max(1, int(p.class_row.max(initial=-1)) + 1), nodes), dtype=np.int32),
        in_zone=np.zeros((watched, int(p.zone.max(initial=0)) + 1), dtype=np.int32),
        zones=np.zeros(watched, dtype=np.int32),
        in_neighbourhood=np.zeros((watched, int(p.neighbourhood.max(initial=0)) + 1), dtype=np.int32),
        moved=np.zeros(len(p.watched), dtype=np.int32),
        moved_groups=np.zeros(units, dtype=np.int32),
        flags=np.zeros(3, dtype=np.int64),
        journal=np.zeros(units, dtype=np.int64),
        removal=np.zeros(units),
        removal_version=np.full(units, -1, dtype=np.int64),
        version=np.zeros(nodes, dtype=np.int64),
        first=np.full(nodes, -1, dtype=np.int64),
        following=np.full(units, -1, dtype=np.int64),
        preceding=np.full(units, -1, dtype=np.int64),
        random=random,
        unit=np.zeros(8, dtype=np.int64),
        source=np.zeros(8, dtype=np.int64),
        target=np.zeros(8, dtype=np.int64),
        waiting=np.zeros(units, dtype=np.int64),
        log_unit=np.zeros(2 * units, dtype=np.int64),
        log_source=np.zeros(2 * units, dtype=np.int64),
    )
    restart(p, state, state.node.copy())
    forget(state)
    return state


def forget(s: State) -> None:
    """Makes the placement as it is the best one."""
    s.totals[LOWEST] = s.totals[COST]
    s.best[:] = s.node


@entry
def restart(p: Packed, s: State, node: Ints) -> None:
    """Makes `node`, shape (U + 1,), the placement and works out all sums anew. Best and lowest stay."""
    s.flags[WRITTEN] = len(s.journal) + 1
    clear(s)
    for n in range(s.nodes.shape[0]):
        for i in range(s.nodes.shape[1]):
            s.nodes[n, i] = p.empty[n, i]
    s.moved_groups[0] = len(s.moved)
    s.totals[COST] = 0.0
    s.node[-1] = -1
    for u in range(len(s.node) - 1):
        s.node[u] = node[u]
        count(p, s, u, node[u], 1)
        initial = p.labels[u, INITIAL]
        if initial >= 0 and initial != node[u]:
            count_moved(p, s, p.labels[u, GROUP], 1)
            s.totals[COST] += travel(p, u, node[u])
        add(p, s, u, node[u], 1.0)
        link(s, u, node[u])
    for n in range(len(s.nodes)):
        s.version[n] += 1
        cost = cost_after(p.units, s.nodes, p.prices, p.sizes, n, len(p.units) - 1, len(p.units) - 1, np.inf)
        s.nodes[n, -1] = cost
        s.totals[COST] += cost
    s.totals[COST] += p.group_move_cost * s.flags[MOST_MOVED]
    s.flags[CLEAN] = 1
    for w in range(len(p.min_zones)):
        if s.zones[w] < p.min_zones[w]:
            s.flags[CLEAN] = 0
        for k in range(s.in_neighbourhood.shape[1]):
            if lacking(p, s, w, k) > 0:
                s.flags[CLEAN] = 0


@kernel
def clear(s: State) -> None:
    """Empties all counts and lists."""
    s.flags[MOST_MOVED] = 0
    for n in range(len(s.first)):
        s.first[n] = -1
        for row in range(len(s.present)):
            s.present[row, n] = 0
    for w in range(len(s.zones)):
        s.zones[w] = 0
        for k in range(s.in_zone.shape[1]):
            s.in_zone[w, k] = 0
        for k in range(s.in_neighbourhood.shape[1]):
            s.in_neighbourhood[w, k] = 0
    for g in range(len(s.moved)):
        s.moved[g] = 0
    for i in range(len(s.moved_groups)):
        s.moved_groups[i] = 0


@kernel
def lacking(p: Packed, s: State, w: int, k: int) -> int:
    """How many of the groups that watched group w must be near are missing from neighbourhood k, where w has a unit."""
    missing = 0
    if s.in_neighbourhood[w, k] > 0:
        for i in range(p.near_start[w], p.near_start[w + 1]):
            if s.in_neighbourhood[p.near[i], k] == 0:
                missing += 1
    return missing


@inlined
def travel(p: Packed, u: int, n: int) -> float:
    """What it costs that unit u is on node n: nothing on its initial node."""
    initial = p.labels[u, INITIAL]
    if initial < 0 or initial == n:
        return 0.0
    cost = float(p.units[u, p.units.shape[1] - 1])
    if p.pair_cost.shape[0] > 0:
        cost += float(p.pair_cost[initial, n])
    return cost


@kernel
def count(p: Packed, s: State, u: int, n: int, change: int) -> None:
    """Adds `change` to the counts of unit u's class and group on node n."""
    row = p.class_row[p.labels[u, CLASS]]
    if row >= 0:
        s.present[row, n] += change
    if p.labels[u, MARKED] == 1:
        w = p.watched[p.labels[u, GROUP]]
        before = s.in_zone[w, p.zone[n]]
        s.in_zone[w, p.zone[n]] = before + change
        s.zones[w] += np.int32(before + change > 0) - np.int32(before > 0)
        s.in_neighbourhood[w, p.neighbourhood[n]] += change


@kernel
def count_moved(p: Packed, s: State, group: int, change: int) -> None:
    """Adds `change` (1 or -1) to the units of a group that are away from their initial node."""
    if group < 0:
        return
    before = s.moved[group]
    s.moved[group] = before + change
    s.moved_groups[before] -= 1
    s.moved_groups[before + change] += 1
    if before + change > s.flags[MOST_MOVED] or (before == s.flags[MOST_MOVED] and s.moved_groups[before] == 0):
        s.flags[MOST_MOVED] = before + change


@kernel
def add(p: Packed, s: State, u: int, n: int, sign: float) -> None:
    """Adds (1.0) or takes (-1.0) unit u's record to that of node n. At its initial node its transient room is always held."""
    resources, transient, balances, steps, factors = p.sizes
    if p.labels[u, INITIAL] != n:
        for r in range(transient):
            s.nodes[n, r] -= sign * p.units[u, r]
    for r in range(transient, resources):
        s.nodes[n, r] -= sign * p.units[u, r]
    for i in range(resources + balances + steps * (2 + factors)):
        s.nodes[n, resources + i] += sign * p.units[u, i]


@kernel
def link(s: State, u: int, n: int) -> None:
    """Puts unit u at the front of node n's list."""
    following = s.first[n]
    s.following[u] = following
    s.preceding[u] = -1
    if following >= 0:
        s.preceding[following] = u
    s.first[n] = u


@kernel
def unlink(s: State, u: int, n: int) -> None:
    """Takes unit u out of node n's list."""
    before, after = s.preceding[u], s.following[u]
    if before >= 0:
        s.following[before] = after
    else:
        s.first[n] = after
    if after >= 0:
        s.preceding[after] = before
