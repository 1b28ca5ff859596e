"""A plan in the making: who holds what, the loads that follow, why each change was made, and what the changes cost."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np

from foreshard.placement.instance import FULL, HOT, NONE, Floats, Instance, Ints, Kinds
from foreshard.placement.load import NodeLoads, loads_of_layout, quantile

# The order in which a plan's moves are carried out.
REPAIR, DRAIN, HOT_SHARD, BALANCE, RETIRE = range(5)


@dataclass(frozen=True)
class Note:
    """Why a shard came to a node, or left it; `origin` is the node it came from, -1 for none."""

    stage: int
    reason: str
    origin: int = -1


@dataclass
class Draft:
    """Changed in place by the stages of the solver; `kind` and `weight` have shape (S, N)."""

    instance: Instance
    kind: Kinds
    weight: Floats
    loads: NodeLoads
    came: dict[tuple[int, int], Note] = field(default_factory=dict)
    left: dict[tuple[int, int], Note] = field(default_factory=dict)
    moves: int = 0
    bytes: int = 0
    blocked: bool = False  # something wanted did not fit the movement budget

    @classmethod
    def of(cls, instance: Instance) -> Draft:
        kind, weight = instance.kind.copy(), instance.weight.copy()
        return cls(instance, kind, weight, loads_of_layout(instance, kind, weight))

    def copied(self) -> Draft:
        twin = copy.copy(self)
        twin.kind, twin.weight, twin.loads = self.kind.copy(), self.weight.copy(), copy.deepcopy(self.loads)
        twin.came, twin.left = dict(self.came), dict(self.left)
        return twin

    def reweigh(self, weight: Floats) -> None:
        """Takes new weights and recomputes every load from scratch, which also sheds rounding left by increments."""
        self.weight = weight
        self.loads = loads_of_layout(self.instance, self.kind, weight)

    def utilisation(self) -> Floats:
        """Load quantile over capacity, shape (N, T)."""
        return quantile(self.loads, self.instance.policy.risk_z) / self.instance.capacity[:, None]

    def live_holders(self, shard: int, kind: int = NONE) -> Ints:
        """Positions of the live nodes that hold the shard, as `kind` or, by default, as anything."""
        held = self.kind[shard] == kind if kind else self.kind[shard] > NONE
        return np.flatnonzero(held & self.instance.live)

    def share(self, shard: int) -> Floats:
        """Each node's share of the shard's load, shape (N,)."""
        weight = np.where(self.instance.live & (self.kind[shard] > NONE), self.weight[shard], 0.0)
        full = np.where(self.kind[shard] == FULL, weight, 0.0)
        recent = float(self.instance.recent[shard])
        share = np.zeros(len(weight))
        if weight.any():
            share += recent * weight / float(np.add.accumulate(weight)[-1])
        if full.any():
            share += (1.0 - recent) * full / float(np.add.accumulate(full)[-1])
        return share

    def place(self, shard: int, kinds: Kinds, weight: Floats | None = None) -> None:
        """Replaces the shard's replicas; weights are in proportion to capacity unless given. Keeps loads and costs in step."""
        self._charge(shard, -1)
        moves, size = cost(self.instance, shard, self.kind[shard])
        self.kind[shard] = kinds
        self.weight[shard] = np.where(kinds > NONE, self.instance.capacity, 0.0) if weight is None else weight
        after = cost(self.instance, shard, kinds)
        self.moves += after[0] - moves
        self.bytes += after[1] - size
        self._charge(shard, 1)

    def fits_budget(self, shard: int, kinds: Kinds) -> bool:
        """Whether the plan stays within the movement budget with these replicas, or at least does not get dearer by them."""
        before, after = cost(self.instance, shard, self.kind[shard]), cost(self.instance, shard, kinds)
        more_moves, more_bytes = after[0] - before[0], after[1] - before[1]
        policy = self.instance.policy
        fits = (more_moves <= 0 or self.moves + more_moves <= policy.max_moves) and (
            more_bytes <= 0 or self.bytes + more_bytes <= policy.max_move_bytes
        )
        self.blocked |= not fits
        return fits

    def relocated(self, shard: int, source: int, target: int, kind: int) -> Kinds:
        """The shard's replicas with one moved; a node that held a full replica in the layout at hand gets it back whole."""
        kinds: Kinds = self.kind[shard].copy()
        kinds[source] = NONE
        kinds[target] = max(kind, int(self.instance.kind[shard, target]))
        return kinds

    def relocate(self, shard: int, source: int, target: int, kinds: Kinds, note: Note) -> None:
        """Moves a replica with its weight. The reason given first for leaving the original node is the one that stays."""
        weight = self.weight[shard].copy()
        weight[target], weight[source] = weight[source], 0.0
        first = self.came.pop((shard, source), None)
        self.place(shard, kinds, weight)
        self.came[shard, target] = first or Note(note.stage, note.reason, source)

    def _charge(self, shard: int, sign: int) -> None:
        share = self.share(shard)
        for node in np.flatnonzero(share):
            part = float(share[node])
            self.loads.mean[node] += sign * part * self.instance.mean[shard]
            self.loads.common[node] += sign * part * self.instance.common[shard]
            self.loads.own_square[node] += sign * part * part * self.instance.own_square[shard]


def cost(instance: Instance, shard: int, kinds: Kinds) -> tuple[int, int]:
    """Moves and bytes from the layout at hand to these replicas of one shard.

    An added replica and one of the same kind that leaves a live node are one move.
    """
    before, size = instance.kind[shard], instance.size[shard]
    moves = int(((before > NONE) & (kinds == NONE) & ~instance.live).sum())
    widened = int(((before == HOT) & (kinds == FULL)).sum())
    moved = widened * max(0, int(size[FULL] - size[HOT]))
    for kind in (HOT, FULL):
        added = int(((before == NONE) & (kinds == kind)).sum())
        removed = int(((before == kind) & (kinds == NONE) & instance.live).sum())
        moves += max(added, removed)
        moved += added * int(size[kind])
    return moves + widened, moved
