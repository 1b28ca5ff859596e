"""Whether a layout meets a set of demands, and how much limits would have to grow for one to: exact, by CP-SAT (OR-Tools)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from ortools.sat.python import cp_model

from foreshard.placement.cluster import Cluster
from foreshard.placement.demands import Demand, may_hold, members

# Needs and limits count in this part of the largest limit, rounded so that nothing feasible is called infeasible.
_GRAIN = 1e-7


def satisfiable(cluster: Cluster, demands: Sequence[Demand], work: float = 1.0) -> bool | None:
    """Whether some layout meets all the demands; None if `work`, in CP-SAT's deterministic time, did not settle it.

    The same answer on any machine: one worker, a fixed seed and no clock.
    """
    model = LayoutModel(cluster, demands)
    status = model.solved(work)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return True
    return False if status == cp_model.INFEASIBLE else None


def least_growth(cluster: Cluster, demands: Sequence[Demand], resource: int, work: float = 1.0) -> float | None:
    """By how much the limits of this resource among the demands must grow in all; None if that alone would not do."""
    model = LayoutModel(cluster, demands, grows=resource)
    if model.solved(work) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return float(model.solver.objective_value) * model.grain[resource]


class LayoutModel:
    """Variables: whether each named shard has a full and a hot replica on each node that it may be on."""

    def __init__(self, cluster: Cluster, demands: Sequence[Demand], grows: int = -1) -> None:
        self.cluster, self.grows = cluster, grows
        self.model, self.solver = cp_model.CpModel(), cp_model.CpSolver()
        self.growth: list[cp_model.IntVar] = []
        closed = {d.nodes[0] for d in demands if d.kind == "state"}
        opened = {d.nodes[0] for d in demands if d.kind == "pin"} - closed
        self.full: dict[tuple[int, int], cp_model.IntVar] = {}
        self.hot: dict[tuple[int, int], cp_model.IntVar] = {}
        self.nodes: dict[int, list[int]] = {}
        for s in sorted(_named(cluster, demands)):
            may = set(np.flatnonzero(may_hold(cluster, s)).tolist())
            may |= {n for n in opened if not cluster.nodes.accepts[n] and _permitted(cluster, s, n)}
            self.nodes[s] = sorted(may)
            for n in self.nodes[s]:
                self.full[s, n], self.hot[s, n] = self.model.new_bool_var(""), self.model.new_bool_var("")
                self.model.add_at_most_one(self.full[s, n], self.hot[s, n])
        finite = np.where(np.isfinite(cluster.nodes.limit), cluster.nodes.limit, 0.0)
        largest = np.maximum(finite.max(axis=0, initial=0.0), cluster.shards.need.max(axis=0, initial=0.0))
        self.grain = [max(float(x), 1e-300) * _GRAIN for x in largest]
        self.hot_part = cluster.shards.hot_part()
        for demand in demands:
            getattr(self, f"_{demand.kind}")(demand)
        if self.growth:
            self.model.minimize(sum(self.growth))

    def solved(self, work: float) -> int:
        self.solver.parameters.num_workers = 1
        self.solver.parameters.random_seed = 1
        self.solver.parameters.max_deterministic_time = work
        return int(self.solver.solve(self.model))

    def _on(self, shards: Iterable[int]) -> dict[int, list[cp_model.IntVar]]:
        """All replicas of the shards by node."""
        found: dict[int, list[cp_model.IntVar]] = {}
        for s in shards:
            for n in self.nodes[s]:
                found.setdefault(n, []).extend((self.full[s, n], self.hot[s, n]))
        return found

    def _replicas(self, demand: Demand) -> None:
        for s in demand.shards:
            least = int(self.cluster.shards.least[s])
            full = [self.full[s, n] for n in self.nodes[s]]
            if least:
                self.model.add(sum(full) >= least)
            else:
                self.model.add(sum(full) + sum(self.hot[s, n] for n in self.nodes[s]) >= 1)

    def _pin(self, demand: Demand) -> None:
        place = demand.shards[0], demand.nodes[0]
        on = [held[place] for held in (self.full, self.hot) if place in held]
        self.model.add_bool_or(on)

    def _most(self, demand: Demand) -> None:
        s = demand.shards[0]
        self.model.add(sum(self.full[s, n] + self.hot[s, n] for n in self.nodes[s]) <= int(self.cluster.shards.most[s]))

    def _limit(self, demand: Demand) -> None:
        r = demand.resource
        need, grain = self.cluster.shards.need[:, r], self.grain[r]
        for n in demand.nodes:
            room = math.ceil(float(self.cluster.nodes.limit[n, r]) / grain)
            terms = []
            for s, nodes in self.nodes.items():
                if n in nodes and need[s] > 0:
                    terms.append(self.full[s, n] * math.floor(need[s] / grain * (1 - 1e-9)))
                    terms.append(self.hot[s, n] * math.floor(self.hot_part[s] * need[s] / grain * (1 - 1e-9)))
            extra = 0
            if r == self.grows:
                grown = self.model.new_int_var(0, round(1e12), "")
                self.growth.append(grown)
                extra = grown
            self.model.add(sum(terms) <= room + extra)

    def _distinct(self, demand: Demand) -> None:
        for replicas in self._on(members(self.cluster, demand.group)).values():
            self.model.add_at_most_one(replicas)

    def _zones(self, demand: Demand) -> None:
        by_zone: dict[int, list[cp_model.IntVar]] = {}
        for n, replicas in self._on(members(self.cluster, demand.group)).items():
            by_zone.setdefault(int(self.cluster.nodes.zone[n]), []).extend(replicas)
        used = []
        for replicas in by_zone.values():
            here = self.model.new_bool_var("")
            self.model.add_bool_or([*replicas, here.negated()])
            used.append(here)
        self.model.add(sum(used) >= int(self.cluster.groups.min_zones[demand.group]))

    def _near(self, demand: Demand) -> None:
        place = self.cluster.nodes.neighbourhood
        there: dict[int, list[cp_model.IntVar]] = {}
        for n, replicas in self._on(members(self.cluster, demand.other)).items():
            there.setdefault(int(place[n]), []).extend(replicas)
        for n, replicas in self._on(members(self.cluster, demand.group)).items():
            for replica in replicas:
                self.model.add_bool_or([replica.negated(), *there.get(int(place[n]), [])])

    def _state(self, demand: Demand) -> None:
        """The node stayed closed when the variables were made."""


def _permitted(cluster: Cluster, shard: int, node: int) -> bool:
    permit = int(cluster.shards.permit[shard])
    return permit < 0 or bool(cluster.allowed[permit, node])


def _named(cluster: Cluster, demands: Sequence[Demand]) -> set[int]:
    found: set[int] = set()
    for demand in demands:
        found.update(demand.shards)
        for group in (demand.group, demand.other):
            if group >= 0:
                found.update(members(cluster, group))
    return found
