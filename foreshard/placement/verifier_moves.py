"""Each move by itself and all together: what it copies and why, when it begins, budget, copies in flight."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from foreshard.model import Goal, Move, MoveKind, NodeState
from foreshard.placement.verifier_facts import Facts, full_counts, nodes_of


def moves_in_themselves(facts: Facts) -> Iterator[str]:
    """Ends, bytes, reason, goal, gain and wave of each move."""
    highest = 0
    for i, move in enumerate(facts.plan.moves):
        yield from (f"move {i} (shard {move.shard_id}): {fault}" for fault in _faults(facts, move))
        if not highest <= move.wave <= highest + (i > 0):
            yield f"move {i}: wave {move.wave} comes after wave {highest}; waves are counted from 0 in their order"
        highest = max(highest, move.wave)


def _faults(facts: Facts, move: Move) -> Iterator[str]:
    has_source, has_target = move.kind in (MoveKind.MOVE, MoveKind.DROP), move.kind is not MoveKind.DROP
    if bool(move.source) is not has_source or bool(move.target) is not has_target or move.source == move.target:
        yield f"a {move.kind.value} from {move.source or 'nowhere'} to {move.target or 'nowhere'}"
    if move.shard_id not in facts.shards:
        yield "there is no such shard"
    if not move.reason.strip():
        yield "it has no reason"
    if not math.isfinite(move.gain) or move.gain < 0:
        yield f"it gains {move.gain}"
    if has_target and move.covers_from not in (None, facts.problem.covers_from):
        yield f"it copies from {move.covers_from} on, hot replicas begin on {facts.problem.covers_from}"
    if move.bytes not in _sizes(facts, move):
        yield f"it copies {move.bytes} bytes instead of {min(_sizes(facts, move))}"
    yield from _goal(facts, move)
    yield from _start(facts, move)


def _sizes(facts: Facts, move: Move) -> set[int]:
    """How many bytes the move may state; none where the slot of an isolated entity has its rows on the target already."""
    if move.kind is MoveKind.DROP:
        return {0}
    full, size = facts.size(move.shard_id, None), facts.size(move.shard_id, move.covers_from)
    if move.kind is MoveKind.WIDEN:
        return {full - facts.size(move.shard_id, facts.problem.covers_from)}
    shard = facts.shards.get(move.shard_id)
    return {0, size} if shard is not None and shard.parent is not None else {size}


def _goal(facts: Facts, move: Move) -> Iterator[str]:
    target = move.target
    # A copy without a source serves a drain as well: what it replaces is dropped by another move.
    left = {move.source} if move.source else {n for s, n in facts.before if s in facts.bundle(move.shard_id)}
    draining = any(facts.nodes[n].state is NodeState.DRAINING for n in left & facts.live)
    if move.goal is Goal.DRAIN and not draining:
        yield f"it is to drain {move.source or 'a node'}, which is not draining"
    if move.goal is Goal.FILL and target and target not in facts.new:
        yield f"it is to fill {target}, which is not new"
    if move.goal is Goal.CONSOLIDATE and move.kind in (MoveKind.REPLICATE, MoveKind.WIDEN):
        yield "it adds a replica in order to have fewer"


def _start(facts: Facts, move: Move) -> Iterator[str]:
    """A start so late that copying and verifying end after every step is of no use."""
    if move.start_by is None:
        return
    policy, steps = facts.problem.policy, facts.problem.steps
    if move.start_by.tzinfo is None:
        yield "its start_by has no time zone"
    elif not steps:
        yield f"it starts by {move.start_by}, but there are no steps"
    else:
        seconds = policy.margin_seconds
        if move.kind is not MoveKind.DROP:
            seconds += move.bytes / policy.copy_bytes_per_second + policy.verify_seconds
        too_late = move.start_by > steps[0] and (steps[-1] - move.start_by) < timedelta(seconds=min(seconds, 1e10) - 1)
        if too_late:
            yield f"it starts by {move.start_by:%Y-%m-%d %H:%M}, too late for every step"


def budget(facts: Facts) -> Iterator[str]:
    """Only lost replicas may be made anew beyond the budget, and what dead nodes held dropped."""
    policy, moves = facts.problem.policy, facts.plan.moves
    needed_moves, needed_bytes = _repair(facts)
    volume = sum(m.bytes for m in moves)
    if len(moves) > max(policy.max_moves, needed_moves):
        yield f"{len(moves)} moves are more than the budget of {policy.max_moves}"
    if volume > max(policy.max_move_bytes, needed_bytes):
        yield f"{volume} bytes are more than the budget of {policy.max_move_bytes}"


def _repair(facts: Facts) -> tuple[int, int]:
    """Moves and bytes that lost replicas call for at most."""
    full, live = full_counts(facts.before, facts.live), nodes_of(facts.before, facts.live)
    count, volume = sum(node not in facts.live for _, node in facts.before), 0
    for shard_id, shard in facts.shards.items():
        lacking = max(0, facts.least(shard) - full[shard_id])
        if shard.parent is not None and not live.get(shard_id) and shard_id not in facts.isolated | facts.ended:
            lacking = 1
        # Shards that share their nodes are made anew together, on all nodes of the bundle.
        if lacking and shard.together:
            for other in facts.labels[shard.together]:
                count, volume = count + lacking, volume + lacking * facts.size(other, None)
        else:
            count, volume = count + lacking, volume + lacking * facts.size(shard_id, None)
    return count, volume


def in_flight(facts: Facts) -> Iterator[str]:
    """What one node sends and receives in one wave.

    A copy larger than the limit goes alone; what of a bundle comes to a node is one copy.
    """
    policy = facts.problem.policy
    copies: dict[tuple[int, str], dict[object, int]] = defaultdict(lambda: defaultdict(int))
    for i, move in enumerate(facts.plan.moves):
        if move.kind is MoveKind.DROP:
            continue
        shard = facts.shards.get(move.shard_id)
        unit = (shard.together, move.target) if shard is not None and shard.together else i
        for node in {move.source, move.target} & facts.live:
            copies[move.wave, node][unit] += move.bytes
    for (wave, node), sizes in sorted(copies.items(), key=lambda item: item[0]):
        if len(sizes) > policy.max_moves_in_flight:
            yield f"wave {wave}: {node} has {len(sizes)} copies in flight, {policy.max_moves_in_flight} are allowed"
        if len(sizes) > 1 and sum(sizes.values()) > policy.max_bytes_in_flight:
            yield f"wave {wave}: {node} has {sum(sizes.values())} bytes in flight, {policy.max_bytes_in_flight} are allowed"


def isolations(facts: Facts) -> Iterator[str]:
    """An entity that is isolated gets a shard that is new and held; one that no longer is loses it."""
    heavy = {h.entity_id: h for h in facts.problem.heavy}
    known = {s.shard_id for s in facts.problem.shards} | {s for s, _ in facts.before}
    held = {shard for shard, _ in facts.after}
    if len({i.entity_id for i in facts.plan.isolations}) != len(facts.plan.isolations):
        yield "an entity is isolated twice"
    for isolation in facts.plan.isolations:
        entity, what = heavy.get(isolation.entity_id), f"the isolation of {isolation.entity_id}"
        if entity is None or entity.slot != isolation.slot:
            yield f"{what}: there is no such heavy entity in slot {isolation.slot}"
        elif isolation.ends and entity.shard_id != isolation.shard_id:
            yield f"{what} ends, but shard {isolation.shard_id} is not its own"
        elif not isolation.ends and (entity.shard_id is not None or isolation.shard_id in known):
            yield f"{what}: it, or shard {isolation.shard_id}, is there already"
        if (isolation.shard_id in held) is isolation.ends:
            yield f"{what}: shard {isolation.shard_id} ends {'held' if isolation.ends else 'without a replica'}"
        if not isolation.reason.strip():
            yield f"{what} has no reason"
    if len({i.shard_id for i in facts.plan.isolations}) != len(facts.plan.isolations):
        yield "two isolations have one shard"
    for shard in sorted(held - known - facts.isolated):
        yield f"the layout has shard {shard}, which nothing knows"


def node_counts(facts: Facts) -> Iterator[str]:
    policy, steps = facts.problem.policy, [c.step for c in facts.plan.node_counts]
    if steps != sorted(set(steps)) or not set(steps) <= set(facts.problem.steps):
        yield "the node counts are not of ascending steps of the horizon"
    for count in facts.plan.node_counts:
        if not policy.min_nodes <= count.nodes <= policy.max_nodes:
            yield f"{count.nodes} nodes from {count.step} on are not within {policy.min_nodes} to {policy.max_nodes}"
        if count.start_by is not None and (count.start_by.tzinfo is None or count.start_by > count.step):
            yield f"changing to {count.nodes} nodes starts by {count.start_by}, after its step {count.step}"
        if not count.reason.strip():
            yield f"the count of {count.nodes} nodes has no reason"


def conflicts(facts: Facts) -> Iterator[str]:
    for conflict in facts.plan.conflicts:
        if not conflict.demands or not all(d.strip() for d in conflict.demands) or not conflict.remedy.strip():
            yield "a conflict names no demand or no remedy"
