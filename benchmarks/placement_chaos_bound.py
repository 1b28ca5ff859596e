"""The fewest bytes of one round of chaos: a mixed-integer program; if it is not solved to the end its own bound counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, hstack, vstack

Floats = npt.NDArray[np.float64]


def least_movement(
    loads: Floats, size: npt.NDArray[np.int64], held: npt.NDArray[np.bool_], highest: float, least: int
) -> float:
    """Bytes that any plan copies after which no node has more than `highest` and each shard `least` replicas.

    `held` (S, N): who holds a shard now and may go on. A shard's load may be split among its replicas in any way, so a node
    gets by copies (0 or 1 of a shard) what it lacks; those that are held cost nothing. A valid bound, since a plan keeps to
    more rules than these. By HiGHS, to within 0.1 % or 2,000 branches.
    """
    shards, nodes = held.shape
    new = np.flatnonzero(~held.ravel())  # (shard, node) pairs that would be copied
    pairs, copies = shards * nodes, len(new)
    pair = np.arange(pairs)
    of_shard, of_node = pair // nodes, pair % nodes
    ones = np.ones(pairs)
    unit = highest  # loads in units of a node's highest
    split = coo_array((ones, (of_shard, pair)), shape=(shards, pairs))
    fits = coo_array((ones, (of_node, pair)), shape=(nodes, pairs))
    only = coo_array((np.ones(copies), (np.arange(copies), new)), shape=(copies, pairs))
    opens = coo_array((-loads[new // nodes] / unit, (np.arange(copies), np.arange(copies))), shape=(copies, copies))
    counts = coo_array((np.ones(copies), (new // nodes, np.arange(copies))), shape=(shards, copies))
    none = [coo_array((rows, copies)) for rows in (shards, nodes)]
    table = vstack(
        [hstack([split, none[0]]), hstack([fits, none[1]]), hstack([only, opens]), hstack([coo_array((shards, pairs)), counts])]
    )
    lower = np.concatenate([loads / unit, np.full(nodes, -np.inf), np.full(copies, -np.inf), least - held.sum(axis=1)])
    upper = np.concatenate([loads / unit, np.full(nodes, 1 + 1e-9), np.zeros(copies), np.full(shards, np.inf)])
    bytes_of = size[new // nodes] / 1e9
    found = milp(
        np.concatenate([np.zeros(pairs), bytes_of]),
        constraints=LinearConstraint(table.tocsr(), lower, upper),
        bounds=Bounds(0.0, np.concatenate([np.full(pairs, np.inf), np.ones(copies)])),
        integrality=np.concatenate([np.zeros(pairs), np.ones(copies)]),
        options={"mip_rel_gap": 1e-3, "node_limit": 2_000, "time_limit": 30},
    )
    if found.mip_dual_bound is None:
        raise SystemExit(f"the bound of a round could not be worked out: {found.message}")
    return max(0.0, float(found.mip_dual_bound)) * 1e9
