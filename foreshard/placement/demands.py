"""What a problem demands of every layout, one by one and in words: an infeasible problem names the conflicting ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from foreshard.placement.cluster import Bools, Cluster, Ints

Kind = Literal["replicas", "pin", "most", "limit", "distinct", "zones", "near", "state"]

_NAMED = 200  # shards or nodes named in one demand


class Demand(NamedTuple):
    """One demand. Which nodes accept shards and which may hold a shard are facts, except for `state`, of a node pinned to.

    replicas: each of `shards` has its least full replicas (an isolated entity: one replica). pin: the shard is on the node.
    most: the shard has no more replicas than allowed. limit: each of `nodes` keeps its limit of `resource`. distinct, zones,
    near: the `group`'s constraint, near that `other`. state: the node takes no shards.
    """

    kind: Kind
    shards: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()
    resource: int = -1
    group: int = -1
    other: int = -1


def all_demands(cluster: Cluster, among: Sequence[int]) -> list[Demand]:
    """Every demand that may take part in a conflict, those of one shard or node each; of shards, only of those `among`."""
    shards, groups, nodes = cluster.shards, cluster.groups, cluster.nodes
    found = [Demand("near", group=g, other=int(h)) for g in range(len(groups.ids)) for h in near(cluster, g)]
    found += [Demand("zones", group=int(g)) for g in np.flatnonzero(groups.min_zones > 1) if members(cluster, int(g))]
    found += [Demand("distinct", group=int(g)) for g in np.flatnonzero(groups.distinct)]
    found += [Demand("most", (s,)) for s in among]
    found += [Demand("pin", (s,), (n,)) for s in among for n in pins(cluster, s) if nodes.accepts[n]]
    found += [
        Demand("limit", nodes=(int(n),), resource=r)
        for r in range(nodes.limit.shape[1])
        for n in np.flatnonzero(np.isfinite(nodes.limit[:, r]) & nodes.accepts)
    ]
    found += [Demand("replicas", (s,)) for s in among if shards.least[s] > 0 or shards.parent[s] >= 0]
    return found


def words(cluster: Cluster, demand: Demand) -> str:
    """The demand as a clause that a person understands; it names its subjects as `shard 5`, `node n1`, `group g`."""
    return _WORDS[demand.kind](cluster, demand)


def pins(cluster: Cluster, shard: int) -> list[int]:
    shards = cluster.shards
    return [int(n) for n in shards.pins[shards.pin_start[shard] : shards.pin_start[shard + 1]]]


def near(cluster: Cluster, group: int) -> list[int]:
    groups = cluster.groups
    return [int(g) for g in groups.near[groups.near_start[group] : groups.near_start[group + 1]]]


def members(cluster: Cluster, group: int) -> list[int]:
    return [int(s) for s in np.flatnonzero(cluster.shards.group == group)]


def may_hold(cluster: Cluster, shard: int) -> Bools:
    """Accepting nodes that may hold the shard, (N,)."""
    permit = int(cluster.shards.permit[shard])
    may: Bools = cluster.nodes.accepts if permit < 0 else cluster.nodes.accepts & cluster.allowed[permit]
    return may


def placeable(cluster: Cluster) -> Bools:
    """Which shards some accepting node may hold, (S,)."""
    rows = np.vstack([cluster.allowed, np.ones((1, len(cluster.nodes.ids)), dtype=np.bool_)]) & cluster.nodes.accepts
    somewhere: Bools = np.any(rows, axis=1)
    return somewhere[permit_rows(cluster)]


def permit_rows(cluster: Cluster) -> Ints:
    """The shard's row of `allowed`, or the number of rows where it has none, (S,)."""
    rows: Ints = np.where(cluster.shards.permit < 0, len(cluster.allowed), cluster.shards.permit)
    return rows


def named(kind: str, names: Sequence[str]) -> str:
    """`node a`, `nodes a, b and c`; very many end in `and others`."""
    if len(names) == 1:
        return f"{kind} {names[0]}"
    shown = [*names[:_NAMED], "others"] if len(names) > _NAMED else list(names)
    return f"{kind}s {', '.join(shown[:-1])} and {shown[-1]}"


