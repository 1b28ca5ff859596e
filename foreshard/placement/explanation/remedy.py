"""What would have to change in a problem for a constraint to bind no longer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from foreshard.model import Node, NodeState, PlacementProblem, ShardGroup, ShardLoad


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change. `field` is a key of FIELDS; `subject` the node, shard or group it is of; `value` the least that is enough."""

    field: str
    subject: str
    value: float
    resource: str = ""
    sentence: str = ""


def remedied(problem: PlacementProblem, remedy: Remedy) -> PlacementProblem:
    """The problem with that change made."""
    return FIELDS[remedy.field](problem, remedy)


def _policy(name: str, kind: type = float) -> Callable[[PlacementProblem, Remedy], PlacementProblem]:
    def change(problem: PlacementProblem, remedy: Remedy) -> PlacementProblem:
        return replace(problem, policy=replace(problem.policy, **{name: kind(remedy.value)}))

    return change


def _node(change: Callable[[Node, Remedy], Node]) -> Callable[[PlacementProblem, Remedy], PlacementProblem]:
    def apply(problem: PlacementProblem, remedy: Remedy) -> PlacementProblem:
        nodes = tuple(change(n, remedy) if n.node_id == remedy.subject else n for n in problem.nodes)
        return replace(problem, nodes=nodes)

    return apply


def _shard(change: Callable[[ShardLoad, Remedy], ShardLoad]) -> Callable[[PlacementProblem, Remedy], PlacementProblem]:
    def apply(problem: PlacementProblem, remedy: Remedy) -> PlacementProblem:
        shards = tuple(change(s, remedy) if str(s.shard_id) == remedy.subject else s for s in problem.shards)
        return replace(problem, shards=shards)

    return apply


def _group(change: Callable[[ShardGroup, Remedy], ShardGroup]) -> Callable[[PlacementProblem, Remedy], PlacementProblem]:
    def apply(problem: PlacementProblem, remedy: Remedy) -> PlacementProblem:
        return replace(problem, groups=tuple(change(g, remedy) if g.group_id == remedy.subject else g for g in problem.groups))

    return apply


FIELDS: dict[str, Callable[[PlacementProblem, Remedy], PlacementProblem]] = {
    "bounded_load": _policy("bounded_load"),
    "max_moves": _policy("max_moves", int),
    "max_move_bytes": _policy("max_move_bytes", int),
    "state": _node(lambda n, _: replace(n, state=NodeState.ACTIVE)),
    "limit": _node(lambda n, r: replace(n, limits={**n.limits, r.resource: r.value})),
    "target": _node(lambda n, r: replace(n, targets={**n.targets, "load": r.value})),
    "avoids": _shard(lambda s, r: replace(s, avoids=tuple(n for n in s.avoids if n != r.resource))),
    "pins": _shard(lambda s, r: replace(s, pins=tuple(n for n in s.pins if n != r.resource))),
    "max_replicas": _shard(lambda s, r: replace(s, max_replicas=int(r.value))),
    "distinct_nodes": _group(lambda g, _: replace(g, distinct_nodes=False)),
    "min_zones": _group(lambda g, r: replace(g, min_zones=int(r.value))),
    "near": _group(lambda g, r: replace(g, near=tuple(n for n in g.near if n != r.resource))),
}
