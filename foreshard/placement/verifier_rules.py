"""By how much a state breaks each hard constraint, from the model alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from foreshard.model import ShardGroup
from foreshard.placement.verifier_facts import Facts, Holdings, Subject, full_counts, nodes_of


class Breach(NamedTuple):
    """One constraint that a state breaks by `amount`. `key`: the constraint; `subjects`: naming one of these excuses it."""

    key: str
    amount: float
    sentence: str
    subjects: tuple[Subject, ...]
    shards: tuple[int, ...] = ()  # one of which would have to be copied to repair it
    repaired_beyond_budget: bool = False
    copies: int = 1  # of each shard; 0 where dropping repairs it
    repairable: bool = True


def broken(facts: Facts, held: Holdings) -> list[Breach]:
    """Every constraint but limits that is broken if this is held and published. Time O(replicas × groups of a shard)."""
    places = nodes_of(held, facts.live)
    return [
        *_numbers(facts, held),
        *_pins_and_avoids(facts, places),
        *_labels(facts, places),
        *(breach for group in facts.problem.groups for breach in _group(facts, group, places)),
    ]


def _numbers(facts: Facts, held: Holdings) -> Iterator[Breach]:
    full, every = full_counts(held, facts.live), Counter(shard for shard, _ in held)
    live = Counter(shard for shard, node in held if node in facts.live)
    for shard_id, shard in facts.shards.items():
        subjects = _of_shards([shard_id], facts)
        least, most = facts.least(shard), facts.most(shard)
        if full[shard_id] < least:
            told = f"shard {shard_id} has {full[shard_id]} full replicas on live nodes of {least}"
            yield Breach(f"least {shard_id}", least - full[shard_id], told, subjects, (shard_id,), True)
        if shard.parent is not None and not live[shard_id] and shard_id not in facts.ended | facts.isolated:
            yield Breach(f"own {shard_id}", 1, f"shard {shard_id} has no replica of its own", subjects, (shard_id,), True)
        if every[shard_id] > most:
            told = f"shard {shard_id} has {every[shard_id]} replicas of at most {most}"
            yield Breach(f"most {shard_id}", every[shard_id] - most, told, subjects, (shard_id,), copies=0)


def _pins_and_avoids(facts: Facts, places: dict[int, set[str]]) -> Iterator[Breach]:
    for shard_id, shard in facts.shards.items():
        for node in shard.pins:
            if node not in places.get(shard_id, ()) and shard_id not in facts.ended:
                told = f"shard {shard_id} is not on {node}, which it is pinned to"
                yield Breach(
                    f"pin {shard_id} {node}", 1, told, (*_of_shards([shard_id], facts), Subject("node", node)), (shard_id,)
                )
        for node in set(shard.avoids) & places.get(shard_id, set()):
            told = f"shard {shard_id} is on {node}, which it avoids"
            yield Breach(
                f"avoid {shard_id} {node}", 1, told, (*_of_shards([shard_id], facts), Subject("node", node)), (shard_id,)
            )


def _labels(facts: Facts, places: dict[int, set[str]]) -> Iterator[Breach]:
    for label, members in facts.labels.items():
        on = [places.get(shard, set()) for shard in members]
        apart = len(set.union(*on)) * len(members) - sum(map(len, on))
        if apart:
            told = f"the shards {_listed(members)} of label {label} do not share their nodes"
            yield Breach(f"label {label}", apart, told, (Subject("label", label), *_of_shards(members, facts)), tuple(members))


def _group(facts: Facts, group: ShardGroup, places: dict[int, set[str]]) -> Iterator[Breach]:
    members = [s for s in facts.members.get(group.group_id, ()) if s not in facts.ended]  # these count for nothing any more
    subjects = (Subject("group", group.group_id), *_of_shards(members, facts))
    on = [node for shard in members for node in places.get(shard, ())]
    shared = len(on) - len(set(on))
    if group.distinct_nodes and shared:
        told = f"group {group.group_id} has {shared} replicas on nodes that others of it are on"
        yield Breach(f"distinct {group.group_id}", shared, told, subjects, tuple(members))
    zones = len({_zone(facts, node) for node in on})
    wanted = min(group.min_zones, _reachable_zones(facts, members))
    if members and zones < wanted:
        told = f"group {group.group_id} is in {zones} zones of {wanted}"
        crowded = zones < len(on)  # else only more replicas would reach more zones
        yield Breach(f"zones {group.group_id}", wanted - zones, told, subjects, tuple(members), repairable=crowded)
    here = {_neighbourhood(facts, node) for node in on}
    for other in group.near:
        fellows = [s for s in facts.members.get(other, ()) if s not in facts.ended]
        there = {_neighbourhood(facts, node) for shard in fellows for node in places.get(shard, ())}
        if here - there:
            told = f"group {group.group_id} is in {len(here - there)} neighbourhoods without group {other}"
            about = (*subjects, Subject("group", other), *_of_shards(fellows, facts))
            yield Breach(f"near {group.group_id} {other}", len(here - there), told, about, (*members, *fellows))


def _reachable_zones(facts: Facts, members: Iterable[int]) -> int:
    shunned = [set(facts.shards[shard].avoids) for shard in members]
    return len({_zone(facts, n) for n in facts.accepting if any(n not in avoided for avoided in shunned)})


def _zone(facts: Facts, node: str) -> str:
    """A node without a zone is one of its own."""
    return facts.nodes[node].zone or f"\0{node}"


def _neighbourhood(facts: Facts, node: str) -> str:
    return facts.nodes[node].neighbourhood or f"\0{node}"


def over_limits(facts: Facts, held: Holdings, transient: bool | None) -> list[Breach]:
    """Nodes with more of a resource than their limit: of all resources, or only of those that are, or are not, `transient`."""
    names = [r.name for r in facts.problem.resources if transient is None or r.transient is transient]
    if not names:
        return []
    used: dict[tuple[str, str], float] = defaultdict(float)
    for (shard, node), day in sorted(held.items(), key=lambda item: item[0]):
        for name in names:
            used[node, name] += facts.need(shard, name, day)
    result = []
    for (node, name), amount in used.items():
        limit = facts.nodes[node].limits.get(name) if node in facts.live else None
        if limit is not None and amount > limit * (1 + 1e-9):
            told = f"{node} has {amount:.6g} of {name}, its limit is {limit:.6g}"
            shards = tuple(s for s, n in held if n == node and facts.need(s, name, None) > 0)[:1]
            subjects = (Subject("node", node), Subject("resource", name))
            result.append(Breach(f"limit {node} {name}", amount - limit, told, subjects, shards))
    return result


def _of_shards(shards: Iterable[int], facts: Facts) -> tuple[Subject, ...]:
    """What excuses something about these shards: naming one of them, or of those that share their nodes, or the label."""
    found = []
    for shard in shards:
        found += [Subject("shard", str(other)) for other in facts.bundle(shard)]
        if facts.shards[shard].together:
            found.append(Subject("label", facts.shards[shard].together))
    return tuple(found)


def _listed(members: list[int]) -> str:
    return ", ".join(map(str, members[:5])) + (", …" if len(members) > 5 else "")
