"""Whether what a plan was made from still holds: the epoch, the nodes, and the forecasts within a bound."""

from __future__ import annotations

from foreshard.errors import ForeshardError
from foreshard.model import Node, NodeState, PlacementProblem
from foreshard.placement import codec
from foreshard.routing.pool import read_nodes, read_pool
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.inputs import newest_forecasts, placement_problem
from foreshard.transition.plan_problem import unpacked
from foreshard.transition.store import PlanRecord


def drift(settings: Settings, url: str, record: PlanRecord) -> str:
    """Why the plan must not be carried out any more, empty if it may.

    What a person approved is a hash: a stored plan whose moves no longer give it was changed since. Forecasts may differ by
    settings.transition.forecast_drift, the sum of the shards' differences over the sum of their loads, at common steps.
    """
    plan = codec.plan_from_document(record.document)
    packed = store.read_problem(url, settings.pool_id, record.plan_id)
    if packed is not None and codec.plan_id_of(plan.input_digest, plan.moves) != record.plan_id:
        return f"its moves are not those that the plan {record.plan_id} was approved with"
    epoch = read_pool(url, settings.pool_id).current_epoch
    if epoch != record.base_epoch:
        return f"it was made from epoch {record.base_epoch}, and {epoch} is current"
    if packed is None:
        return ""
    problem = unpacked(packed, record.plan_id)
    return _of_nodes(problem, read_nodes(url, settings.pool_id)) or _of_forecasts(settings, url, problem)


def _of_nodes(problem: PlacementProblem, nodes: tuple[Node, ...]) -> str:
    before = {n.node_id: n.state for n in problem.nodes}
    now = {n.node_id: n.state for n in nodes}
    for name in sorted(before.keys() | now.keys()):
        is_ready = (before.get(name), now.get(name)) == (NodeState.JOINING, NodeState.ACTIVE)  # as the plan counted on
        if before.get(name) != now.get(name) and not is_ready:
            was, is_now = before.get(name, "not there"), now.get(name, "not there")
            return f"node {name} was {was} when it was made, and is {is_now}"
    return ""


def _of_forecasts(settings: Settings, url: str, problem: PlacementProblem) -> str:
    try:
        newest = newest_forecasts(settings)
    except ForeshardError:
        return ""
    if problem.steps and not set(newest.steps) & set(problem.steps):
        return f"its forecast ends at {problem.steps[-1]:%Y-%m-%d %H:%M} UTC"
    share = _difference(problem, placement_problem(settings, url, newest))
    bound = settings.transition.forecast_drift
    return f"the forecast has changed by {share:.0%} since, more than {bound:.0%}" if share > bound else ""


def _difference(before: PlacementProblem, now: PlacementProblem) -> float:
    """Σ |load now − load then| / Σ load then, over the steps that both have."""
    at_before = {step: i for i, step in enumerate(before.steps)}
    common = [(at_before[step], i) for i, step in enumerate(now.steps) if step in at_before]
    means = {s.shard_id: s.mean for s in now.shards}
    changed = total = 0.0
    for shard in before.shards:
        other = means.get(shard.shard_id)
        for i, j in common:
            total += shard.mean[i]
            changed += abs((other[j] if other else 0.0) - shard.mean[i])
    return changed / total if total else 0.0
