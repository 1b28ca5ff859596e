"""Why a shard is not on a node, and what would have to change for it to be possible."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foreshard.model import MoveKind, PlacementProblem, Plan
from foreshard.placement.explanation.obstacles import Obstacle, Try, obstacles
from foreshard.placement.explanation.remedy import Remedy, remedied
from foreshard.placement.explanation.scene import Scene, scene
from foreshard.placement.explanation.standing import Standing
from foreshard.placement.explanation.why import why_of
from foreshard.placement.explanation.wording import figure, listed, number, ordinal, rounded_down, size


@dataclass(frozen=True, slots=True)
class WhyNot:
    """`source`: the node whose replica could go there with least in the way; empty for one replica more. `str()` is the answer.

    `obstacles` is empty where nothing forbids it; all their remedies together lift them. `needed_if` says when the plan would
    have a reason to move it: the change that puts `source` above its bound.
    """

    shard_id: int
    node_id: str
    holds: bool
    source: str
    rank: int  # of the node in the shard's ranking, from 1; 0 if it takes no shards
    bytes: int
    obstacles: tuple[Obstacle, ...]
    needed_if: Remedy | None
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def why_not(problem: PlacementProblem, plan: Plan, shard_id: int, node_id: str) -> str:
    """One paragraph; raises ForeshardError if there is no such shard or node."""
    return str(why_not_of(scene(problem, plan), shard_id, node_id))


def why_not_of(shown: Scene, shard_id: int, node_id: str) -> WhyNot:
    after = shown.whole
    row, target = shown.whole_row(shard_id), after.node(node_id)
    ranking = after.ranked(row).tolist()
    rank = ranking.index(target) + 1 if target in ranking else 0
    places = after.places(row)
    if _is_on(shown.after, shown.after.row(shard_id), target):
        reason = next(r.reason for r in why_of(shown, shard_id).replicas if r.node_id == node_id)
        sentence = f"Shard {shard_id} is on {node_id} after the plan: {reason}."
        return WhyNot(shard_id, node_id, True, node_id, rank, 0, (), None, sentence)
    if _is_on(after, row, target):
        sentence = f"Shard {shard_id} is not on {node_id} yet: the shards that it is to share its nodes with are"
        return WhyNot(shard_id, node_id, False, "", rank, 0, (), None, f"{sentence}; room or budget did not reach for it.")
    # One replica more only where too few are there; else the question is which of them would go.
    lacking = not places or len(places) < after.cluster.shards.least[row]
    tries = [Try(after, row, k, target) for k in ([-1] if lacking else places)]
    found = [(tried, obstacles(tried)) for tried in tries]
    tried, binding = min(found, key=lambda pair: _hindered(pair[0], pair[1]))
    if not after.cluster.nodes.accepts[target]:
        binding += _even_then(shown, shard_id, tried)
    binding = [_for_members(shown, shard_id, o) for o in (*binding, *_budget(shown, shard_id, tried))]
    source = after.cluster.nodes.ids[tried.source] if tried.source >= 0 else ""
    needed_if = None if binding or tried.source < 0 else _needed_if(tried)
    head = f"Shard {shard_id} is not on {node_id}" + (f" (its {ordinal(rank)} choice of {len(ranking)})" if rank else "")
    rest = _hindrance(tried, source, binding) if binding else _free(shown, tried, source, needed_if)
    return WhyNot(shard_id, node_id, False, source, rank, tried.bytes, tuple(binding), needed_if, f"{head}: {rest}")


def _is_on(standing: Standing, row: int, node: int) -> bool:
    return any(int(standing.held.node[row, k]) == node for k in standing.places(row))


def _hindered(tried: Try, binding: list[Obstacle]) -> tuple[int, float, int]:
    """Fewest obstacles first; then what relieves the fullest node."""
    return len(binding), -_fullest(tried)[0], tried.place


def _fullest(tried: Try) -> tuple[float, int]:
    """The source's highest load over its ceiling and the step of it."""
    if tried.source < 0:
        return 0.0, 0
    load, limit = tried.standing.load[tried.source], tried.standing.ceiling[tried.source]
    ratio = np.where(load > 0, np.divide(load, limit, out=np.full_like(load, np.inf), where=limit > 0), 0.0)
    step = int(ratio.argmax())
    return float(ratio[step]), step


def _even_then(shown: Scene, shard_id: int, tried: Try) -> list[Obstacle]:
    """What would still stand against it if the node took shards."""
    if tried.node not in {n.node_id for n in shown.problem.nodes}:
        return []
    active = scene(remedied(shown.problem, Remedy("state", tried.node, 0.0)), shown.plan)
    row, source = active.whole_row(shard_id), tried.source
    place = next((k for k in active.whole.places(row) if int(active.whole.held.node[row, k]) == source), -1)
    return obstacles(Try(active.whole, row, place, tried.target))


