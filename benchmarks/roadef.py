"""Solves an instance of the ROADEF/EURO challenge 2012 (Google's machine reassignment) with the planner's search.

    python -m benchmarks.roadef MODEL INITIAL --out SOLUTION --time-limit 300 --seed 1

Reads plain or .gz files and only translates into a placement problem: process = shard of one replica, service = group on
distinct nodes, spread = its zones, location = zone, dependency = near, safety capacity = target of a resource. The time limit
counts from the start of the process; without `--out` the machines are printed.
"""

from __future__ import annotations

import argparse
import gzip
import time
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from foreshard.model import Balance, Layout, Node, PlacementProblem, Policy, Replica, Resource, ShardGroup, ShardLoad
from foreshard.placement.building import build
from foreshard.placement.cluster import Ints
from foreshard.placement.solver import solve_cluster


class Model(NamedTuple):
    """An instance as its file states it: R resources, M machines, S services, P processes, B balances."""

    transient: Ints  # (R,)
    load_weight: Ints  # (R,)
    neighbourhood: Ints  # (M,)
    location: Ints  # (M,)
    capacity: Ints  # (M, R)
    safety: Ints  # (M, R)
    machine_move_cost: Ints  # (M, M)
    spread: Ints  # (S,)
    depends_start: Ints  # (S + 1,)
    depends: Ints
    service: Ints  # (P,)
    need: Ints  # (P, R)
    process_move_cost: Ints  # (P,)
    balance: Ints  # (B, 4): first, second, target, weight
    weights: Ints  # (3,): process move, service move, machine move


class _Numbers:
    """The numbers of a file, taken in order."""

    def __init__(self, path: Path) -> None:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            self.all: Ints = np.fromstring(file.read(), dtype=np.int64, sep=" ")
        self.at = 0

    def take(self, *shape: int) -> Ints:
        size = int(np.prod(shape))
        self.at += size
        return self.all[self.at - size : self.at].reshape(shape)

    def one(self) -> int:
        return int(self.take(1)[0])


def read_initial(path: Path) -> Ints:
    """The machine of each process, shape (P,)."""
    return _Numbers(path).all


def read_model(path: Path) -> Model:
    """Reads a model file, in time linear in its size (machines² numbers)."""
    file = _Numbers(path)
    resources = file.one()
    transient, load_weight = file.take(resources, 2).T
    machines = file.one()
    machine = file.take(machines, 2 + 2 * resources + machines)
    services = [_service(file) for _ in range(file.one())]
    process = file.take(file.one(), resources + 2)
    balance = [np.append(file.take(3), file.one()) for _ in range(file.one())]
    return Model(
        transient=transient,
        load_weight=load_weight,
        neighbourhood=machine[:, 0],
        location=machine[:, 1],
        capacity=machine[:, 2 : 2 + resources],
        safety=machine[:, 2 + resources : 2 + 2 * resources],
        machine_move_cost=machine[:, 2 + 2 * resources :],
        spread=np.array([spread for spread, _ in services], dtype=np.int64),
        depends_start=np.cumsum([0] + [len(depends) for _, depends in services]),
        depends=np.concatenate([depends for _, depends in services]),
        service=process[:, 0],
        need=process[:, 1:-1],
        process_move_cost=process[:, -1],
        balance=np.array(balance, dtype=np.int64).reshape(-1, 4),
        weights=file.take(3),
    )


def _service(file: _Numbers) -> tuple[int, Ints]:
    spread = file.one()
    return spread, file.take(file.one())


def to_problem(model: Model, initial: Ints) -> PlacementProblem:
    """The instance as a placement problem; costs are multiplied by the weights of their parts."""
    process_weight, service_weight, machine_weight = model.weights.tolist()
    names = [f"r{i:02d}" for i in range(len(model.transient))]
    machines = [f"m{i:06d}" for i in range(len(model.location))]
    services = [f"s{i:06d}" for i in range(len(model.spread))]
    target = np.divide(model.safety, model.capacity, out=np.ones(model.safety.shape), where=model.capacity > 0)
    nodes = tuple(
        Node(name, 1.0, zone=f"l{zone}", neighbourhood=f"h{near}", limits=_named(names, limit), targets=_named(names, share))
        for name, zone, near, limit, share in zip(
            machines, model.location, model.neighbourhood, model.capacity.tolist(), target.tolist(), strict=True
        )
    )
    costs = (process_weight * model.process_move_cost).tolist()
    shards = tuple(
        ShardLoad(i, (), (), needs=_named(names, need), group=services[service], move_cost=float(cost))
        for i, (need, service, cost) in enumerate(zip(model.need.tolist(), model.service.tolist(), costs, strict=True))
    )
    near = np.split(model.depends, model.depends_start[1:-1])
    return PlacementProblem(
        pool_id="roadef",
        layout=Layout(0, tuple(Replica(i, machines[m]) for i, m in enumerate(initial.tolist()))),
        nodes=nodes,
        shards=shards,
        policy=Policy(
            min_full_replicas=1, max_replicas=1, max_moves=len(shards), gigabyte_cost=0.0, group_move_cost=float(service_weight)
        ),
        steps=(),
        covers_from=date(2012, 1, 1),
        groups=tuple(
            ShardGroup(name, True, int(zones), tuple(services[other] for other in others))
            for name, zones, others in zip(services, model.spread, near, strict=True)
        ),
        resources=tuple(
            Resource(name, bool(transient), float(weight))
            for name, transient, weight in zip(names, model.transient, model.load_weight, strict=True)
        ),
        balances=tuple(
            Balance(names[first], names[second], float(aim), float(weight))
            for first, second, aim, weight in model.balance.tolist()
        ),
        pair_cost=machine_weight * model.machine_move_cost,  # type: ignore[arg-type]  # an array serves as rows of rows
    )


def _named(names: list[str], values: list[float]) -> dict[str, float]:
    return dict(zip(names, map(float, values), strict=True))


def solve(problem: PlacementProblem, deadline: float, seed: int) -> Ints:
    """The machine of each process, shape (P,), after a search that the clock paces until `deadline` (seconds of age)."""
    cluster = build(problem)
    # The moves are named and ordered after the search.
    afterwards = 1.0 + 2e-4 * len(problem.shards)
    seconds = max(0.0, deadline - afterwards - _age())
    found = solve_cluster(cluster, seed=seed, iterations=None, time_limit=seconds)
    return found.held.node[:, 0].astype(np.int64)


def _age() -> float:
    """Seconds since this process started, imports included."""
    return time.time() - float(psutil.Process().create_time())


def main() -> None:
    """Reads, solves and writes within the time limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("initial", type=Path)
    parser.add_argument(
        "--out", type=Path, help="where to write the machine of each process; without it the figures are printed"
    )
    parser.add_argument("--time-limit", type=float, default=300.0, help="seconds from the start of the process")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    problem = to_problem(read_model(asked.model), read_initial(asked.initial))
    # For writing and leaving, on a busy machine.
    margin = 2.0 + 0.01 * asked.time_limit
    node = solve(problem, asked.time_limit - margin, asked.seed)
    text = " ".join(map(str, node.tolist())) + "\n"
    if asked.out is not None:
        asked.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