def node_names(cluster: Cluster, nodes: Sequence[int]) -> str:
    return named("node", [cluster.nodes.ids[n] for n in nodes])


def shard_names(cluster: Cluster, shards: Sequence[int]) -> str:
    return named("shard", [str(cluster.shards.ids[s]) for s in shards])


def amount(value: float) -> str:
    return f"{value:.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def _replicas(cluster: Cluster, demand: Demand) -> str:
    shards = cluster.shards
    who = shard_names(cluster, demand.shards)
    verb, each, in_all = ("needs", "", "") if len(demand.shards) == 1 else ("need", " each", " in all")
    counts = {max(1, int(shards.least[s])) for s in demand.shards}
    of = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(counts.pop())
    kind = "replica" if len(demand.shards) == 1 and shards.least[demand.shards[0]] == 0 else "full replica"
    plural = "" if of == "1" else "s"
    needs = []
    for r, name in enumerate(cluster.costs.names):
        total = sum(float(shards.need[s, r]) * int(shards.least[s]) for s in demand.shards)
        if total > 0:
            needs.append(f"{amount(total)} of resource {name}{in_all}")
    where = f"; {_where(cluster, demand.shards[0])}" if len(demand.shards) == 1 else ""
    return f"{who} {verb} {of} {kind}{plural}{each}{', with ' + ', '.join(needs) if needs else ''}{where}"


def _where(cluster: Cluster, shard: int) -> str:
    may = np.flatnonzero(may_hold(cluster, shard))
    if cluster.shards.permit[shard] < 0 or not len(may):
        return f"{len(may)} nodes may hold it" if len(may) != 1 else "1 node may hold it"
    return f"{node_names(cluster, may.tolist())} may hold it"


def _pin(cluster: Cluster, demand: Demand) -> str:
    return f"{shard_names(cluster, demand.shards)} is pinned to {node_names(cluster, demand.nodes)}"


def _most(cluster: Cluster, demand: Demand) -> str:
    return f"{shard_names(cluster, demand.shards)} may have at most {int(cluster.shards.most[demand.shards[0]])} replicas"


def _limit(cluster: Cluster, demand: Demand) -> str:
    total = float(cluster.nodes.limit[list(demand.nodes), demand.resource].sum())
    verb, in_all = ("has", "") if len(demand.nodes) == 1 else ("have", " in all")
    resource = cluster.costs.names[demand.resource]
    return f"{node_names(cluster, demand.nodes)} {verb} {amount(total)} of resource {resource}{in_all}"


def _distinct(cluster: Cluster, demand: Demand) -> str:
    return f"group {cluster.groups.ids[demand.group]} wants all its replicas on distinct nodes"


def _zones(cluster: Cluster, demand: Demand) -> str:
    zones = zones_of(cluster, demand.group)
    reach = f"nodes that may hold it are in {len(zones)} ({', '.join(zones)})"
    return f"group {cluster.groups.ids[demand.group]} must be in {int(cluster.groups.min_zones[demand.group])} zones; {reach}"


def zones_of(cluster: Cluster, group: int) -> list[str]:
    """Names of the zones that the group's shards can reach."""
    nodes = np.zeros(len(cluster.nodes.ids), dtype=np.bool_)
    for s in members(cluster, group):
        nodes |= may_hold(cluster, s)
    return [cluster.nodes.zone_names[z] or "one without a name" for z in np.unique(cluster.nodes.zone[nodes])]


def _near(cluster: Cluster, demand: Demand) -> str:
    ids = cluster.groups.ids
    return f"group {ids[demand.group]} must have group {ids[demand.other]} in each neighbourhood that it is in"


def _state(cluster: Cluster, demand: Demand) -> str:
    n = demand.nodes[0]
    return f"node {cluster.nodes.ids[n]} is {'draining' if cluster.nodes.live[n] else 'dead'} and takes no shards"


_WORDS = {
    "replicas": _replicas,
    "pin": _pin,
    "most": _most,
    "limit": _limit,
    "distinct": _distinct,
    "zones": _zones,
    "near": _near,
    "state": _state,
}
