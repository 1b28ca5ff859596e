"""The least cost of taking so much off, or putting so much on: bounds on the knapsack problem that movement comes down to."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def least_fraction(relief, cost, need):  # type: ignore[no-untyped-def]
    """Least Σ cost·x over 0 ≤ x ≤ 1 with Σ relief·x ≥ need; the cost of all items where even all do not reach it.

    Dantzig's greedy by cost per relief, with the last item found by halving rather than by sorting. Time O(I) on average.
    """
    useful = np.flatnonzero(relief > 0.0)
    ratio = cost[useful] / relief[useful]
    low, high, total, left = 0, len(useful), 0.0, need
    while high > low and left > 0.0:
        a, b, c = ratio[low], ratio[(low + high) // 2], ratio[high - 1]
        pivot = max(min(a, b), min(max(a, b), c))
        below, above = low, high
        taken, taken_cost, equal, equal_cost = 0.0, 0.0, 0.0, 0.0
        i = low
        while i < above:
            if ratio[i] < pivot:
                taken += relief[useful[i]]
                taken_cost += cost[useful[i]]
                ratio[i], ratio[below] = ratio[below], ratio[i]
                useful[i], useful[below] = useful[below], useful[i]
                below += 1
                i += 1
            elif ratio[i] > pivot:
                above -= 1
                ratio[i], ratio[above] = ratio[above], ratio[i]
                useful[i], useful[above] = useful[above], useful[i]
            else:
                equal += relief[useful[i]]
                equal_cost += cost[useful[i]]
                i += 1
        if taken >= left:
            high = below
            continue
        total, left, low = total + taken_cost, left - taken, above
        total += equal_cost * min(1.0, max(left, 0.0) / equal)
        left -= equal
    return total


@numba.njit(cache=True, nogil=True)
def least_count(relief, need):  # type: ignore[no-untyped-def]
    """The fewest items whose relief sums to the need; all of them where even these do not reach it. Time O(I log I)."""
    ordered = np.sort(relief)
    left, count = need, 0
    for i in range(len(ordered) - 1, -1, -1):
        if left <= 0.0 or ordered[i] <= 0.0:
            break
        left -= ordered[i]
        count += 1
    return count


@numba.njit(cache=True, nogil=True)
def least_whole(relief, cost, need):  # type: ignore[no-untyped-def]
    """A lower bound of the least cost of whole items, at least the one of the fewest items at the lowest costs."""
    count = least_count(relief, need)
    return np.sum(np.sort(cost[relief > 0.0])[:count])


@numba.njit(cache=True, nogil=True)
def common_divisor(cost):  # type: ignore[no-untyped-def]
    """The greatest whole number that divides all costs, 0 if all are 0: any sum of them is a multiple of it."""
    divisor = 0
    for value in cost:
        a, b = divisor, value
        while b:
            a, b = b, a % b
        divisor = a
        if divisor == 1:
            break
    return divisor


@numba.njit(cache=True, nogil=True)
def rounded_up(value, divisor):  # type: ignore[no-untyped-def]
    """The least multiple of the divisor that is not below the value, but for rounding errors of sums."""
    if divisor <= 0:
        return 0.0
    return np.ceil(value / divisor - 1e-9 * (1.0 + abs(value) / divisor)) * divisor
