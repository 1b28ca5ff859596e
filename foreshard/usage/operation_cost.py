"""What an operation costs: its service time as a multiple of the fleet's mean, from its latency while nodes are quiet.

In quiet intervals hardly anything waits, so latency is service. Nodes differ in speed, so log latency = node + operation is
fitted to the means by weighted least squares; costs are scaled so that the log's mean request costs 1. Waiting that is left
makes costs look more alike than they are. Intervals are 90 %, by resampling groups of hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.usage.capacity import Floats
from foreshard.usage.query_log_figures import QuietLatency

REPLICATES = 100
_SWEEPS = 20
_LEAST_QUERIES = 50


@dataclass(frozen=True, slots=True)
class OperationCost:
    """`cost`: 1 is the mean request; None where quiet intervals have too few queries of it. `queries`: quiet ones."""

    operation_id: str
    cost: float | None
    low: float | None
    high: float | None
    queries: int


def operation_costs(quiet: QuietLatency, seed: int = 0) -> list[OperationCost]:
    """The costs of all operations, by name; O(replicates · nodes · operations)."""
    counts = quiet.queries.sum(axis=(0, 2))
    known = counts >= _LEAST_QUERIES
    groups = quiet.queries.shape[2]
    whole = _fitted(quiet, np.ones(groups), known)
    generator = np.random.default_rng(seed)
    drawn = [
        _fitted(quiet, generator.multinomial(groups, [1 / groups] * groups).astype(float), known) for _ in range(REPLICATES)
    ]
    low, high = np.nanquantile(np.array(drawn), [0.05, 0.95], axis=0) if known.any() else (whole, whole)
    found = []
    for i, name in enumerate(quiet.operations):
        if known[i]:
            bounds = min(float(low[i]), float(whole[i])), max(float(high[i]), float(whole[i]))
            found.append(OperationCost(name, float(whole[i]), *bounds, int(counts[i])))
        else:
            found.append(OperationCost(name, None, None, None, int(counts[i])))
    return found


def _fitted(quiet: QuietLatency, times: Floats, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    """The costs with each group of hours taken so many times; NaN for operations that are not known or not drawn."""
    weight = (quiet.queries * times).sum(axis=2) * known
    total = (np.nan_to_num(quiet.latency) * quiet.queries * times).sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.where(weight > 0, np.log(total / np.maximum(weight, 1)), 0.0)
    node, operation = np.zeros(log.shape[0]), np.zeros(log.shape[1])
    for _ in range(_SWEEPS):
        node = (weight * (log - operation)).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
        operation = (weight * (log - node[:, None])).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)
    drawn = weight.sum(axis=0) > 0
    cost = np.where(drawn, np.exp(operation), np.nan)
    share = np.where(drawn, quiet.shares, 0.0)
    scaled: Floats = cost * share.sum() / np.nansum(cost * share) if drawn.any() else cost
    return scaled
