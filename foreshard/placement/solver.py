"""From a cluster to its next layout as arrays: what large pools use directly."""

from __future__ import annotations

import time
from dataclasses import dataclass

from foreshard.placement.changes import moves_to
from foreshard.placement.cluster import Cluster, Floats, Holdings
from foreshard.placement.effort import Effort
from foreshard.placement.loads import node_quantiles
from foreshard.placement.movement import Moves
from foreshard.placement.searching import search
from foreshard.placement.working import Draft

ITERATIONS = 500_000


@dataclass(frozen=True)
class Outcome:
    """`before`, `after`: load quantile of each node at each step, shape (N, T); `ceiling` likewise."""

    cluster: Cluster
    held: Holdings
    moves: Moves
    before: Floats
    after: Floats
    ceiling: Floats
    ended_by: str
    draft: Draft


def solve_cluster(
    cluster: Cluster, *, seed: int = 0, iterations: int | None = ITERATIONS, time_limit: float | None = None
) -> Outcome:
    """The next layout with few bytes moved. `iterations` bounds the local search, `time_limit` the seconds of it; with
    None for `iterations` the clock alone paces it.

    Without a time limit the same cluster, seed and iterations give the same outcome on any machine.
    Time O(S × K × T × F) and what the changes and the local search take.
    """
    deadline = None if time_limit is None else time.monotonic() + time_limit
    before = node_quantiles(cluster, cluster.held)
    found = search(cluster, Effort(seed, iterations, deadline))
    held = found.draft.held
    return Outcome(
        cluster=cluster,
        held=held,
        moves=moves_to(cluster, found.draft),
        before=before,
        after=node_quantiles(cluster, held),
        ceiling=found.facts.ceiling,
        ended_by=found.ended_by,
        draft=found.draft,
    )
