"""The cheapest sequence of node counts over time, exactly, by dynamic programming.

After P-Store (Taft, El-Sayed, Serafini, Lu, Aboulnaga, Stonebraker, Mayerhofer, Andrade: An Elastic Database System with
Predictive Provisioning, SIGMOD 2018): from B to A nodes the data moves between min(B, A − B) pairs of nodes at once (with B
and A exchanged when nodes leave), and meanwhile the busiest node has the share 1/B + f·(1/A − 1/B) of the data, f being the
part that has moved. Unlike there, a load above the capacity is not forbidden but costs, steps may differ in length, all the
nodes of the larger count are paid for while data moves, and what holds within a step is taken at the worse of its ends.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from foreshard.placement.cluster import Floats, Ints
from foreshard.placement.search.kernel import kernel

# Nodes leave only where the load is this share below what those that stay can carry: a load that varies by 3 % either way
# around the same level then never brings them back.
BAND = 0.06
# A path over so many counts is found first; what cannot be cheaper than it is not looked at again.
COARSE = 24
# Steps × counts up to which every count is looked at, and how many counts are at least.
EXACT, FEWEST = 24_000, 64
_ROUNDING = 1e-9


class Prices(NamedTuple):
    """What a node can do, what things take and what they cost; times in seconds."""

    usable: float  # load that a node is meant to carry
    while_moving: float  # share of it while data moves
    pair_seconds: float  # for one pair of nodes to move all the data
    start_seconds: float
    verify_seconds: float
    node_second: float
    overload_second: float  # of one unit of load above what the nodes are meant to carry
    all_bytes: float  # of moving all the data


class Change(NamedTuple):
    """From `before` to `after` nodes: begun at second `begin`, in step `first`; complete from step `step` on."""

    first: int
    step: int
    begin: float
    before: int
    after: int


class Path(NamedTuple):
    """The changes in their order, and what all costs."""

    cost: float
    changes: tuple[Change, ...]


def cheapest_path(edges: Floats, load: Floats, now: int, low: int, high: int, prices: Prices) -> Path:
    """The cheapest path from `now` nodes with `low` to `high` of them, T steps that begin and end at `edges`, shape (T + 1,).

    At each step the count stays, or shrinks from its start on, or grows so that the nodes are ready at the start of a later
    step; in the first step it may also grow at once. Exact over these choices while T × counts is at most EXACT; beyond that
    over evenly spaced counts, and then over ever finer ones beside those of the path found, until that gains nothing.
    Time O(T × counts²) at worst; what cannot be cheaper than a path over few counts is left out.
    """
    size = max(FEWEST, EXACT // load.size)
    gap = -(-(high - low + 1) // size)
    needed = np.unique(np.ceil(load / prices.usable).astype(np.int64))
    chosen = [np.array([now, low, high]), needed[:: needed.size // COARSE + 1], np.linspace(low, high, COARSE).astype(np.int64)]
    path = _search(edges, load, now, np.unique(np.concatenate(chosen).clip(low, high)), prices, np.inf)
    path = _search(edges, load, now, np.unique([*range(low, high + 1, gap), now, high]), prices, path.cost)
    gain = np.inf if gap > 1 else 0.0
    while gap > 1 or gain > 0:
        gap = -(-gap // 2) if gap > 1 else 1
        own = np.array([now, *(count for change in path.changes for count in change[3:])])
        finer = _search(edges, load, now, np.unique(np.clip([own - gap, own, own + gap], low, high)), prices, path.cost)
        path, gain = finer, path.cost - finer.cost
    return path


def _search(edges: Floats, load: Floats, now: int, counts: Ints, prices: Prices, bound: float) -> Path:
    """The cheapest path over these counts, `now` among them, that costs no more than the bound."""
    steps, size = load.size, counts.size
    # The least that the steps from each on can cost: no count does better than staying there all the time.
    hours = np.diff(edges)
    steady = prices.node_second * counts + prices.overload_second * np.maximum(0.0, load[:, None] - prices.usable * counts)
    rest = np.concatenate([np.cumsum((hours * steady.min(axis=1))[::-1])[::-1], [0.0]])
    value = np.full((steps + 1, size), np.inf)
    came = np.zeros((steps + 1, size, 2), dtype=np.int64)  # step and count before
    begin = np.zeros((steps + 1, size))
    value[0, np.searchsorted(counts, now)] = 0.0
    _forward(edges, load, counts, prices, rest, bound * (1 + _ROUNDING), value, came, begin)
    at, step = int(value[steps].argmin()), steps
    cost, changes = float(value[steps, at]), []
    while step > 0:
        first, before = (int(x) for x in came[step, at])
        if before != at:
            changes.append(Change(first, step, float(begin[step, at]), int(counts[before]), int(counts[at])))
        step, at = first, before
    return Path(cost, tuple(reversed(changes)))


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]  # called from Python
def _forward(
    edges: Floats, load: Floats, counts: Ints, p: Prices, rest: Floats, bound: float, value: Floats, came: Ints, begin: Floats
) -> None:
    """Fills in the least cost of every step and count, and how it is reached."""
    for first in range(load.size):
        for b in range(counts.size):
            so_far = value[first, b]
            if so_far + rest[first] > bound:
                continue
            stay = so_far + (edges[first + 1] - edges[first]) * _rate(p, load[first], counts[b], p.usable * counts[b])
            _reach(value, came, begin, first, b, first + 1, b, stay, edges[first])
            for a in range(counts.size):
                if a != b and so_far + p.all_bytes * _part(counts[b], counts[a]) + rest[first] <= bound:
                    _change(edges, load, counts, p, first, b, a, value, came, begin)


@kernel
def _change(
    edges: Floats, load: Floats, counts: Ints, p: Prices, first: int, b: int, a: int, value: Floats, came: Ints, begin: Floats
) -> None:
    """Tries all changes between two counts that begin within the step `first`."""
    takes, so_far = change_seconds(p, counts[b], counts[a]), value[first, b]
    step = first + 1
    while step < load.size and edges[step] < edges[first] + takes:
        step += 1
    if edges[step] < edges[first] + takes or (a < b and not _may_shrink(load, first, step, p.usable * counts[a])):
        return
    if a < b or first == 0:
        cost = so_far + _change_cost(edges, load, first, step, edges[first], counts[b], counts[a], p)
        _reach(value, came, begin, first, b, step, a, cost, edges[first])
    while a > b and step <= load.size and edges[step] - takes < edges[first + 1]:
        cost = so_far + _change_cost(edges, load, first, step, edges[step] - takes, counts[b], counts[a], p)
        _reach(value, came, begin, first, b, step, a, cost, edges[step] - takes)
        step += 1


@kernel
def _reach(value: Floats, came: Ints, begin: Floats, first: int, b: int, step: int, a: int, cost: float, begins: float) -> None:
    if cost < value[step, a]:
        value[step, a] = cost
        came[step, a, 0] = first
        came[step, a, 1] = b
        begin[step, a] = begins


@kernel
def _may_shrink(load: Floats, first: int, step: int, usable: float) -> bool:
    for s in range(first, min(step + 1, load.size)):
        if load[s] > (1.0 - BAND) * usable:
            return False
    return True


@kernel
def _part(before: int, after: int) -> float:
    """The share of all data that moves."""
    return 1.0 - min(before, after) / max(before, after)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]  # called from Python
def change_seconds(p: Prices, before: int, after: int) -> float:
    """From the start of new nodes, or of moving off old ones, to the end of verification."""
    pairs = min(before, after, abs(after - before))
    starts = p.start_seconds if after > before else 0.0
    return starts + p.pair_seconds * _part(before, after) / pairs + p.verify_seconds


@kernel
def _rate(p: Prices, load: float, nodes: int, capacity: float) -> float:
    """Cost per second."""
    return p.node_second * nodes + p.overload_second * max(0.0, load - capacity)


@kernel
def _change_cost(edges: Floats, load: Floats, first: int, step: int, begin: float, before: int, after: int, p: Prices) -> float:
    """What the steps from `first` until `step` cost with a change that begins at second `begin` in them."""
    end = begin + change_seconds(p, before, after)
    moves = begin + (p.start_seconds if after > before else 0.0)
    larger = max(before, after)
    cost = p.all_bytes * _part(before, after)
    for s in range(first, step):
        low, high = edges[s], edges[s + 1]
        cost += max(0.0, min(high, begin) - low) * _rate(p, load[s], before, p.usable * before)
        cost += max(0.0, min(high, moves) - max(low, begin)) * _rate(p, load[s], larger, p.usable * before)
        cost += max(0.0, high - max(low, end)) * _rate(p, load[s], after, p.usable * after)
        x, y = max(low, moves), min(high, end)
        if y > x:
            moved = ((x if after > before else y) - moves) / (end - moves)
            capacity = p.while_moving * p.usable / (1.0 / before + moved * (1.0 / after - 1.0 / before))
            cost += (y - x) * _rate(p, load[s], larger, capacity)
    return cost
