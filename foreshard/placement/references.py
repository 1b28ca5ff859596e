"""What one field of a problem's document cannot tell alone: names known elsewhere, lengths that agree, nothing given twice."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence, Sized
from typing import NoReturn

from foreshard.errors import ForeshardError
from foreshard.placement.documents import (
    LoadDocument,
    NodeDocument,
    ProblemDocument,
    ReplicaDocument,
    ShardDocument,
)

LARGEST_POOL = 1 << 58  # bytes; so that sums over all replicas and moves stay exact


def refuse_bad_references(problem: ProblemDocument) -> None:
    """Raises ForeshardError with the JSON path of the first field that contradicts another. Time linear in the document."""
    _nothing_twice(problem)
    _policy_and_steps(problem)
    resources = {r.name for r in problem.resources}
    for i, node in enumerate(problem.nodes):
        _node(f"nodes[{i}]", node, resources)
    known = _Known(problem, resources)
    for i, shard in enumerate(problem.shards):
        _series(f"shards[{i}]", shard, len(problem.steps))
        _shard(f"shards[{i}]", shard, known)
    _together(problem, known)
    _heavy(problem, known)
    _groups(problem, known.groups)
    _balances(problem, resources)
    _pair_cost(problem)
    if sum(s.bytes_full + sum(g.bytes for g in s.segments or ()) for s in problem.shards) > LARGEST_POOL:
        refuse("shards", "all shards together hold more than 2^58 bytes, which is more than is planned for")


def refuse_repeated_replicas(replicas: Sequence[ReplicaDocument], what: str) -> None:
    _once("layout.replicas", ((r.shard_id, r.node_id) for r in replicas), what)


def refuse(path: str, reason: str, what: str = "placement problem") -> NoReturn:
    one_line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in reason)  # names may hold anything
    raise ForeshardError(f"{what}: $.{path}: {one_line}")


class _Known:
    """What names may refer to."""

    def __init__(self, problem: ProblemDocument, resources: set[str]) -> None:
        self.resources = resources
        self.nodes = {n.node_id for n in problem.nodes}
        self.past_nodes = self.nodes | {r.node_id for r in problem.layout.replicas}
        self.groups = {g.group_id for g in problem.groups}
        self.parents: dict[int, int | None] = {r.shard_id: None for r in problem.layout.replicas}
        self.parents.update({s.shard_id: s.parent for s in problem.shards})
        self.policy = problem.policy

    def allowed_number(self, shard: ShardDocument) -> tuple[int, int]:
        """The least full replicas and the most replicas of a shard: its own, else the policy's."""
        least = self.policy.min_full_replicas if shard.min_replicas is None else shard.min_replicas
        most = max(self.policy.max_replicas, self.policy.min_full_replicas)
        return least, most if shard.max_replicas is None else shard.max_replicas


def _nothing_twice(problem: ProblemDocument) -> None:
    _once("nodes", ((n.node_id,) for n in problem.nodes))
    _once("shards", ((s.shard_id,) for s in problem.shards))
    _once("groups", ((g.group_id,) for g in problem.groups))
    _once("resources", ((r.name,) for r in problem.resources))
    _once("balances", ((b.first, b.second) for b in problem.balances))
    _once("heavy", ((h.entity_id,) for h in problem.heavy))
    refuse_repeated_replicas(problem.layout.replicas, "placement problem")
    for i, resource in enumerate(problem.resources):
        if resource.name == "load":
            refuse(f"resources[{i}].name", "load is no further resource: give it as mean and capacity")


def _policy_and_steps(problem: ProblemDocument) -> None:
    if problem.policy.min_nodes > problem.policy.max_nodes:
        refuse("policy.min_nodes", f"{problem.policy.min_nodes} is more than max_nodes, {problem.policy.max_nodes}")
    for i, (one, other) in enumerate(zip(problem.steps, problem.steps[1:], strict=False), 1):
        if one >= other:
            refuse(f"steps[{i}]", "is not after the step before it; give each step once, in ascending order")


def _node(path: str, node: NodeDocument, resources: set[str]) -> None:
    _subset(f"{path}.limits", node.limits, resources, "resource")
    _subset(f"{path}.targets", node.targets, resources | {"load"}, "resource")


def _series(path: str, load: LoadDocument, steps: int) -> None:
    rows: tuple[tuple[str, Sized], ...] = (("mean", load.mean), ("spread_own", load.spread_own))
    if load.spread_common:
        rows = (*rows, ("spread_common", load.spread_common))
    for name, values in rows:
        if len(values) != steps:
            refuse(f"{path}.{name}", f"{len(values)} values for {steps} steps")
    if load.segments is not None:
        if load.model_fields_set & {"bytes_full", "bytes_hot"}:
            refuse(f"{path}.segments", "give either segments or bytes_full and bytes_hot, not both")
        _once(f"{path}.segments", ((g.day,) for g in load.segments))


