"""Repairs a draft exactly where placing one replica after the other does not find a way: a small problem for CP-SAT."""

from __future__ import annotations

from ortools.sat.python import cp_model

from foreshard.model import Goal
from foreshard.placement.budget import restore_if_too_dear
from foreshard.placement.cluster import FULL, HOT, NONE, Cluster, Floats
from foreshard.placement.conflicts import conflicting_demands
from foreshard.placement.counting import wanted_replicas
from foreshard.placement.demands import all_demands
from foreshard.placement.feasibility import LayoutModel
from foreshard.placement.movement import GOALS
from foreshard.placement.placing import BLOCKED, add, drop, dropped_back, relocate, widen
from foreshard.placement.working import Draft, Facts, draft_reference, facts_reference, place_of

_PAIRS = 6_000  # shards × nodes
_WORK = 2.0  # of CP-SAT's deterministic time
_REPAIR = GOALS.index(Goal.REPAIR)


def repair_exactly(cluster: Cluster, facts: Facts, draft: Draft, budget: Floats) -> bool:
    """Brings the draft to the layout with the fewest bytes copied that meets all demands, as far as none are in conflict.

    Of each conflict one demand is let go. Whether it changed anything; nothing is tried for many shards and nodes. The same on
    any machine. Where that takes more than the movement budget the draft stays, and `budget` says that it was too small.
    """
    if len(cluster.shards.ids) * len(cluster.nodes.ids) > _PAIRS:
        return False
    let_go = {max(core, key=lambda d: _DISPENSABLE.index(d.kind)) for core in conflicting_demands(cluster)}
    model = LayoutModel(cluster, [d for d in all_demands(cluster, range(len(cluster.shards.ids))) if d not in let_go])
    model.model.minimize(_bytes(cluster, model))
    if model.solved(_WORK) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return False
    f, d = facts_reference(facts), draft_reference(draft)
    before = draft.copied()
    changed = [_follow(f, d, cluster, draft, model, shard) for shard in model.nodes]
    if restore_if_too_dear(cluster, draft, before):
        budget[BLOCKED] = 1
        return False
    return any(changed)


# Which demand of a conflict is let go: the later in this list the sooner.
_DISPENSABLE = ("limit", "state", "replicas", "most", "pin", "distinct", "near", "zones")


def _bytes(cluster: Cluster, model: LayoutModel) -> cp_model.LinearExpr:
    """Bytes copied, in grains small beside a replica, and a little for each replica more than wanted or elsewhere than now."""
    size = cluster.shards.size
    grain = max(1, int(size.max(initial=1)) // 1_000_000)
    wanted = wanted_replicas(cluster, cluster.held)
    terms = []
    for s, nodes in model.nodes.items():
        now = {int(n): int(k) for n, k in zip(cluster.held.node[s], cluster.held.kind[s], strict=True) if n >= 0}
        for n in nodes:
            held = now.get(n, NONE)
            if held == FULL:
                model.model.add(model.hot[s, n] == 0)  # what is full stays full
            full = 0 if held == FULL else size[s, FULL] - (size[s, HOT] if held == HOT else 0)
            terms.append(model.full[s, n] * (max(0, int(full)) // grain * 10 + (0 if held == FULL else 3)))
            terms.append(model.hot[s, n] * (0 if held == HOT else int(size[s, HOT]) // grain * 10 + 3))
        short = model.model.new_int_var(0, int(wanted[s]), "")
        model.model.add(short >= int(wanted[s]) - sum(model.full[s, n] + model.hot[s, n] for n in nodes))
        terms.append(short * 2)
    return sum(terms)


def _follow(f: object, d: object, cluster: Cluster, draft: Draft, model: LayoutModel, shard: int) -> bool:
    """Moves, adds, widens and drops replicas of one shard until it is as the model has it; whether anything changed."""
    value = model.solver.value
    goal = {n: FULL if value(model.full[shard, n]) else HOT if value(model.hot[shard, n]) else NONE for n in model.nodes[shard]}
    goal = {n: kind for n, kind in goal.items() if kind != NONE}
    here = {int(n): k for k, n in enumerate(draft.node[shard]) if n >= 0}
    spare = [n for n in here if n not in goal]
    changed = bool(spare)
    for n, kind in goal.items():
        if n in here and draft.kind[shard, here[n]] == HOT and kind == FULL:
            widen(f, d, shard, here[n], _REPAIR)
        elif n not in here and spare:
            relocate(f, d, shard, here[spare.pop()], n, kind, _REPAIR, -1, 1.0)
        elif n not in here and place_of(d, shard, -1) >= 0:
            add(f, d, shard, n, kind, _REPAIR, -1, 1.0)
        else:
            continue
        changed = True
    least = int(cluster.shards.least[shard])
    for n in spare:
        place = place_of(d, shard, n)
        # Where a conflict leaves too few full replicas none is given up: that would be worse than it is.
        if draft.kind[shard, place] != FULL or int((draft.kind[shard] == FULL).sum()) > least:
            _drop(f, d, shard, place)
    return changed


def _drop(f: object, d: object, shard: int, place: int) -> None:
    drop(f, d, shard, place)
    dropped_back(f, d, shard)
