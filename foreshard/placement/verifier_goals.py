"""No goal ends worse than it began, nothing moves between nodes that are within their ceilings, and the metrics are true."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from foreshard.model import Balance, Goal, MoveKind
from foreshard.placement.verifier_facts import Facts, Holdings
from foreshard.placement.verifier_loads import Floats, PoolLoads, before_relief, pool_loads
from foreshard.placement.verifier_rules import broken, over_limits

_CLOSE = 1e-6
# Goals after which a node may carry more than before, or soft costs be higher: they come before balance and cost.
_EARLIER = {Goal.REPAIR, Goal.DRAIN, Goal.REPLICATE, Goal.FILL}


def goals_and_metrics(facts: Facts) -> Iterator[str]:
    """Time O(replicas × steps) and as for a state."""
    loads = pool_loads(facts)
    before, after = loads.quantiles(facts.problem.layout), loads.quantiles(facts.plan.layout)
    yield from _old_nodes(facts, loads, before)
    if not _forced(facts):
        yield from _loads_no_worse(facts, loads, before, after)
        yield from _costs_no_worse(facts)
    yield from _metrics(facts)
    if _exact(facts):
        yield from _peaks(facts, loads, before, after)


def _forced(facts: Facts) -> bool:
    """Whether the layout at hand has to change whatever the loads."""
    return (
        any(node not in facts.accepting for _, node in facts.before)
        or bool(facts.plan.isolations)
        or bool(broken(facts, facts.before))
        or bool(over_limits(facts, facts.before, None))
    )


def _exact(facts: Facts) -> bool:
    """Whether loads can be worked out to the last digit: an entity's, and a bundle's recent share, may be split otherwise."""
    entities = any(s.parent is not None for s in facts.shards.values()) or facts.plan.isolations
    return not entities and not any(len(members) > 1 for members in facts.labels.values())


def _old_nodes(facts: Facts, loads: PoolLoads, before: Floats) -> Iterator[str]:
    """A node that joins takes shards from others, and else only nodes above their ceiling take part in a move."""
    above = set()
    # A node that joins and has its share already, or any where there is no load to go by, may give.
    filled = before >= facts.problem.policy.floor_load * loads.fair
    hungry = {node for i, node in enumerate(loads.node_ids) if node in facts.new and not filled[i].any()}
    for quantiles in (before, loads.quantiles(before_relief(facts))):
        over = quantiles > loads.ceiling * (1 - _CLOSE)
        above |= {node for i, node in enumerate(loads.node_ids) if over[i].any()}
    for i, move in enumerate(facts.plan.moves):
        ends = {move.source, move.target}
        if move.kind is not MoveKind.MOVE or move.goal in (Goal.REPAIR, Goal.COST) or not ends <= facts.accepting:
            continue
        what = f"move {i} takes shard {move.shard_id} from {move.source} to {move.target}"
        if move.target in facts.new and move.source in hungry:
            yield f"{what}, which are both new and below their share"
        if move.target not in facts.new and not ends & above:
            yield f"{what}, both within their ceilings"


def _excess(loads: PoolLoads, quantiles: Floats) -> float:
    return float(np.maximum(quantiles - loads.ceiling, 0.0).max(axis=1).sum())


def _peak(loads: PoolLoads, quantiles: Floats) -> float:
    return float((quantiles / loads.capacity[:, None]).max(initial=0.0))


def _imbalance(loads: PoolLoads, quantiles: Floats) -> float:
    """Highest utilisation of an accepting node over that of all of them, less 1, at the worst step."""
    used, capacity = quantiles[loads.accepts], loads.capacity[loads.accepts]
    mean = used.sum(axis=0) / max(capacity.sum(), 1e-300)
    highest = (used / capacity[:, None]).max(axis=0, initial=0.0)
    return float(np.divide(highest, mean, out=np.ones_like(mean), where=mean > 0).max(initial=1.0)) - 1.0


def _loads_no_worse(facts: Facts, loads: PoolLoads, before: Floats, after: Floats) -> Iterator[str]:
    was, now = _excess(loads, before), _excess(loads, after)
    if now > was * (1 + _CLOSE) + _CLOSE * float(loads.capacity.max(initial=0.0)):
        yield f"load above the nodes' ceilings goes from {was:.6g} to {now:.6g}"
    bound = _peak(loads, loads.ceiling)
    if _peak(loads, after) > max(_peak(loads, before), bound) * (1 + _CLOSE) + _CLOSE:
        yield f"the peak goes from {_peak(loads, before):.6g} to {_peak(loads, after):.6g}"
    allowed = max(_imbalance(loads, before), facts.problem.policy.bounded_load - 1)
    yield from _relief(facts, loads, before, after)
    if now >= was * (1 - _CLOSE) and _imbalance(loads, after) > allowed * (1 + _CLOSE) + _CLOSE:
        yield f"the imbalance goes from {_imbalance(loads, before):.6g} to {_imbalance(loads, after):.6g}"


def _relief(facts: Facts, loads: PoolLoads, before: Floats, after: Floats) -> Iterator[str]:
    """Moves that are to relieve nodes have to relieve them, at the worst step or over all steps."""
    goals = {m.goal for m in facts.plan.moves}
    if Goal.BALANCE not in goals or goals & _EARLIER:
        return
    was, now = (np.maximum(quantiles - loads.ceiling, 0.0) for quantiles in (before, after))
    if now.sum() >= was.sum() and now.max(axis=1).sum() >= was.max(axis=1).sum():
        yield f"moves are to relieve nodes, but load above their ceilings stays at {now.max(axis=1).sum():.6g}"


def _costs_no_worse(facts: Facts) -> Iterator[str]:
    """Costs of the layout and of its moves, unless an earlier goal is the reason."""
    if {m.goal for m in facts.plan.moves} & {*_EARLIER, Goal.BALANCE}:
        return
    was, now = layout_cost(facts, facts.before), layout_cost(facts, facts.after) + move_cost(facts)
    if now > was + _CLOSE * (1 + abs(was)):
        yield f"soft costs with those of the moves go from {was:.6g} to {now:.6g}"


def layout_cost(facts: Facts, held: Holdings) -> float:
    """Soft limits and balances of all live nodes under what they hold."""
    used: dict[tuple[str, str], float] = defaultdict(float)
    for (shard, at), day in sorted(held.items(), key=lambda item: item[0]):
        for resource in facts.problem.resources:
            used[at, resource.name] += facts.need(shard, resource.name, day)
    total = 0.0
    for node in facts.problem.nodes:
        if node.node_id not in facts.live:
            continue
        for resource in facts.problem.resources:
            soft = node.limits.get(resource.name, math.inf) * node.targets.get(resource.name, 1.0)
            total += resource.soft_cost * max(0.0, used[node.node_id, resource.name] - soft)
        free = {name: limit - used[node.node_id, name] for name, limit in node.limits.items()}
        total += math.fsum(_balance_cost(balance, free) for balance in facts.problem.balances)
    return total


def _balance_cost(balance: Balance, free: dict[str, float]) -> float:
    if balance.first not in free or balance.second not in free:
        return 0.0
    return balance.cost * max(0.0, balance.target * free[balance.first] - free[balance.second])


def move_cost(facts: Facts) -> float:
    """What the moves cost beside their bytes: per shard, per pair of nodes and per group."""
    at = {node.node_id: i for i, node in enumerate(facts.problem.nodes)}
    total, of_group = 0.0, Counter[str]()
    for move in facts.plan.moves:
        if move.kind is not MoveKind.MOVE:
            continue
        shard = facts.shards.get(move.shard_id)
        if shard is not None:
            total += shard.move_cost
            of_group[shard.group] += shard.group != ""
        if len(facts.problem.pair_cost) and move.source in at and move.target in at:
            total += facts.problem.pair_cost[at[move.source]][at[move.target]]
    return total + facts.problem.policy.group_move_cost * max(of_group.values(), default=0)


def _metrics(facts: Facts) -> Iterator[str]:
    metrics, moves = facts.plan.metrics, facts.plan.moves
    if metrics.moves != len(moves) or metrics.bytes_moved != sum(m.bytes for m in moves):
        yield "the metrics do not count the plan's moves"
    if metrics.waves != len({m.wave for m in moves}):
        yield f"the metrics count {metrics.waves} waves of {len({m.wave for m in moves})}"
    if metrics.peak_lower_bound > metrics.peak_after * (1 + _CLOSE):
        yield f"the peak {metrics.peak_after} is below its lower bound {metrics.peak_lower_bound}"
    if metrics.bytes_lower_bound > metrics.bytes_moved:
        yield f"{metrics.bytes_moved} bytes moved are below their lower bound {metrics.bytes_lower_bound}"
    for what, gap, attained, bound in (
        ("peak", metrics.peak_gap, metrics.peak_after, metrics.peak_lower_bound),
        ("bytes", metrics.bytes_gap, float(metrics.bytes_moved), float(metrics.bytes_lower_bound)),
    ):
        true = attained / bound - 1.0 if bound > 0 else 0.0
        if not abs(gap - true) <= 1e-4 * (1 + abs(true)):
            yield f"the {what} gap is {gap}, from its bound it is {true:.6g}"
    figures = (metrics.peak_before, metrics.peak_after, metrics.imbalance_before, metrics.imbalance_after, metrics.cost)
    if not all(math.isfinite(x) for x in figures) or min(figures[:4]) < 0 or not metrics.ended_by:
        yield "a metric is missing, negative or not finite"


def _peaks(facts: Facts, loads: PoolLoads, before: Floats, after: Floats) -> Iterator[str]:
    """The peaks, and the nodes above their target, as worked out anew."""
    metrics = facts.plan.metrics
    for what, stated, quantiles in (("before", metrics.peak_before, before), ("after", metrics.peak_after, after)):
        true = _peak(loads, quantiles)
        if abs(stated - true) > _CLOSE * (1 + true):
            yield f"the peak {what} is stated as {stated}, it is {true:.9g}"
    policy = facts.problem.policy
    for node, load in zip(facts.problem.nodes, after.max(axis=1, initial=0.0), strict=True):
        meant = node.capacity * node.targets.get("load", policy.target_utilisation)
        named = node.node_id in metrics.overloaded_nodes
        if load > meant * (1 + _CLOSE) + _CLOSE and not named:
            yield f"{node.node_id} is at {load:.6g} of {meant:.6g} and not named as overloaded"
        if load < meant * (1 - _CLOSE) - _CLOSE and named:
            yield f"{node.node_id} is named as overloaded at {load:.6g} of {meant:.6g}"
