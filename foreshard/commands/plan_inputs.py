"""A plan and the problem that it was made from: stored, as things are now, or from files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshard import settings as configuration
from foreshard.errors import ForeshardError
from foreshard.model import PlacementProblem, Plan
from foreshard.settings import Settings


@dataclass(frozen=True)
class Shown:
    """`source`: stored (kept beside the plan), file, current (the inputs as they are now), or none. `note` says so."""

    plan: Plan
    problem: PlacementProblem | None
    state: str  # of a stored plan; empty for one from a file
    source: str
    note: str

    def needed(self) -> PlacementProblem:
        """The problem; raises ForeshardError if there is none."""
        if self.problem is None:
            raise ForeshardError(f"plan {self.plan.plan_id}: {self.note or 'its problem is not known; give it with --problem'}")
        return self.problem


def shown(settings: Path | None, plan_id: str, problem: Path | None, plan: Path | None) -> Shown:
    """From files if they are given, else the plan of that id, or the newest, from Postgres."""
    if plan is not None:
        return _from_files(problem, plan)
    if problem is not None:
        raise ForeshardError("--problem needs --plan, the plan that was made from it; `foreshard plan solve` makes one")
    return _stored(configuration.load(settings), plan_id)


def read_problem(path: Path) -> PlacementProblem:
    """Raises ForeshardError naming the file, or the JSON path of what is wrong in it."""
    from foreshard.placement import codec

    return codec.problem_from_document(_json(path, "problem"))


def read_plan(path: Path) -> Plan:
    """Raises ForeshardError naming the file, or the JSON path of what is wrong in it."""
    from foreshard.placement import codec

    return codec.plan_from_document(_json(path, "plan"))


def _json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ForeshardError(f"cannot read the {what} {path}: {error}") from None


def _from_files(problem_file: Path | None, plan_file: Path) -> Shown:
    from foreshard.placement import codec

    plan = read_plan(plan_file)
    if problem_file is None:
        return Shown(
            plan, None, "", "none", "give the problem that it was made from with --problem to see nodes and deviations"
        )
    problem = read_problem(problem_file)
    if codec.input_digest(problem) != plan.input_digest:
        raise ForeshardError(
            f"plan {plan.plan_id} in {plan_file} was not made from the problem in {problem_file}: their digests differ"
        )
    return Shown(plan, problem, "", "file", "")


def _stored(settings: Settings, plan_id: str) -> Shown:
    from foreshard.local.postgres import resolve_url
    from foreshard.placement import codec
    from foreshard.transition import plan_problem, store

    url = resolve_url(settings)
    record = store.read_plan(url, settings.pool_id, plan_id) if plan_id else store.latest_plan(url, settings.pool_id)
    if record is None:
        raise ForeshardError(f"pool {settings.pool_id} has no plan yet; the reshard DAG makes one after each forecast")
    plan = codec.plan_from_document(record.document)
    kept = store.read_problem(url, settings.pool_id, record.plan_id)
    if kept is not None:
        return Shown(plan, plan_problem.unpacked(kept, record.plan_id), record.state, "stored", "")
    problem, note = _now(settings, url)
    return Shown(plan, problem, record.state, "current" if problem else "none", note)


def _now(settings: Settings, url: str) -> tuple[PlacementProblem | None, str]:
    """The inputs as they are now, for a plan whose own were not kept."""
    from foreshard.transition.inputs import newest_forecasts, placement_problem

    try:
        problem = placement_problem(settings, url, newest_forecasts(settings))
    except ForeshardError as error:
        return None, f"the problem that it was made from is not kept, and there is none now: {error}"
    note = "the problem that it was made from is not kept; loads and layout 'before' are those of now"
    return problem, note


def current_layout(settings: Path | None) -> tuple[str, Any]:
    """The name of the current epoch and its layout; raises ForeshardError if nothing is published."""
    from foreshard.local.postgres import resolve_url
    from foreshard.routing import store

    chosen = configuration.load(settings)
    snapshot = store.current(resolve_url(chosen), chosen.pool_id)
    if snapshot is None:
        raise ForeshardError(f"pool {chosen.pool_id} has no published epoch; run `foreshard init`")
    return f"epoch {snapshot.epoch}", snapshot.layout
