"""Why a problem has no layout that meets it: the smallest sets of conflicting demands, and what would make each possible."""

from __future__ import annotations

import math

import numpy as np

from foreshard.model import Conflict
from foreshard.placement.cluster import Cluster
from foreshard.placement.contradicted import Found, known_conflicts
from foreshard.placement.demands import Demand, all_demands, amount, members, near, placeable, shard_names, words
from foreshard.placement.feasibility import least_growth, satisfiable
from foreshard.placement.loads import pool_quantile

_PAIRS = 3_000  # shards that constraints bind × accepting nodes
_DEMANDS = 400
_CONFLICTS = 4  # named at most beyond the known kinds
_WORK = 0.5  # of CP-SAT's deterministic time, per question


def conflicts(cluster: Cluster) -> tuple[Conflict, ...]:
    """Each conflict's demands cannot all be met; without any one of them the others can. Empty if a layout meets everything.

    Kinds that can be counted are found at any size; those that take packing only where few shards are bound by constraints, by
    a deletion filter over CP-SAT under a limit of work, which no clock decides. Load above what the nodes offer within their
    targets comes last: a layout exists, but some node exceeds its target. Time O(S × (R + P × N)) and the filter's.
    """
    if not len(cluster.shards.ids):
        return ()
    if not cluster.accepting:
        return (_no_node(cluster),)
    found = known_conflicts(cluster)
    found += _packing(cluster, found)
    named = [Conflict(tuple(words(cluster, d) for d in demands), remedy) for demands, remedy in found]
    return (*named, *_load(cluster))


def conflicting_demands(cluster: Cluster) -> list[tuple[Demand, ...]]:
    """The demands of each conflict of `conflicts` but that of load, to check that none is dispensable."""
    found = known_conflicts(cluster)
    return [demands for demands, _ in (*found, *_packing(cluster, found))]


def _no_node(cluster: Cluster) -> Conflict:
    states = [words(cluster, Demand("state", nodes=(n,))) for n in range(len(cluster.nodes.ids))]
    who = shard_names(cluster, range(len(cluster.shards.ids)))
    verb = "needs" if len(cluster.shards.ids) == 1 else "need"
    return Conflict((f"{who} {verb} a node that takes shards", *states), "add a node, or make one of these active")


def _packing(cluster: Cluster, found: list[Found]) -> list[Found]:
    """Conflicts that counting does not show, beside those found."""
    demands = _open_demands(cluster, found)
    bound = {s for d in demands for s in d.shards} | {
        s for d in demands if d.group >= 0 for g in (d.group, d.other) if g >= 0 for s in members(cluster, g)
    }
    if not demands or len(bound) * cluster.accepting > _PAIRS or len(demands) > _DEMANDS:
        return []
    result: list[Found] = []
    while len(result) < _CONFLICTS and satisfiable(cluster, demands, _WORK) is False:
        core = _core(cluster, demands)
        result.append(Found(tuple(core), _remedy(cluster, core)))
        demands = [d for d in demands if d.kind == "limit" or d not in core]
        if all(d.kind == "limit" for d in core):
            break
    return result


def _open_demands(cluster: Cluster, found: list[Found]) -> list[Demand]:
    """Demands of what constraints bind, but for those that a known conflict names already."""
    shards = cluster.shards
    finite = np.isfinite(cluster.nodes.limit[cluster.nodes.accepts]).any(axis=0)
    bound = (shards.need[:, finite] > 0).any(axis=1) | (np.diff(shards.pin_start) > 0)
    groups = cluster.groups
    for g in range(len(groups.ids)):
        if groups.distinct[g] or groups.min_zones[g] > 1 or len(near(cluster, g)):
            for h in (g, *near(cluster, g)):
                bound[members(cluster, h)] = True
    if int(bound.sum()) * cluster.accepting > _PAIRS:
        return []
    taken = {key for f in found for d in f.demands for key in _keys(d)}
    return [d for d in all_demands(cluster, np.flatnonzero(bound).tolist()) if not taken & _keys(d)]


def _keys(demand: Demand) -> set[tuple[str, int, int, int, int]]:
    """What a demand is about, shard by shard; limits take part in any number of conflicts, so they have none."""
    if demand.kind in ("limit", "state"):
        return set()
    node = demand.nodes[0] if demand.nodes else -1
    return {(demand.kind, s, node, demand.group, demand.other) for s in demand.shards or (-1,)}


def _core(cluster: Cluster, demands: list[Demand]) -> list[Demand]:
    """Demands that conflict still, none dispensable as far as the work allowed to tell: a deletion filter, by halving blocks.

    Source: Chinneck and Dravnieks 1991. Time: O(demands) questions to CP-SAT.
    """
    kept, size = list(demands), max(1, len(demands) // 2)
    while size:
        at = 0
        while at < len(kept):
            trial = kept[:at] + kept[at + size :]
            if satisfiable(cluster, trial, _WORK) is False:
                kept = trial
            else:
                at += size
        size //= 2
    return kept


def _remedy(cluster: Cluster, core: list[Demand]) -> str:
    resources = sorted({d.resource for d in core if d.kind == "limit"})
    for r in resources:
        growth = least_growth(cluster, core, r, _WORK)
        if growth is not None:
            return f"raise {cluster.costs.names[r]} of the nodes named by {amount(_rounded_up(growth))} in all, or add a node"
    kinds = {d.kind: d for d in core}
    if "near" in kinds:
        near_by = kinds["near"]
        names = cluster.groups.ids
        return f"let group {names[near_by.other]} be in the neighbourhoods of group {names[near_by.group]}, or drop that demand"
    if "zones" in kinds:
        return f"add a node in another zone or lower min_zones of group {cluster.groups.ids[kinds['zones'].group]}"
    if "distinct" in kinds:
        return f"add a node that may hold group {cluster.groups.ids[kinds['distinct'].group]}"
    if "most" in kinds:
        return f"allow {shard_names(cluster, kinds['most'].shards)} more replicas"
    return "drop one of these demands"


def _rounded_up(value: float) -> float:
    """To four digits, upwards: coarser than what rounding needs and limits to whole numbers may hide."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return math.ceil(value / unit * (1 - 1e-9)) * unit


def _load(cluster: Cluster) -> list[Conflict]:
    """Whether all shards together exceed what the accepting nodes offer within their targets, at the worst step."""
    nodes = cluster.nodes
    needed = pool_quantile(cluster, placeable(cluster))
    offered = float((nodes.capacity * nodes.target)[nodes.accepts].sum())
    step = int(needed.argmax())
    lacking = float(needed[step]) - offered
    if lacking <= 1e-9 * offered:
        return []
    capacity = float(nodes.capacity[nodes.accepts].sum())
    largest = float(nodes.capacity[nodes.accepts].max())
    more = lacking / (offered / capacity)
    count = math.ceil(more / largest * (1 - 1e-9))
    like = f"{count} more node{'s' if count > 1 else ''} like the largest"
    return [
        Conflict(
            (
                f"all that is to be placed needs {amount(float(needed[step]))} of load at {cluster.step_label(step)}",
                f"what takes shards offers {amount(offered)} within its target",
            ),
            f"add capacity of {amount(_rounded_up(more))} ({like}), or accept that nodes exceed their targets",
        )
    ]
