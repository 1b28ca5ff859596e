"""Random numbers of the compiled search: one 64-bit word per thread, so that a run depends on its seed alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from foreshard.placement.search.kernel import inlined

Words = npt.NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_BITS = 12


def word(seed: int, stream: int) -> Words:
    """The first word of stream `stream` of `seed`, shape (1,): splitmix64, never zero."""
    mask = (1 << 64) - 1
    mixed = (seed * 0x2545F4914F6CDD1D + (stream + 1) * _GOLDEN) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return np.array([(mixed ^ (mixed >> 31)) or _GOLDEN], dtype=np.uint64)


def exponential_table() -> npt.NDArray[np.float64]:
    """Quantiles of the exponential distribution with mean 1, shape (4096,).

    A table, rounded, because a logarithm's last digit differs between processors and would make runs differ.
    """
    count = 1 << _BITS
    return np.array([-round(math.log((i + 0.5) / count), 9) for i in range(count)])


@inlined
def draw(state: Words, below: int) -> int:
    """A whole number from 0 to `below` − 1 (`below` < 2³¹), by xorshift64*."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    top = np.int64((x * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(33))
    return int((top * below) >> 31)