def _shard(path: str, shard: ShardDocument, known: _Known) -> None:
    _subset(f"{path}.needs", shard.needs, known.resources, "resource")
    _subset(f"{path}.pins", shard.pins, known.nodes, "node")
    _subset(f"{path}.avoids", shard.avoids, known.past_nodes, "node")
    _once(f"{path}.pins", ((n,) for n in shard.pins))
    _once(f"{path}.avoids", ((n,) for n in shard.avoids))
    if set(shard.pins) & set(shard.avoids):
        refuse(f"{path}.avoids", f"node {min(set(shard.pins) & set(shard.avoids))} is in pins as well")
    _subset(f"{path}.group", [shard.group] if shard.group else [], known.groups, "group")
    if shard.parent is not None:
        if known.parents.get(shard.parent, shard.shard_id) is not None:
            refuse(f"{path}.parent", f"{shard.parent} is no shard of this problem that is a slot")
    else:
        _allowed_number(path, shard, known)


def _allowed_number(path: str, shard: ShardDocument, known: _Known) -> None:
    least, most = known.allowed_number(shard)
    if least > most:
        which = "min_replicas" if shard.max_replicas is None else "max_replicas"
        refuse(f"{path}.{which}", f"at least {least} and at most {most} replicas cannot both hold")


def _together(problem: ProblemDocument, known: _Known) -> None:
    """Shards that share their nodes are planned as one, so they must be alike in what else binds them."""
    distinct = {g.group_id for g in problem.groups if g.distinct_nodes}
    first: dict[str, ShardDocument] = {}
    bounds: dict[str, tuple[int, int]] = {}
    for i, shard in enumerate(problem.shards):
        if not shard.together:
            continue
        path, other = f"shards[{i}].together", first.setdefault(shard.together, shard)
        if shard.parent is not None:
            refuse(path, "an isolated entity cannot share another shard's nodes")
        if other is not shard and (shard.group != other.group or shard.group in distinct):
            refuse(path, f"shard {other.shard_id} is of another group, or their group keeps its shards on distinct nodes")
        least, most = known.allowed_number(shard)
        before = bounds.get(shard.together, (least, most))
        least, most = bounds[shard.together] = max(least, before[0]), min(most, before[1])
        if least > most:
            refuse(path, f"one of these shards needs at least {least} replicas, another allows {most}")


def _heavy(problem: ProblemDocument, known: _Known) -> None:
    _once("heavy", ((h.shard_id if h.shard_id is not None else h.entity_id,) for h in problem.heavy))
    taken = {*known.parents, *(r.shard_id for r in problem.layout.replicas)}
    for i, heavy in enumerate(problem.heavy):
        _series(f"heavy[{i}]", heavy, len(problem.steps))
        if known.parents.get(heavy.slot, heavy.slot) is not None:
            refuse(f"heavy[{i}].slot", f"{heavy.slot} is no shard of this problem that is a slot")
        if heavy.shard_id is not None and known.parents.get(heavy.shard_id) != heavy.slot:
            refuse(f"heavy[{i}].shard_id", f"{heavy.shard_id} is no shard whose parent is {heavy.slot}")
        if heavy.shard_id is None and heavy.reserved is not None:
            if heavy.reserved in taken:
                refuse(f"heavy[{i}].reserved", f"{heavy.reserved} is the number of another shard; give one that is free")
            taken.add(heavy.reserved)


def _groups(problem: ProblemDocument, groups: set[str]) -> None:
    for i, group in enumerate(problem.groups):
        _subset(f"groups[{i}].near", group.near, groups - {group.group_id}, "other group")
        _once(f"groups[{i}].near", ((g,) for g in group.near))


def _balances(problem: ProblemDocument, resources: set[str]) -> None:
    for i, balance in enumerate(problem.balances):
        for name in ("first", "second"):
            resource = getattr(balance, name)
            _subset(f"balances[{i}].{name}", [resource], resources, "resource")
            without = [n.node_id for n in problem.nodes if resource not in n.limits]
            if without:
                refuse(f"balances[{i}].{name}", f"node {without[0]} gives no limit of {resource}")
        if balance.first == balance.second:
            refuse(f"balances[{i}].second", "name two different resources")


def _pair_cost(problem: ProblemDocument) -> None:
    count = len(problem.nodes)
    if not problem.pair_cost:
        return
    if len(problem.pair_cost) != count:
        refuse("pair_cost", f"{len(problem.pair_cost)} rows for {count} nodes")
    for i, row in enumerate(problem.pair_cost):
        if len(row) != count:
            refuse(f"pair_cost[{i}]", f"{len(row)} values for {count} nodes")


def _subset(path: str, names: Iterable[str], known: set[str], what: str) -> None:
    unknown = sorted(set(names) - known)
    if unknown:
        refuse(path, f"{what} {unknown[0][:60]!r} is not in the problem")


def _once(path: str, keys: Iterable[tuple[Hashable, ...]], what: str = "placement problem") -> None:
    seen: set[tuple[Hashable, ...]] = set()
    for i, key in enumerate(keys):
        if key in seen:
            refuse(f"{path}[{i}]", f"{', '.join(str(k)[:60] for k in key)} is there before; give it once", what)
        seen.add(key)
