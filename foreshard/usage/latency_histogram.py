"""Histograms of latency with fixed logarithmic buckets: any two merge exactly, and a quantile is right to 1 %."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

# Bucket b of a latency histogram holds (GAMMA**(b-1), GAMMA**b] milliseconds: 1 % relative error at its middle.
GAMMA = 1.01 / 0.99
_SHORTEST_MS = 1e-3

Histogram = Mapping[int, int]  # bucket → queries


def bucket_of(milliseconds: float) -> int:
    """The bucket of a latency; what is shorter than a microsecond counts as one.

    >>> bucket_of(1.0), bucket_of(100.0)
    (0, 231)
    """
    return math.ceil(math.log(max(milliseconds, _SHORTEST_MS)) / math.log(GAMMA))


def merged(histograms: Iterable[Histogram]) -> Counter[int]:
    """All queries of several histograms in one."""
    total: Counter[int] = Counter()
    for histogram in histograms:
        total.update(histogram)
    return total


def quantile(histogram: Histogram, probability: float) -> float:
    """The latency in milliseconds that a query of this rank took, to 1 %; 0 of an empty histogram. O(buckets · log buckets).

    The rank is the nearest: of n queries the ⌈probability · n⌉th shortest.
    """
    rank = max(1, math.ceil(probability * sum(histogram.values())))
    passed = 0
    for bucket, queries in sorted(histogram.items()):
        passed += queries
        if passed >= rank:
            return 2 * GAMMA**bucket / (GAMMA + 1)
    return 0.0