def _budget(shown: Scene, shard_id: int, tried: Try) -> list[Obstacle]:
    """What is left of the movement budget; a replica that the plan copies anyway could be copied there instead."""
    policy, moves = shown.problem.policy, shown.plan.moves
    source = tried.standing.cluster.nodes.ids[tried.source] if tried.source >= 0 else ""
    copied = [m for m in moves if m.kind is not MoveKind.DROP and m.shard_id == shard_id and m.target == source and source]
    if copied:
        return []
    found = []
    count, copied_bytes = len(moves) + len(shown.members(shard_id)), sum(m.bytes for m in moves) + tried.bytes
    if count > policy.max_moves:
        remedy = Remedy("max_moves", "", count, sentence=f"the movement budget were {number(count, 'move')}")
        found.append(
            Obstacle("budget", f"the plan has {number(len(moves), 'move')} of at most {policy.max_moves:,}", (remedy,))
        )
    if copied_bytes > policy.max_move_bytes:
        remedy = Remedy("max_move_bytes", "", copied_bytes, sentence=f"the movement budget were {copied_bytes:,} bytes")
        said = f"the plan moves {size(copied_bytes - tried.bytes)} of at most {size(policy.max_move_bytes)}, and the shard has "
        found.append(Obstacle("budget", said + size(tried.bytes), (remedy,)))
    return found


def _for_members(shown: Scene, shard_id: int, obstacle: Obstacle) -> Obstacle:
    """A change of a shard is one of all shards that share its nodes."""
    wide = [
        replace(r, subject=str(member)) if r.field in ("avoids", "pins", "max_replicas") else r
        for r in obstacle.remedies
        for member in (shown.members(shard_id) if r.field in ("avoids", "pins", "max_replicas") else [0])
    ]
    return replace(obstacle, remedies=tuple(wide))


def _hindrance(tried: Try, source: str, binding: list[Obstacle]) -> str:
    said = "; and ".join(o.sentence for o in binding)
    conditions = list(dict.fromkeys(r.sentence for o in binding for r in o.remedies))
    what = f"Its replica on {source} could move there" if source else "One more replica could be made there"
    if not conditions:
        return f"{said}."
    gain = _gain(tried, source)
    return f"{said}. {what} if {listed(conditions, len(conditions))}{gain}."


def _gain(tried: Try, source: str) -> str:
    if not source:
        return ""
    ratio, step = _fullest(tried)
    if ratio <= 1.0 + 1e-9:
        return f"; nothing asks for that, as {source} is within its bound, and it would copy {size(tried.bytes)}"
    moved = float(tried.share * tried.standing.cluster.shards.mean[tried.row, step])
    return f"; it would copy {size(tried.bytes)} and take {figure(moved)}/s off {source}, which is above its bound"


def _free(shown: Scene, tried: Try, source: str, needed_if: Remedy | None) -> str:
    standing = tried.standing
    if not source:
        return f"nothing forbids it, and it has too few replicas; the search ended by {shown.plan.metrics.ended_by}."
    ratio, step = _fullest(tried)
    capacity, at = float(standing.cluster.nodes.capacity[tried.source]), standing.cluster.step_label(step)
    load, limit = standing.load[tried.source, step] / capacity, standing.ceiling[tried.source, step] / capacity
    peak = f"{source} is predicted at {load:.2f} of capacity at {at}, bound {limit:.2f}"
    if ratio > 1.0 + 1e-9:
        moved = float(tried.share * standing.cluster.shards.mean[tried.row, step])
        ended = shown.plan.metrics.ended_by
        return (
            f"nothing forbids it, and it would take {figure(moved)}/s off {source}, which stays above its bound ({peak}); "
            f"it would copy {size(tried.bytes)}. The search ended by {ended} without it."
        )
    cause = f" {source} needs relief if {needed_if.sentence}." if needed_if else ""
    return (
        f"nothing forbids it, but it would not lower any load above a bound ({peak}) and would copy {size(tried.bytes)}.{cause}"
    )


def _needed_if(tried: Try) -> Remedy | None:
    """How far bounded_load must fall for the source to be above its ceiling; None if it must fall below 1 or has no load."""
    standing, source = tried.standing, tried.source
    load, fair = standing.load[source], standing.fair[source]
    ratio = np.divide(load, fair, out=np.zeros_like(load), where=fair > 0)
    bound = rounded_down(float(ratio.max(initial=0.0)) * (1.0 - 1e-6), 4)
    if not 1.0 <= bound < standing.cluster.policy.bounded_load or _fullest(tried)[0] > 1.0:
        return None
    return Remedy(
        "bounded_load", "", bound, sentence=f"bounded_load falls from {standing.cluster.policy.bounded_load:.4g} to {bound:.4g}"
    )
