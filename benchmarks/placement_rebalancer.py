"""Meta's rebalancer on one problem: the least load moved under a cap. Runs in an environment of its own, with nothing of ours.

Reads {"loads", "holders", "nodes", "cap", "seconds", "moves"} as JSON, writes {"holders", "seconds", "cpu_seconds"}. The cap is
a CapacitySpec constraint, which its default policy turns into a goal of the first rank where it's broken at first; below it
stands MinimizeMovementSpec, without normalising, as its documentation recommends. The search is the local one, its default.
"""

from __future__ import annotations

import json
import sys
import time

from rebalancer import ProblemSolver
from rebalancer.specs import (
    CapacitySpec,
    ConstraintSpec,
    GoalSpec,
    LocalSearchSolverSpec,
    MinimizeMovementSpec,
    MoveTypeSpec,
    SingleMoveTypeSpec,
    SolverSpec,
    SwapMoveTypeSpec,
)


def solve(problem: dict) -> list[int]:
    """The node of each shard."""
    content: dict[str, list[str]] = {str(node): [] for node in range(problem["nodes"])}
    for shard, node in enumerate(problem["holders"]):
        content[str(node)].append(str(shard))
    kinds = [MoveTypeSpec(singleMoveTypeSpec=SingleMoveTypeSpec())]
    if problem["moves"] == "single and swap":
        kinds.append(MoveTypeSpec(swapMoveTypeSpec=SwapMoveTypeSpec()))
    cap = CapacitySpec(name="cap", scope="node", dimension="load")
    still = MinimizeMovementSpec(name="still", scope="node", dimension="load", doNotNormalize=True)
    search = LocalSearchSolverSpec(moveTypeList=kinds, solveTime=problem["seconds"], randomSeed=1)
    solver = ProblemSolver(service_name="rebalancer", service_scope="benchmark")
    solver.set_object_name("shard").set_container_name("node").set_assignment(content)
    solver.add_object_dimension("load", {str(shard): load for shard, load in enumerate(problem["loads"])})
    solver.add_container_dimension("load", {}, default_value=problem["cap"])
    solver.add_constraint(ConstraintSpec(capacitySpec=cap))
    solver.add_goal(GoalSpec(minimizeMovementSpec=still))
    solver.add_solver(SolverSpec(localSearchSolverSpec=search))
    solver.disable_solution_summary()
    solver.disable_scuba_logging()
    solver.set_log_level("ERR")
    assignment = solver.solve()["assignment"]
    return [int(assignment[str(shard)]) for shard in range(len(problem["loads"]))]


def main() -> None:
    problem = json.load(sys.stdin)
    began, cpu = time.perf_counter(), time.process_time()
    holders = solve(problem)
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps({"holders": holders, **spent}))


if __name__ == "__main__":
    main()
