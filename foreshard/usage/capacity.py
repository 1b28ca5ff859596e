"""Capacity of a node from its query log: the load at which its latency quantile reaches the target.

The log is seen as intervals: the load of one (weighted requests per second) and the latency quantile of its queries. Where
the target was reached, the curve of latency over load is read off without a model: isotonic regression of the bins' medians.
What a node worked off after an overload is left out. Where latency rose but stayed below the target,
q(x) = a + b·ρᵏ/(1 − ρ), ρ = x/μ, is fitted and followed up to the target: the shape of the waiting time of queues with one or
many servers (Sakasegawa 1977 for ρᵏ). Where it did not rise, the log says only that the capacity is higher than any load seen:
the bound is the 99th percentile of the loads. Intervals are 90 %, by resampling blocks of neighbouring intervals.
O(replicates · intervals).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BINS = 24
REPLICATES = 100
# A bin has at least so many intervals, and a curve so many bins.
_BIN_INTERVALS = 4
_LEAST_BINS = 4
# Latency has risen if the busiest bins are slower than the quietest by this factor.
_RISEN = 1.4
_POWERS = (1.0, 2.0, 4.0, 8.0)
_LIMITS = np.geomspace(1.01, 8.0, 60)  # μ as multiples of the highest load seen
_BLOCK = 12
# A node was overloaded when its latency went to this multiple of the target.
_OVERLOADED = 2.0


class Evidence(StrEnum):
    """How far the log bears the estimate out."""

    MEASURED = "measured"  # latency reached the target
    EXTRAPOLATED = "extrapolated"  # it rose towards it
    LOWER_BOUND = "lower bound"  # it did not rise: the capacity is above every load seen
    TARGET_TOO_LOW = "target too low"  # slower than the target even when idle
    NOT_ENOUGH = "not enough data"


@dataclass(frozen=True)
class NodeIntervals:
    """One node's log as intervals in the order of time, each array of shape (intervals,): load in weighted requests per
    second, and the quantile of the latency in milliseconds."""

    load: Floats
    latency: Floats


@dataclass(frozen=True, slots=True)
class CapacityEstimate:
    """Weighted requests per second. `estimate` is None where the log gives none; for a lower bound it is that bound."""

    estimate: float | None
    low: float | None
    high: float | None
    evidence: Evidence
    highest_load: float
    latency_when_idle: float | None
    reason: str


def estimate_capacity(node: NodeIntervals, target_ms: float, seed: int = 0) -> CapacityEstimate:
    """The capacity of a node at the target; the same intervals and seed give the same estimate."""
    top = float(np.quantile(node.load, 0.99)) if len(node.load) else 0.0
    node = without_backlog(node, target_ms)
    curve = _curve(node.load, node.latency)
    if curve is None:
        need = _LEAST_BINS * _BIN_INTERVALS
        reason = f"{len(node.load)} intervals of the log at different loads are too few; it takes {need}"
        return CapacityEstimate(None, None, None, Evidence.NOT_ENOUGH, top, None, reason)
    idle = float(curve[1][0])
    if idle >= target_ms:
        reason = f"its quietest intervals already take {idle:.4g} ms, more than the target of {target_ms:.4g} ms"
        return CapacityEstimate(None, None, None, Evidence.TARGET_TOO_LOW, top, idle, reason)
    found = _crossing(*curve, target_ms)
    if found is not None:
        return _measured(node, target_ms, found, top, idle, seed)
    if _rise(curve[1]) < _RISEN:
        reason = f"latency did not rise up to {top:.4g}, so the capacity is higher; only more load on it could tell"
        return CapacityEstimate(top, top, None, Evidence.LOWER_BOUND, top, idle, reason)
    return _extrapolated(node, curve, target_ms, top, idle, seed)


def without_backlog(node: NodeIntervals, target_ms: float) -> NodeIntervals:
    """The intervals without those in which a node worked off what an overload had left: slow whatever their own load.

    In a run of intervals above the target that went to twice the target, they are those after the slowest one. O(intervals).
    """
    slow = np.concatenate([[0], (node.latency >= target_ms).astype(int), [0]])
    begins, ends = np.flatnonzero(np.diff(slow) == 1), np.flatnonzero(np.diff(slow) == -1)
    kept = np.ones(len(node.load), dtype=bool)
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        slowest = begin + int(np.argmax(node.latency[begin:end]))
        if node.latency[slowest] >= _OVERLOADED * target_ms:
            kept[slowest + 1 : end] = False
    return NodeIntervals(node.load[kept], node.latency[kept])


def _measured(node: NodeIntervals, target: float, found: float, top: float, idle: float, seed: int) -> CapacityEstimate:
    drawn = []
    for load, latency in _resampled(node, seed):
        curve = _curve(load, latency)
        crossing = _crossing(*curve, target) if curve is not None else None
        drawn.append(float(load.max()) if crossing is None else crossing)
    low, high = np.quantile(drawn, [0.05, 0.95])
    reason = f"latency reached the target of {target:.4g} ms at this load"
    return CapacityEstimate(found, min(float(low), found), max(float(high), found), Evidence.MEASURED, top, idle, reason)


def _extrapolated(
    node: NodeIntervals, curve: tuple[Floats, Floats, Floats], target: float, top: float, idle: float, seed: int
) -> CapacityEstimate:
    seen = float(curve[0][-1])
    found = max(_followed(*curve, target), seen)
    drawn = []
    for load, latency in _resampled(node, seed):
        again = _curve(load, latency)
        if again is not None:
            drawn.append(_followed(*again, target))
    low, high = np.quantile(drawn, [0.05, 0.95]) if drawn else (seen, found)
    bounds = max(min(float(low), found), seen), max(float(high), found)
    reason = f"latency rose by {_rise(curve[1]):.2g} times up to {seen:.4g}; the curve was followed from there to the target"
    return CapacityEstimate(found, *bounds, Evidence.EXTRAPOLATED, top, idle, reason)


def _curve(load: Floats, latency: Floats) -> tuple[Floats, Floats, Floats] | None:
    """Bins of about equal width, by load: median load, latency that never falls, intervals. None if there are too few."""
    order = np.argsort(load, kind="stable")
    load, latency = load[order], latency[order]
    if len(load) < _LEAST_BINS * _BIN_INTERVALS:
        return None
    width = (np.quantile(load, 0.995) - load[0]) / BINS
    if width <= 0.005 * load[-1]:
        return None
    starts = [0]
    for i in range(1, len(load)):
        wide = load[i] - load[starts[-1]] >= width
        if wide and i - starts[-1] >= _BIN_INTERVALS and len(load) - i >= _BIN_INTERVALS:
            starts.append(i)
    if len(starts) < _LEAST_BINS:
        return None
    parts = list(zip(starts, [*starts[1:], len(load)], strict=True))
    x = np.array([np.median(load[a:b]) for a, b in parts])
    q = np.array([np.median(latency[a:b]) for a, b in parts])
    n = np.array([b - a for a, b in parts], dtype=float)
    return x, np.exp(_isotonic(np.log(q), n)), n


def _isotonic(values: Floats, weights: Floats) -> Floats:
    """The closest sequence that never falls, in weighted squares (pool adjacent violators); O(n)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        count = 1
        while blocks and blocks[-1][0] >= value:
            before, heavy, many = blocks.pop()
            value = (before * heavy + value * weight) / (heavy + weight)
            weight, count = weight + heavy, count + many
        blocks.append((value, weight, count))
    return np.concatenate([np.full(count, value) for value, _, count in blocks])


