"""The planner's inner problem as arrays: units to be put on nodes under hard constraints at the least cost.

A unit is one replica of one shard (or of a bundle of shards that must share a node) with a fixed share of its load. Replica
counts, kinds and weights are decided around it. Costs are of one currency and sum up; hard constraints hold for every move
that the search takes. It can state the machine reassignment problem of the ROADEF/EURO challenge 2012 as well as a pool.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Assignment(NamedTuple):
    """U units, N nodes, R linear resources, T steps (may be 0), F common factors (may be 0), G groups, B balances.

    A named tuple of arrays, because compiled code takes it as it is.

    Hard constraints, for an array `node` of shape (U,):
    - `accepts[node[u]]`, unless `node[u] == initial[u]`; `allowed[permit[u], node[u]]` where `permit[u] >= 0`; a `fixed` unit
      stays on `initial`.
    - Σ `use` of a node's units ≤ `limit`; of a `transient` resource, units that leave the node count on it as well.
    - Units of one `conflict` class are on distinct nodes.
    - The units of a group are in at least `min_zones[group]` zones (of what they can reach; never fewer than before).
    - For each group h in `near[near_start[g]:near_start[g + 1]]`: where g has a unit, h has one in the same neighbourhood.

    A constraint that the current placement breaks must not get worse, and is repaired where possible.

    Costs:
    - `soft_cost[r] × max(0, Σ use − soft)`, per node and resource;
    - `balance_cost[b] × max(0, balance_target[b] × free(first) − free(second))` with free = limit − Σ use, per node;
    - `overload_cost × max(0, quantile − ceiling)`, per node and step; quantile = Σ mean + z·√(Σ_f (Σ common_f)² + Σ own²);
    - `move_cost[u]` and `pair_cost[initial[u], node[u]]` for a unit that leaves `initial`;
    - `group_move_cost` × the largest number of moved units in any one group.
    """

    # Units. Load is already multiplied by the unit's share of its shard.
    use: Floats  # (U, R)
    mean: Floats  # (U, T)
    own_square: Floats  # (U, T)
    common: Floats  # (U, T, F)
    initial: Ints  # (U,) the node that holds it; -1 for one still to be made
    fixed: Bools  # (U,)
    permit: Ints  # (U,) row of `allowed`, -1 for any node
    conflict: Ints  # (U,) class whose units are on distinct nodes; every unit has one, of its own if need be
    group: Ints  # (U,) -1 for none
    move_cost: Floats  # (U,)
    # Groups.
    min_zones: Ints  # (G,)
    near_start: Ints  # (G + 1,)
    near: Ints
    # Nodes.
    limit: Floats  # (N, R) inf where there is none
    soft: Floats  # (N, R)
    ceiling: Floats  # (N, T) load above it is overload
    accepts: Bools  # (N,)
    zone: Ints  # (N,) 0 ≤ zone < N
    neighbourhood: Ints  # (N,) 0 ≤ neighbourhood < N
    allowed: Bools  # (K, N)
    # Resources and costs.
    transient: Bools  # (R,)
    soft_cost: Floats  # (R,)
    balance_first: Ints  # (B,)
    balance_second: Ints  # (B,)
    balance_target: Floats  # (B,)
    balance_cost: Floats  # (B,)
    pair_cost: Floats  # (N, N), or (0, 0) where moving costs the same between all
    group_move_cost: float
    overload_cost: float
    z: float


class Improved(NamedTuple):
    """What the search found: the node of each unit, its cost, and what ended it."""

    node: Ints  # (U,)
    cost: float
    ended_by: str  # "converged", "iterations" or "time limit"
    iterations: int
