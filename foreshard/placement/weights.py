"""Weights of the replicas, set so that the highest utilisation of any node at any step is as low as the replicas allow.

Changing weights moves no bytes, so this comes before, and instead of, any move that it makes unnecessary.
"""

from __future__ import annotations

import numpy as np

from foreshard.placement.initial import rounded_weights
from foreshard.placement.instance import Floats, Instance, Kinds
from foreshard.placement.load import Rows, loads_of, loads_of_layout, quantile, rows_of, shares

LOWEST = 0.02
ROUNDS = 150
PATIENCE = 25  # rounds without a better peak after which the search for weights ends


def utilisation(instance: Instance, kind: Kinds, weight: Floats) -> Floats:
    """Load quantile over capacity of every node at every step, shape (N, T)."""
    quantiles = quantile(loads_of_layout(instance, kind, weight), instance.policy.risk_z)
    return quantiles / instance.capacity[:, None]


def balanced(instance: Instance, kind: Kinds) -> Floats:
    """Weights of shape (S, N) under which the peak utilisation is low; each at least 0.02, summing to 1 per shard.

    They depend on where the replicas are and on the loads, not on the weights before: planning again gives the same ones.
    Multiplicative weight updates after Arora, Hazan and Kale 2012: each round prices every node and step by how near it is to
    the peak and shifts each shard towards its cheaper replicas; the best round wins. Time O(150 × replicas × steps × factors).
    """
    rows = rows_of(instance, kind)
    if not rows.shard.size:
        return np.zeros(kind.shape)
    weight = _normalised(instance, rows, instance.capacity[rows.node])
    best, best_peak, best_turn = weight, np.inf, 0
    for turn in range(ROUNDS):
        quantiles = quantile(loads_of(instance, rows, shares(instance, rows, weight)), instance.policy.risk_z)
        used = quantiles / instance.capacity[:, None]
        peak = float(used.max())
        if peak < best_peak * (1 - 1e-4):
            best, best_peak, best_turn = weight, peak, turn
        if peak <= 0 or turn - best_turn > PATIENCE:
            break
        price = _prices(instance, rows, used / peak)
        weight = _normalised(instance, rows, weight / (1.0 + price / (1.0 + turn / 10)))
    return _rounded(instance, rows, best)


def _prices(instance: Instance, rows: Rows, relative: Floats) -> Floats:
    """What one unit of each replica's weight adds near the peak, scaled so that a shard's dearest costs 1, shape (R,)."""
    near = relative
    for _ in range(5):
        near = near * near  # the 32nd power, by products alone: exp differs between machines in the last bit
    per_load = near / instance.capacity[:, None]
    price = np.add.accumulate(per_load[rows.node] * rows.mean, axis=1)[:, -1]
    dearest = np.zeros(len(instance.shard_ids))
    np.maximum.at(dearest, rows.shard, price)
    scaled: Floats = np.divide(price, dearest[rows.shard], out=np.zeros_like(price), where=dearest[rows.shard] > 0)
    return scaled


def _normalised(instance: Instance, rows: Rows, parts: Floats) -> Floats:
    """Parts brought to sum 1 per shard with none below the lowest weight."""
    count = len(instance.shard_ids)
    held = np.bincount(rows.shard, minlength=count)[rows.shard]
    lowest = np.minimum(LOWEST, 0.5 / held)
    total = np.bincount(rows.shard, parts, count)[rows.shard]
    weight: Floats = lowest + (1.0 - lowest * held) * parts / total
    return np.where(held == 1, 1.0, weight)


def _rounded(instance: Instance, rows: Rows, weight: Floats) -> Floats:
    table = np.zeros((len(instance.shard_ids), len(instance.nodes)))
    table[rows.shard, rows.node] = weight
    for line in table:
        held = np.flatnonzero(line)
        if held.size:
            line[held] = rounded_weights(line[held].tolist())
    return table
