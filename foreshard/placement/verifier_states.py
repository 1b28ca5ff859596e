"""A plan carried out wave by wave: the hard constraints hold in every state, and what was broken before is no worse in any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from foreshard.model import Move, MoveKind
from foreshard.placement.verifier_facts import Facts, Holdings, Subject
from foreshard.placement.verifier_rules import Breach, broken, over_limits

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Wave:
    """One wave: what is held while it copies, what is published after it, and what leaves each node meanwhile."""

    number: int
    moves: tuple[Move, ...]
    before: Holdings
    copying: Holdings  # all that was held before and all that is copied
    after: Holdings


def waves_of(facts: Facts) -> list[Wave]:
    """The plan's waves in their order. Time O(waves × replicas)."""
    moves: dict[int, list[Move]] = defaultdict(list)
    for move in facts.plan.moves:
        moves[move.wave].append(move)
    waves, held = [], facts.before
    for number in sorted(moves):
        copying = held | {(m.shard_id, m.target): m.covers_from for m in moves[number] if m.kind is not MoveKind.DROP}
        gone = {(m.shard_id, m.source) for m in moves[number] if m.kind in (MoveKind.MOVE, MoveKind.DROP)}
        after = {place: day for place, day in copying.items() if place not in gone}
        waves.append(Wave(number, tuple(moves[number]), held, copying, after))
        held = after
    return waves


def carrying_out(facts: Facts) -> Iterator[str]:
    """What no wave may do: copy what is there, retire what is not, make a hard constraint worse; and where all waves lead."""
    waves = waves_of(facts)
    for wave in waves:
        yield from _possible(wave)
    if (waves[-1].after if waves else facts.before) != facts.after:
        yield "the moves do not lead to the plan's layout"
    start = {breach.key: breach.amount for breach in (*broken(facts, facts.before), *over_limits(facts, facts.before, None))}
    for wave in waves:
        while_copying = over_limits(facts, wave.copying, transient=True)
        published = (*broken(facts, wave.after), *over_limits(facts, wave.after, None))
        yield from _worse(facts, f"while wave {wave.number} copies", start, while_copying)
        yield from _worse(facts, f"after wave {wave.number}", start, published)
    yield from _left_broken(facts, start)


def _possible(wave: Wave) -> Iterator[str]:
    targets: set[tuple[int, str]] = set()
    sources: set[tuple[int, str]] = set()
    for move in wave.moves:
        to, off, what = (move.shard_id, move.target), (move.shard_id, move.source), f"wave {wave.number}: a {move.kind.value}"
        if move.kind in (MoveKind.MOVE, MoveKind.DROP):
            if off not in wave.before or off in sources:
                yield f"{what} takes shard {move.shard_id} from {move.source}, which does not hold it"
            sources.add(off)
        if move.kind in (MoveKind.MOVE, MoveKind.REPLICATE) and (to in wave.before or to in targets):
            yield f"{what} copies shard {move.shard_id} to {move.target}, which holds it"
        if move.kind is MoveKind.WIDEN and (wave.before.get(to) is None or to in targets or move.covers_from is not None):
            yield f"{what} widens shard {move.shard_id} on {move.target}, which has no hot replica of it"
        if move.kind is not MoveKind.DROP:
            targets.add(to)
    for shard, node in sorted(targets & sources):
        yield f"wave {wave.number}: shard {shard} comes to {node} and leaves it"


def _worse(facts: Facts, when: str, start: dict[str, float], breaches: tuple[Breach, ...] | list[Breach]) -> Iterator[str]:
    for breach in breaches:
        before = start.get(breach.key, 0.0)
        if breach.amount > before * (1 + _ROUNDING) + _ROUNDING and not facts.excused(breach.subjects):
            yield f"{when} {breach.sentence}, which is worse than before"


def _left_broken(facts: Facts, start: dict[str, float]) -> Iterator[str]:
    """What the layout at hand broke and the plan leaves so, though neither a conflict nor the budget says why."""
    if not facts.accepting:
        return
    for breach in (*broken(facts, facts.after), *over_limits(facts, facts.after, None)):
        if breach.key not in start or not breach.repairable or facts.excused(breach.subjects):
            continue
        if breach.repaired_beyond_budget or facts.affordable(breach.shards, breach.copies):
            yield f"in the end {breach.sentence}, and no conflict says why"


def nodes_to_empty(facts: Facts) -> Iterator[str]:
    """Dead nodes end empty and draining ones take nothing; these end empty unless the budget, or a conflict, forbids it."""
    for shard, node in sorted(facts.after):
        if node not in facts.live:
            yield f"shard {shard} ends on {node}, which is dead or unknown"
        elif node not in facts.accepting and (shard, node) not in facts.before:
            yield f"shard {shard} comes to {node}, which is draining"
        elif node not in facts.accepting and _could_leave(facts, shard, node):
            yield f"shard {shard} ends on {node}, which is draining, with budget left to move it"
    for move in facts.plan.moves:
        if move.target and move.target not in facts.accepting:
            yield f"a {move.kind.value} copies shard {move.shard_id} to {move.target}, which takes no shards"


def _could_leave(facts: Facts, shard: int, node: str) -> bool:
    named = facts.excused([Subject("node", node), *(Subject("shard", str(other)) for other in facts.bundle(shard))])
    return bool(facts.accepting) and facts.affordable([shard]) and not named
