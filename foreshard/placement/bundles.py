"""Shards that must share their nodes, merged into one for planning."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from foreshard.errors import ForeshardError
from foreshard.model import Layout, PlacementProblem, Replica, ShardLoad


def merged(problem: PlacementProblem) -> tuple[PlacementProblem, Mapping[int, int]]:
    """The problem with one shard per `together` label, and the shard that stands for each shard merged away or kept so.

    The one with the lowest id stands for all; it is held where most of the bundle's bytes are. Raises ForeshardError if shards
    of a label contradict each other. Time O(shards + replicas).
    """
    bundles: dict[str, list[ShardLoad]] = defaultdict(list)
    for shard in sorted(problem.shards, key=lambda s: s.shard_id):
        if shard.together:
            bundles[shard.together].append(shard)
    stands = {s.shard_id: own[0].shard_id for own in bundles.values() for s in own}
    if not any(len(own) > 1 for own in bundles.values()):
        return problem, {}
    held: dict[int, list[Replica]] = defaultdict(list)
    for replica in problem.layout.replicas:
        held[replica.shard_id].append(replica)
    distinct = {g.group_id for g in problem.groups if g.distinct_nodes}
    whole = [_whole(problem, label, own, distinct) for label, own in bundles.items()]
    shards = [*(s for s in problem.shards if not s.together), *whole]
    kept = [r for r in problem.layout.replicas if r.shard_id not in stands]
    for own in bundles.values():
        kept += [replace(r, shard_id=own[0].shard_id) for r in _held_mostly(own, held)]
    return replace(problem, shards=tuple(shards), layout=Layout(problem.layout.epoch, tuple(kept))), stands


def _held_mostly(own: Sequence[ShardLoad], held: Mapping[int, list[Replica]]) -> list[Replica]:
    """The replicas of the member that has most bytes on the nodes that it is on."""
    size = {s.shard_id: s.bytes_full for s in own}

    def carried(shard: ShardLoad) -> tuple[int, int]:
        nodes = {r.node_id for r in held.get(shard.shard_id, ())}
        moved = sum(size[s.shard_id] * len(nodes & {r.node_id for r in held.get(s.shard_id, ())}) for s in own)
        return moved, -shard.shard_id

    return held.get(max(own, key=carried).shard_id, [])


def _whole(problem: PlacementProblem, label: str, own: Sequence[ShardLoad], distinct: set[str]) -> ShardLoad:
    groups = {s.group for s in own}
    if len(groups) > 1 or (len(own) > 1 and groups & distinct):
        raise ForeshardError(
            f"shards {own[0].shard_id} and {own[1].shard_id} are together ({label}) but of different groups, or of one that "
            "keeps its shards on distinct nodes; drop the label or change the group"
        )
    if any(s.parent is not None for s in own):
        raise ForeshardError(f"shards together ({label}): an isolated entity cannot be one of them; drop its label")
    first = own[0]
    load = math.fsum(sum(s.mean) for s in own)
    policy = problem.policy
    default = max(policy.max_replicas, policy.min_full_replicas)
    mins = [policy.min_full_replicas if s.min_replicas is None else s.min_replicas for s in own]
    mosts = [default if s.max_replicas is None else s.max_replicas for s in own]
    return replace(
        first,
        mean=_added([s.mean for s in own]),
        spread_own=tuple(math.sqrt(math.fsum(x * x for x in step)) for step in zip(*(s.spread_own for s in own), strict=True)),
        spread_common=_factors(own),
        bytes_full=sum(s.bytes_full for s in own),
        bytes_hot=sum(s.bytes_hot for s in own),
        recent_share=math.fsum(s.recent_share * sum(s.mean) for s in own) / load if load > 0 else first.recent_share,
        needs={name: math.fsum(s.needs.get(name, 0.0) for s in own) for s in own for name in s.needs},
        min_replicas=max(mins),
        max_replicas=max(min(mosts), max(mins)),
        pins=tuple(sorted({n for s in own for n in s.pins})),
        avoids=tuple(sorted({n for s in own for n in s.avoids})),
        move_cost=math.fsum(s.move_cost for s in own),
    )


def _added(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(math.fsum(step) for step in zip(*rows, strict=True))


def _factors(own: Sequence[ShardLoad]) -> tuple[tuple[float, ...], ...]:
    """The factors' spreads of the bundle per step; shards without any count as zero."""
    given = [s.spread_common for s in own if s.spread_common]
    if not given:
        return ()
    width = max(len(step) for rows in given for step in rows)
    padded = [[(*step, *(0.0,) * (width - len(step))) for step in rows] for rows in given]
    return tuple(_added(step) for step in zip(*padded, strict=True))
