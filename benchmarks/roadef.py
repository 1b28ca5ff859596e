"""Solves an instance of the ROADEF/EURO challenge 2012 (Google's machine reassignment) with the planner's search.

    python -m benchmarks.roadef MODEL INITIAL --out SOLUTION --time-limit 300 --seed 1

Reads plain or .gz files and only translates: process = unit, service = group and conflict class, location = zone,
neighbourhood and dependency = nearness, safety capacity = soft limit. The time limit counts from the start of the process.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from foreshard.placement.assignment import Assignment, Floats, Ints
from foreshard.placement.search import evaluate, improve


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


def _floats(array: Ints) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float64)


def to_assignment(model: Model, initial: Ints) -> Assignment:
    """The instance as the planner's inner problem; costs are multiplied by the weights of their parts."""
    processes, machines = len(model.service), len(model.location)
    process_weight, service_weight, machine_weight = model.weights.tolist()
    return Assignment(
        use=_floats(model.need),
        mean=np.zeros((processes, 0)),
        own_square=np.zeros((processes, 0)),
        common=np.zeros((processes, 0, 0)),
        initial=initial,
        fixed=np.zeros(processes, dtype=bool),
        permit=np.full(processes, -1),
        conflict=model.service,
        group=model.service,
        move_cost=_floats(process_weight * model.process_move_cost),
        min_zones=model.spread,
        near_start=model.depends_start,
        near=model.depends,
        limit=_floats(model.capacity),
        soft=_floats(model.safety),
        ceiling=np.zeros((machines, 0)),
        accepts=np.ones(machines, dtype=bool),
        zone=model.location,
        neighbourhood=model.neighbourhood,
        allowed=np.zeros((0, machines), dtype=bool),
        transient=model.transient.astype(bool),
        soft_cost=_floats(model.load_weight),
        balance_first=model.balance[:, 0],
        balance_second=model.balance[:, 1],
        balance_target=_floats(model.balance[:, 2]),
        balance_cost=_floats(model.balance[:, 3]),
        pair_cost=_floats(machine_weight * model.machine_move_cost),
        group_move_cost=float(service_weight),
        overload_cost=0.0,
        z=0.0,
    )


def solve(assignment: Assignment, seconds: float, seed: int) -> Ints:
    """The machine of each process, shape (P,), after about `seconds`."""
    return improve(assignment, assignment.initial, seed=seed, iterations=None, time_limit=seconds).node


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
    assignment = to_assignment(read_model(asked.model), read_initial(asked.initial))
    # For writing and leaving, on a busy machine.
    margin = 2.0 + 0.01 * asked.time_limit
    node = solve(assignment, max(0.0, asked.time_limit - margin - _age()), asked.seed)
    if asked.out is not None:
        asked.out.write_text(" ".join(map(str, node.tolist())) + "\n")
    else:
        print(json.dumps(evaluate(assignment, node)._asdict()))


if __name__ == "__main__":
    main()