def _crossing(x: Floats, q: Floats, n: Floats, target: float) -> float | None:
    """The load at which the curve passes the target; None if it stays below it.

    Between two bins 1/q falls about linearly with load, as it does for a queue near saturation.
    """
    above = np.flatnonzero(q >= target)
    if not len(above) or above[0] == 0:
        return None
    i = int(above[0])
    share = (1 / q[i - 1] - 1 / target) / (1 / q[i - 1] - 1 / q[i])
    return float(x[i - 1] + share * (x[i] - x[i - 1]))


def _rise(q: Floats) -> float:
    """How many times slower the busiest bin is than the quietest."""
    return float(q[-1] / q[0])


def _followed(x: Floats, q: Floats, n: Floats, target: float) -> float:
    """Where the fitted queue reaches the target: over all k and μ, a and b by weighted least squares of relative errors."""
    best, reached = math.inf, float(x[-1])
    weight = np.sqrt(n) / q
    for power in _POWERS:
        for limit in _LIMITS * x[-1]:
            rho = x / limit
            wait = rho**power / (1 - rho)
            design = np.stack([weight, weight * wait], axis=1)
            (a, b), *_ = np.linalg.lstsq(design, weight * q, rcond=None)
            if a <= 0 or b <= 0:
                continue
            error = float(np.sum((design @ np.array([a, b]) - weight * q) ** 2))
            if error < best:
                best, reached = error, _reaches(a, b, power, limit, target)
    return reached


def _reaches(a: float, b: float, power: float, limit: float, target: float) -> float:
    """The load at which a + b·ρᵏ/(1 − ρ) is the target, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if a + b * middle**power / (1 - middle) < target else (low, middle)
    return low * limit


def _resampled(node: NodeIntervals, seed: int) -> list[tuple[Floats, Floats]]:
    """Replicates of the log made of blocks of neighbouring intervals, which depend on each other."""
    generator = np.random.default_rng(seed)
    count = len(node.load)
    block = min(_BLOCK, max(count // 20, 1))
    starts = np.arange(0, count, block)
    drawn = []
    for _ in range(REPLICATES):
        chosen = generator.choice(starts, len(starts))
        rows = np.concatenate([np.arange(s, min(s + block, count)) for s in chosen])
        drawn.append((node.load[rows], node.latency[rows]))
    return drawn
