"""How many replicas each shard has, and of what kind: repair, draining, hot shards and cold ones, in this order.

Each stage changes the draft in place. Only repair may go beyond the movement budget.
"""

from __future__ import annotations

import numpy as np

from foreshard.placement.bounds import extras_wanted
from foreshard.placement.draft import DRAIN, HOT_SHARD, REPAIR, RETIRE, Draft, Note
from foreshard.placement.instance import FULL, HOT, NONE, Instance, Kinds
from foreshard.placement.target import choose


def replicas_wanted(instance: Instance) -> list[int]:
    """Replicas that each shard should have, by position, from its load and from how many it has now."""
    live = ((instance.kind > NONE) & instance.live).sum(axis=1)
    base = instance.full_wanted
    return [base + extras_wanted(instance, s, max(0, int(live[s]) - base)) for s in range(len(live))]


def settle(draft: Draft, wanted: list[int], bound: float) -> None:
    """Brings every shard to its wanted replicas on accepting nodes, as far as the movement budget goes."""
    drop_dead(draft)
    if not draft.instance.accepting:
        return
    for stage in (repair, drain, add_extras, drop_extras):
        for shard in range(len(wanted)):
            stage(draft, shard, wanted[shard], bound)


def drop_dead(draft: Draft) -> None:
    instance = draft.instance
    for shard, node in zip(*np.nonzero((draft.kind > NONE) & ~instance.live), strict=True):
        kinds = draft.kind[shard].copy()
        kinds[node] = NONE
        draft.place(shard, kinds, np.where(kinds > NONE, draft.weight[shard], 0.0))
        draft.left[shard, node] = Note(RETIRE, f"node {instance.nodes[node].node_id} is dead or gone")


def repair(draft: Draft, shard: int, wanted: int, bound: float) -> None:
    """Full replicas up to the minimum, whatever the budget says. A hot replica is widened where that leaves one move fewer."""
    instance = draft.instance
    have = len(draft.live_holders(shard, FULL))
    while have < instance.full_wanted:
        has = f"shard {instance.shard_ids[shard]} has {_count(have, 'full replica')} on live nodes"
        reason = f"{has}, the minimum is {instance.full_wanted}"
        widen = _to_widen(draft, shard)
        target = choose(draft, shard, FULL, bound)
        if widen is not None and (target is None or len(draft.live_holders(shard)) >= wanted):
            target = widen
        if target is None:
            return
        draft.place(shard, _with(draft, shard, target, FULL))
        draft.came[shard, target] = Note(REPAIR, reason)
        have += 1


def drain(draft: Draft, shard: int, wanted: int, bound: float) -> None:
    """Moves or drops what draining nodes hold, full replicas first."""
    instance = draft.instance
    leaving = [n for n in draft.live_holders(shard) if not instance.accepts[n]]
    for node in sorted(leaving, key=lambda n: (-int(draft.kind[shard, n]), n)):
        name = instance.nodes[node].node_id
        accepting = draft.kind[shard][instance.accepts]
        if (accepting == FULL).sum() < instance.full_wanted:
            _drain_full(draft, shard, node, bound, f"node {name} is draining")
        elif (accepting > NONE).sum() < wanted:
            kind = min(int(draft.kind[shard, node]), instance.extra_kind(shard))
            target = choose(draft, shard, kind, bound, leaving=node)
            if target is not None:
                _relocate(draft, shard, node, target, kind, f"node {name} is draining")
        else:
            _drop(
                draft,
                shard,
                node,
                f"node {name} is draining, and shard {instance.shard_ids[shard]} has replicas enough elsewhere",
            )


def _drain_full(draft: Draft, shard: int, node: int, bound: float, reason: str) -> None:
    target, widen = choose(draft, shard, FULL, bound, leaving=node), _to_widen(draft, shard)
    if target is not None:
        _relocate(draft, shard, node, target, FULL, reason)
    elif widen is not None:
        kinds = _with(draft, shard, widen, FULL)
        kinds[node] = NONE
        if draft.fits_budget(shard, kinds):
            draft.place(shard, kinds)
            draft.came[shard, widen] = draft.left[shard, node] = Note(DRAIN, reason)


