"""What the verifier looks up, from the model alone: nodes, shards, sizes, allowed numbers and what conflicts excuse."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from foreshard.model import Layout, Node, NodeState, PlacementProblem, Plan, ShardLoad

# What a layout holds: (shard, node) → the day from which, None for all time.
Holdings = dict[tuple[int, str], date | None]


_KINDS = ("shard", "node", "group", "resource", "label")


class Subject(NamedTuple):
    """What a demand is about. `kind`: shard, node, group, resource or label."""

    kind: str
    name: str


@dataclass
class Facts:
    """A problem and its plan, looked up. `new`: nodes that join or hold nothing yet, which take their share."""

    problem: PlacementProblem
    plan: Plan
    nodes: dict[str, Node] = field(init=False)
    live: set[str] = field(init=False)
    accepting: set[str] = field(init=False)
    new: set[str] = field(init=False)
    shards: dict[int, ShardLoad] = field(init=False)
    isolated: set[int] = field(init=False)
    ended: set[int] = field(init=False)
    members: dict[str, list[int]] = field(init=False)
    labels: dict[str, list[int]] = field(init=False)
    before: Holdings = field(init=False)
    after: Holdings = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = {n.node_id: n for n in self.problem.nodes}
        self.live = {n.node_id for n in self.problem.nodes if n.state is not NodeState.DEAD}
        self.accepting = {n.node_id for n in self.problem.nodes if n.state in (NodeState.ACTIVE, NodeState.JOINING)}
        self.before, self.after = holdings(self.problem.layout), holdings(self.plan.layout)
        used = {node for _, node in self.before}
        self.new = {n for n in self.accepting if self.nodes[n].state is NodeState.JOINING or n not in used}
        self.isolated = {i.shard_id for i in self.plan.isolations if not i.ends}
        self.ended = {i.shard_id for i in self.plan.isolations if i.ends}
        self.shards = self._shards()
        self.members, self.labels = defaultdict(list), defaultdict(list)
        for shard in self.shards.values():
            if shard.group:
                self.members[shard.group].append(shard.shard_id)
            if shard.together:
                self.labels[shard.together].append(shard.shard_id)
        self._named = [_subjects(demand) for conflict in self.plan.conflicts for demand in conflict.demands]

    def _shards(self) -> dict[int, ShardLoad]:
        """Those of the problem, those that only the layout knows, and entities that the plan isolates."""
        zeros = (0.0,) * len(self.problem.steps)
        shards = {shard: ShardLoad(shard, zeros, zeros) for shard, _ in self.before}
        shards |= {s.shard_id: s for s in self.problem.shards}
        heavy = {h.entity_id: h for h in self.problem.heavy}
        for isolation in self.plan.isolations:
            entity = heavy.get(isolation.entity_id)
            if entity is not None and not isolation.ends:
                shards.setdefault(
                    isolation.shard_id,
                    ShardLoad(
                        isolation.shard_id,
                        entity.mean,
                        entity.spread_own,
                        entity.spread_common,
                        entity.bytes_full,
                        entity.bytes_hot,
                        entity.recent_share,
                        parent=entity.slot,
                    ),
                )
        return shards

    def least(self, shard: ShardLoad) -> int:
        """Full replicas that it must have; an isolated entity's are its slot's."""
        if shard.parent is not None:
            return 0
        wanted = self.problem.policy.min_full_replicas if shard.min_replicas is None else shard.min_replicas
        return min(wanted, max(1, len(self.accepting)))

    def most(self, shard: ShardLoad) -> int:
        policy = self.problem.policy
        return max(policy.max_replicas, policy.min_full_replicas) if shard.max_replicas is None else shard.max_replicas

    def size(self, shard_id: int, day: date | None) -> int:
        """Bytes of a replica that holds from `day` on."""
        shard = self.shards.get(shard_id)
        if shard is None:
            return 0
        return shard.bytes_full if day is None else min(shard.bytes_hot, shard.bytes_full)

    def need(self, shard_id: int, resource: str, day: date | None) -> float:
        """What a replica takes of a resource: a hot one its share of the bytes."""
        shard = self.shards.get(shard_id)
        if shard is None:
            return 0.0
        need = shard.needs.get(resource, 0.0)
        if day is None or shard.bytes_full == 0:
            return need
        return need * min(shard.bytes_hot, shard.bytes_full) / shard.bytes_full

    def excused(self, subjects: Iterable[Subject]) -> bool:
        """Whether one demand of a conflict is about one of these."""
        wanted = set(subjects)
        return any(wanted & named for named in self._named)

    def moves_left(self) -> int:
        return self.problem.policy.max_moves - len(self.plan.moves)

    def bytes_left(self) -> int:
        return self.problem.policy.max_move_bytes - sum(m.bytes for m in self.plan.moves)

    def bundle(self, shard_id: int) -> list[int]:
        """The shards that go where this one goes, itself among them."""
        shard = self.shards.get(shard_id)
        return self.labels[shard.together] if shard is not None and shard.together else [shard_id]

    def affordable(self, shard_ids: Iterable[int], copies: int = 1) -> bool:
        """Whether the budget would have allowed to copy each so often (0: to drop it), with all that goes where they go."""
        whole = {other for shard in shard_ids for other in self.bundle(shard)}
        volume = sum(self.size(s, None) for s in whole) * copies
        return len(whole) * max(1, copies) <= self.moves_left() and volume <= self.bytes_left()


def holdings(layout: Layout) -> Holdings:
    return {(r.shard_id, r.node_id): r.covers_from for r in layout.replicas}


def nodes_of(held: Holdings, among: set[str]) -> dict[int, set[str]]:
    """The nodes of `among` that hold each shard."""
    result: dict[int, set[str]] = defaultdict(set)
    for shard, node in held:
        if node in among:
            result[shard].add(node)
    return result


def full_counts(held: Holdings, among: set[str]) -> Counter[int]:
    return Counter(shard for (shard, node), day in held.items() if day is None and node in among)


def _subjects(demand: str) -> set[Subject]:
    """What a demand names: `shard 5`, `shards 5, 6 and 7`, `node n1`, `group g`, `resource storage`, `label l`."""
    found = set()
    kind, goes_on = "", False
    for word in demand.split():
        stem = word.lower().removesuffix("s")
        if stem in _KINDS:
            kind, goes_on = stem, True
        elif word == "and" and kind:
            goes_on = True
        elif goes_on:
            found.add(Subject(kind, word.strip("'\"`()").rstrip(",.;:'\"`)")))
            goes_on = word.endswith(",")
        else:
            kind = ""
    return found
