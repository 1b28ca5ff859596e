"""Latency quantiles from how busy nodes were, by a queue's formula.

A node is taken for an M/M/c queue (`servers` servers, exponential service): with a = c·ρ the chance to wait is Erlang's C, the
wait of who waits is exponential with rate (c − a)·μ, and the latency is the wait plus the service. Source: Erlang 1917; the
form here after Harchol-Balter, Performance Modeling and Design of Computer Systems, 2013, chapter 14. In a step in which a
node is at or above its capacity there is no steady state: everyone there counts with the caller's patience, which also bounds
all other latencies.
"""

from __future__ import annotations

import numpy as np

from foreshard.replay.defaults import Defaults
from foreshard.replay.trace import Floats

# Utilisations are counted in so many classes from 0 to 1, and one more for 1 and above.
CLASSES = 1_000


def latency_quantile(requests: Floats, quantile: float, defaults: Defaults) -> float:
    """The latency in ms that this part of all requests stayed within.

    `requests`: by utilisation of their node, shape (CLASSES + 1,); each class is taken at its middle. 0 without requests.
    """
    total = float(requests.sum())
    if total <= 0:
        return 0.0
    slower = (1.0 - quantile) * total
    if requests[CLASSES] > slower:
        return defaults.patience_ms
    used = np.flatnonzero(requests[:CLASSES])
    utilisation, weight = (used + 0.5) / CLASSES, requests[used]
    low, high = 0.0, defaults.patience_ms
    for _ in range(60):
        middle = (low + high) / 2
        above = requests[CLASSES] + float(weight @ slower_than(middle, utilisation, defaults))
        low, high = (middle, high) if above > slower else (low, middle)
    return high


def slower_than(latency_ms: float, utilisation: Floats, defaults: Defaults) -> Floats:
    """The chance of a latency above this, at utilisations below 1 (any shape)."""
    service, servers = defaults.service_ms, defaults.servers
    waits = waiting_chance(utilisation, servers)
    x = latency_ms / service
    # Rate at which those who wait leave the queue, in units of 1/service; at 1 the sum of two equal exponentials is Erlang's.
    rate = servers * (1.0 - utilisation)
    apart = np.where(np.abs(rate - 1.0) < 1e-6, 1e-6, rate - 1.0)
    both = np.exp(-x) + (np.exp(-x) - np.exp(-x - apart * x)) / apart
    found: Floats = (1.0 - waits) * np.exp(-x) + waits * both
    return found


def waiting_chance(utilisation: Floats, servers: int) -> Floats:
    """Erlang's C: the chance that all servers are busy, by the recursion of Erlang's B, which cannot overflow."""
    offered = utilisation * servers
    blocked = np.ones_like(offered)
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    found: Floats = blocked / (1.0 - utilisation * (1.0 - blocked))
    return found
