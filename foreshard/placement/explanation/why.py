"""Why a shard is where it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from foreshard.model import PlacementProblem, Plan
from foreshard.placement.cluster import FULL
from foreshard.placement.explanation.deviations import why_not_preferred
from foreshard.placement.explanation.scene import Scene, scene
from foreshard.placement.explanation.standing import Standing
from foreshard.placement.explanation.wording import figure, listed, moment, number, ordinal, percent, size


@dataclass(frozen=True, slots=True)
class ReplicaReason:
    """One replica after the plan. `rank`: the node's place in the shard's ranking, from 1; 0 if it takes no shards."""

    node_id: str
    covers_from: date | None
    weight: float
    load: float  # of the shard's, on this node, at the shard's peak
    rank: int
    reason: str


@dataclass(frozen=True, slots=True)
class MoveReason:
    position: int  # in the plan, from 1
    kind: str
    source: str
    target: str
    bytes: int
    goal: str
    gain: float
    wave: int
    start_by: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Why:
    """`str()` renders it as plain text."""

    shard_id: int
    together: tuple[int, ...]  # shards that share its nodes
    peak: float
    peak_at: str
    bytes: int
    replicas: tuple[ReplicaReason, ...]
    moves: tuple[MoveReason, ...]
    stays: str  # why no move touches it; empty if one does

    def __str__(self) -> str:
        at = f" at {self.peak_at}" if self.peak_at != "any time" else ""
        many = number(len(self.replicas), "replica")
        lines = [f"Shard {self.shard_id}: predicted at {figure(self.peak)}/s{at}, {size(self.bytes)}; {many} after the plan."]
        if self.together:
            lines.append(f"It shares its nodes with {_shards(self.together)}.")
        for r in self.replicas:
            cover = f"from {r.covers_from}" if r.covers_from else "full"
            lines.append(f"  {r.node_id}: {cover}, weight {r.weight:.3g}, {figure(r.load)}/s of it; {r.reason}")
        for m in self.moves:
            way = " -> ".join(end for end in (m.source, m.target) if end)
            start = f", to begin by {moment(m.start_by)}" if m.start_by else ""
            lines.append(f"Move {m.position} ({m.goal}, wave {m.wave + 1}{start}): {m.kind} {way}, {size(m.bytes)}: {m.reason}")
        return "\n".join([*lines, *([self.stays] if self.stays else [])])


def why(problem: PlacementProblem, plan: Plan, shard_id: int) -> str:
    """Where a shard's replicas are after the plan and why there; raises ForeshardError if there is no such shard."""
    return str(why_of(scene(problem, plan), shard_id))


def why_of(shown: Scene, shard_id: int) -> Why:
    after = shown.after
    row, whole_row = after.row(shard_id), shown.whole_row(shard_id)
    step = int(after.alone[row].argmax())
    weight = {r.node_id: (r.weight, r.covers_from) for r in shown.plan.layout.of_shard(shard_id)}
    ranking = shown.whole.ranked(whole_row).tolist()
    replicas = []
    for place in after.places(row):
        node = int(after.held.node[row, place])
        name = after.cluster.nodes.ids[node]
        own_weight, covers_from = weight.get(name, (float(after.held.weight[row, place]), None))
        load = float(after.share[row, place] * after.cluster.shards.mean[row, step])
        rank = ranking.index(node) + 1 if node in ranking else 0
        replicas.append(
            ReplicaReason(name, covers_from, own_weight, load, rank, _reason(shown.whole, whole_row, node, ranking))
        )
    moves = tuple(
        MoveReason(i, m.kind.value, m.source, m.target, m.bytes, m.goal.value, m.gain, m.wave, m.start_by, m.reason)
        for i, m in shown.moves_of(shard_id)
    )
    return Why(
        shard_id=shard_id,
        together=tuple(s for s in shown.members(shard_id) if s != shard_id),
        peak=float(after.alone[row, step]),
        peak_at=after.cluster.step_label(step),
        bytes=int(after.cluster.shards.size[row, FULL]),
        replicas=tuple(sorted(replicas, key=lambda r: (r.rank == 0, r.rank, r.node_id))),
        moves=moves,
        stays="" if moves else _stays(after, row),
    )


def _reason(standing: Standing, row: int, node: int, ranking: list[int]) -> str:
    """Preferred by the ranking, or what keeps it off the best node that does not hold it."""
    shards, nodes = standing.cluster.shards, standing.cluster.nodes
    place = next((k for k in standing.places(row) if int(standing.held.node[row, k]) == node), -1)
    if node in shards.pins[shards.pin_start[row] : shards.pin_start[row + 1]]:
        return "it is pinned here"
    if node not in ranking:
        return "the node is draining, and the plan does not reach to empty it"
    if place < 0:
        return "not yet with the shards that it is to share its nodes with"
    rank = ranking.index(node) + 1
    said = f"{ordinal(rank)} of {len(ranking)} in its ranking"
    holders = {int(standing.held.node[row, k]) for k in standing.places(row)}
    if rank <= len(holders):
        return f"{said}: preferred by the hash"
    better = next(n for n in ranking if n not in holders)
    cause = why_not_preferred(standing, row, place, better)
    return f"{said}, not {nodes.ids[better]} ({ordinal(ranking.index(better) + 1)}): {cause}"


def _stays(standing: Standing, row: int) -> str:
    """Why none of its replicas moves: what its nodes carry beside their bounds."""
    held = [int(standing.held.node[row, k]) for k in standing.places(row)]
    parts = []
    for node in held:
        ratio = _of_bound(standing, node)
        step = int(ratio.argmax())
        capacity = float(standing.cluster.nodes.capacity[node])
        used, bound = standing.load[node, step] / capacity, standing.ceiling[node, step] / capacity
        at = f"{standing.cluster.nodes.ids[node]} at {used:.2f} of capacity, bound {bound:.2f}"
        parts.append(f"{at}, {percent(ratio[step] - 1.0)} above it" if ratio[step] > 1.0 + 1e-9 else at)
    if not parts:
        return "No replica of it is on a live node, and the plan makes none."
    above = any((_of_bound(standing, n) > 1.0 + 1e-9).any() for n in held)
    why_so = "other shards relieve its nodes for fewer bytes, or nothing can" if above else "its nodes stay within their bounds"
    return f"No move touches it: {why_so} ({'; '.join(parts)})."


def _of_bound(standing: Standing, node: int) -> np.ndarray:
    """Load over ceiling, shape (T,); 0 where there is no load."""
    load, limit = standing.load[node], standing.ceiling[node]
    ratio = np.divide(load, limit, out=np.full_like(load, np.inf), where=limit > 0)
    return np.where(load > 0, ratio, 0.0)


def _shards(ids: tuple[int, ...]) -> str:
    return f"{'shard' if len(ids) == 1 else 'shards'} {listed([str(i) for i in ids])}"