def add_extras(draft: Draft, shard: int, wanted: int, bound: float) -> None:
    """Further replicas for a hot shard: hot ones where recent days serve most of its queries, else full ones."""
    instance = draft.instance
    kind = instance.extra_kind(shard)
    while len(draft.live_holders(shard)) < wanted:
        target = choose(draft, shard, kind, bound)
        if target is None:
            return
        kinds = _with(draft, shard, target, kind)
        if not draft.fits_budget(shard, kinds):
            return
        draft.place(shard, kinds)
        draft.came[shard, target] = Note(HOT_SHARD, _hot_reason(instance, shard, wanted))


def drop_extras(draft: Draft, shard: int, wanted: int, bound: float) -> None:
    """Retires replicas beyond the wanted number: on draining nodes first, then hot before full, then the lowest-ranked."""
    instance = draft.instance
    while len(holders := draft.live_holders(shard)) > wanted:
        spare = [n for n in holders if _spare(draft, shard, n)]
        ranks = instance.rank[shard]
        spare.sort(key=lambda n: (bool(instance.accepts[n]), int(draft.kind[shard, n]), -int(ranks[n]), n))
        if not spare or not _drop(draft, shard, spare[0], _cold_reason(instance, shard, wanted)):
            return


def _relocate(draft: Draft, shard: int, node: int, target: int, kind: int, reason: str) -> None:
    kinds = draft.relocated(shard, node, target, kind)
    if draft.fits_budget(shard, kinds):
        draft.relocate(shard, node, target, kinds, Note(DRAIN, reason))


def _drop(draft: Draft, shard: int, node: int, reason: str) -> bool:
    kinds = draft.kind[shard].copy()
    kinds[node] = NONE
    if not _spare(draft, shard, node) or not draft.fits_budget(shard, kinds):
        return False
    draft.place(shard, kinds)
    draft.left[shard, node] = Note(RETIRE, reason)
    return True


def _spare(draft: Draft, shard: int, node: int) -> bool:
    """Whether the shard keeps its full replicas on accepting nodes without this one."""
    others = draft.instance.accepts.copy()
    others[node] = False
    enough = (draft.kind[shard][others] == FULL).sum() >= draft.instance.full_wanted
    return bool(enough) or draft.kind[shard, node] == HOT


def _with(draft: Draft, shard: int, node: int, kind: int) -> Kinds:
    kinds: Kinds = draft.kind[shard].copy()
    kinds[node] = max(kind, int(draft.instance.kind[shard, node]))
    return kinds


def _to_widen(draft: Draft, shard: int) -> int | None:
    """The highest-ranked accepting node with a hot replica of the shard."""
    instance = draft.instance
    hot = [int(n) for n in draft.live_holders(shard, HOT) if instance.accepts[n]]
    return min(hot, key=lambda n: int(instance.rank[shard, n]), default=None)


def _hot_reason(instance: Instance, shard: int, wanted: int) -> str:
    step = int(instance.mean[shard].argmax())
    mean_capacity = float(instance.capacity[instance.accepts].mean())
    return (
        f"shard {instance.shard_ids[shard]} predicted at {instance.mean[shard, step]:.4g}/s at {instance.step_label(step)}, "
        f"{instance.mean[shard, step] / mean_capacity:.3g} of a mean node's capacity; above {instance.policy.hot_share:.2f} it "
        f"gets {wanted} replicas"
    )


def _cold_reason(instance: Instance, shard: int, wanted: int) -> str:
    mean_capacity = float(instance.capacity[instance.accepts].mean())
    peak = float(instance.mean[shard].max())
    cold = instance.policy.hot_share * instance.policy.cold_factor
    return (
        f"shard {instance.shard_ids[shard]} predicted at {peak:.4g}/s at most, {peak / mean_capacity:.3g} of a mean node's "
        f"capacity; {_count(wanted, 'replica')} are enough below {cold:.2f} each"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
