"""Carries moves out wave by wave, slowly and plainly, and says what goes wrong: written apart from what orders them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from foreshard.model import Goal, MoveKind
from foreshard.placement.cluster import FULL, HOT, NONE, Cluster, Holdings, Ints
from foreshard.placement.movement import GOALS, KINDS, Moves

# (shard, node) → HOT or FULL.
State = dict[tuple[int, int], int]


def state_of(held: Holdings) -> State:
    return {(int(s), int(held.node[s, k])): int(held.kind[s, k]) for s, k in zip(*np.nonzero(held.kind), strict=True)}


def moves_of(rows: Sequence[tuple[MoveKind, int, int, int, int, int]], **given: Sequence[int]) -> Moves:
    """From rows of kind, shard, source, target, what it holds, bytes; `goal` and `step` may be given."""
    count = len(rows)
    columns = np.array([(KINDS.index(r[0]), *r[1:]) for r in rows], dtype=np.int64).reshape(count, 6).T
    goal = given.get("goal", [GOALS.index(Goal.CONSOLIDATE if r[0] is MoveKind.DROP else Goal.BALANCE) for r in rows])
    return Moves(
        kind=columns[0].astype(np.int8),
        shard=columns[1].copy(),
        source=columns[2].copy(),
        target=columns[3].copy(),
        holds=columns[4].astype(np.int8),
        bytes=columns[5].copy(),
        goal=np.array(goal, dtype=np.int8),
        gain=np.zeros(count),
        step=np.array(given.get("step", [-1] * count), dtype=np.int64),
    )


def moves_between(cluster: Cluster, before: State, after: State) -> Moves:
    """Moves that lead from one state to the other; what leaves and what comes of one kind are paired."""
    rows: list[tuple[MoveKind, int, int, int, int, int]] = []
    size = cluster.shards.size
    for shard in sorted({s for s, _ in before} | {s for s, _ in after}):
        old = {n: k for (s, n), k in sorted(before.items()) if s == shard}
        new = {n: k for (s, n), k in sorted(after.items()) if s == shard}
        gone = [n for n in old if n not in new]
        for node, kind in new.items():
            if node in old:
                if old[node] < kind:
                    rows.append((MoveKind.WIDEN, shard, -1, node, FULL, int(size[shard, FULL] - size[shard, HOT])))
                continue
            pair = [n for n in gone if old[n] == kind and cluster.nodes.live[n]]
            if pair:
                gone.remove(pair[0])
            what = MoveKind.MOVE if pair else MoveKind.REPLICATE
            rows.append((what, shard, pair[0] if pair else -1, node, kind, int(size[shard, kind])))
        rows += [(MoveKind.DROP, shard, n, -1, old[n], 0) for n in gone]
    return moves_of(rows)


def after_wave(state: State, moves: Moves, which: Iterable[int]) -> State:
    result = dict(state)
    for m in which:
        if moves.source[m] >= 0:
            result.pop((int(moves.shard[m]), int(moves.source[m])), None)
    for m in which:
        if moves.target[m] >= 0:
            result[int(moves.shard[m]), int(moves.target[m])] = int(moves.holds[m])
    return result


def violations(cluster: Cluster, moves: Moves, wave: Ints) -> list[str]:
    """One sentence for each thing that goes wrong when the moves with a wave of 0 or more are carried out."""
    state = state_of(cluster.held)
    last = after_wave(state, moves, range(len(moves.shard)))
    found: list[str] = []
    for number in range(int(wave.max(initial=-1)) + 1):
        which = [int(m) for m in np.flatnonzero(wave == number)]
        if not which:
            found.append(f"wave {number} is empty")
        found += [f"wave {number}: {what}" for what in wave_violations(cluster, moves, state, which, last)]
        state = after_wave(state, moves, which)
    return found


def wave_violations(cluster: Cluster, moves: Moves, state: State, which: Sequence[int], last: State) -> Iterator[str]:
    """What one wave breaks, begun in this state; `last` is the state that all moves lead to."""
    yield from _sources_and_targets(cluster, moves, state, which)
    yield from _in_flight(cluster, moves, which)
    after = after_wave(state, moves, which)
    yield from _room(cluster, moves, state, after, which)
    yield from _shards(cluster, state, after, last)
    yield from _groups(cluster, state, after)


def _sources_and_targets(cluster: Cluster, moves: Moves, state: State, which: Sequence[int]) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    for m in which:
        shard, source, target = int(moves.shard[m]), int(moves.source[m]), int(moves.target[m])
        if source >= 0 and (shard, source) not in state:
            yield f"{source} does not hold shard {shard}"
        widens = KINDS[moves.kind[m]] is MoveKind.WIDEN
        if target >= 0 and state.get((shard, target), NONE) != (HOT if widens else NONE):
            yield f"{target} is not ready for shard {shard}"
        if target >= 0 and not cluster.nodes.accepts[target]:
            yield f"{target} takes no shards"
        permit = cluster.shards.permit[shard]
        if target >= 0 and permit >= 0 and not cluster.allowed[permit, target]:
            yield f"shard {shard} must not be on {target}"
        for place in ((shard, n) for n in (source, target) if n >= 0):
            if place in seen:
                yield f"{place} is in two moves"
            seen.add(place)


def _in_flight(cluster: Cluster, moves: Moves, which: Sequence[int]) -> Iterator[str]:
    sizes: dict[int, list[int]] = {}
    for m in which:
        if moves.target[m] >= 0:
            ends = [n for n in (int(moves.source[m]), int(moves.target[m])) if n >= 0 and cluster.nodes.live[n]]
            for node in ends:
                sizes.setdefault(node, []).append(int(moves.bytes[m]))
    for node, copies in sizes.items():
        if len(copies) > cluster.policy.max_moves_in_flight:
            yield f"{node} has {len(copies)} copies in flight"
        if len(copies) > 1 and sum(copies) > cluster.policy.max_bytes_in_flight:
            yield f"{node} has {sum(copies)} bytes in flight"


def _need(cluster: Cluster, shard: int, kind: int) -> list[float]:
    hot, full = (int(b) for b in cluster.shards.size[shard, 1:])
    part = 1.0 if kind == FULL or full == 0 else hot / full
    return [part * float(x) for x in cluster.shards.need[shard]]


def _use(cluster: Cluster, state: State, node: int, resource: int) -> float:
    return sum(_need(cluster, s, kind)[resource] for (s, n), kind in state.items() if n == node)


def _room(cluster: Cluster, moves: Moves, state: State, after: State, which: Sequence[int]) -> Iterator[str]:
    copying = dict(state)
    for m in which:
        if moves.target[m] >= 0:
            copying[int(moves.shard[m]), int(moves.target[m])] = int(moves.holds[m])
    for node in range(len(cluster.nodes.ids)):
        for r, transient in enumerate(cluster.costs.transient):
            most = max(float(cluster.nodes.limit[node, r]), _use(cluster, state, node, r)) + 1e-6
            if transient and _use(cluster, copying, node, r) > most:
                yield f"{node} is above its limit of resource {r} while copies are in flight"
            if _use(cluster, after, node, r) > most:
                yield f"{node} is above its limit of resource {r} when published"


def _shards(cluster: Cluster, state: State, after: State, last: State) -> Iterator[str]:
    def counts(of: State) -> tuple[Counter[int], Counter[int], Counter[int]]:
        live = {place: kind for place, kind in of.items() if cluster.nodes.live[place[1]]}
        return Counter(s for (s, _), k in live.items() if k == FULL), Counter(s for s, _ in live), Counter(s for s, _ in of)

    (full, live, every), (full_after, live_after, every_after) = counts(state), counts(after)
    live_last = counts(last)[1]
    for s in range(len(cluster.shards.ids)):
        if full_after[s] < min(int(cluster.shards.least[s]), full[s]):
            yield f"shard {s} has {full_after[s]} full replicas"
        if live_after[s] < min(1, live[s], live_last[s]):
            yield f"shard {s} has no replica"
        if every_after[s] > max(int(cluster.shards.most[s]), every[s]):
            yield f"shard {s} has {every_after[s]} replicas"
    for s in range(len(cluster.shards.ids)):
        for n in cluster.shards.pins[cluster.shards.pin_start[s] : cluster.shards.pin_start[s + 1]]:
            if cluster.nodes.live[n] and (s, int(n)) in state and (s, int(n)) not in after:
                yield f"shard {s} leaves {n}, to which it is pinned"


def _groups(cluster: Cluster, state: State, after: State) -> Iterator[str]:
    groups = cluster.groups

    def nodes_of(of: State, g: int) -> list[int]:
        return [n for s, n in of if cluster.shards.group[s] == g and cluster.nodes.live[n]]

    def lacking(of: State, g: int) -> set[tuple[int, int]]:
        near = [int(h) for h in groups.near[groups.near_start[g] : groups.near_start[g + 1]]]
        there = {h: {int(cluster.nodes.neighbourhood[n]) for n in nodes_of(of, h)} for h in [*near, g]}
        return {(h, b) for h in near for b in there[g] if b not in there[h]}

    for g in range(len(groups.ids)):
        before, now = nodes_of(state, g), nodes_of(after, g)
        for node, count in Counter(now).items():
            if groups.distinct[g] and count > max(1, before.count(node)):
                yield f"group {g} has {count} replicas on {node}"
        zones = [len({int(cluster.nodes.zone[n]) for n in some}) for some in (before, now)]
        if zones[1] < min(int(groups.min_zones[g]), zones[0]):
            yield f"group {g} is in {zones[1]} zones"
        if lacking(after, g) - lacking(state, g):
            yield f"group {g} lacks its neighbours"
